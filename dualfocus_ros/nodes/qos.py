# SPDX-License-Identifier: Apache-2.0
"""Quality of service by REP 2003: publish reliable, subscribe as offered, let the user override.

A best-effort subscription loses nine of ten 0.9 MB images over default Fast DDS, and a reliable
one never matches a camera that offers best effort. So subscriptions do as the bag recorder does:
reliable where every publisher offers it, else best effort, and they follow when that changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

from dualfocus_ros.focal_stack import MAX_PLANES
from dualfocus_ros.topics import COMPRESSED_IMAGE, FOCAL_STACK, IMAGE

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

AS_OFFERED = 'as_offered'
# Queue depths. A whole stack of images may come at once, from a bag or a camera that stores a
# burst; the executor is never busy for long.
IMAGE_QUEUE = MAX_PLANES
SMALL_MESSAGE_QUEUE = 50
OUTPUT_QUEUE = 2
DIAGNOSTICS_QUEUE = 10
_INPUT_QUEUES = {IMAGE: IMAGE_QUEUE, COMPRESSED_IMAGE: IMAGE_QUEUE, FOCAL_STACK.message_type: 1}
_RELIABILITY = {
    'reliable': ReliabilityPolicy.RELIABLE,
    'best_effort': ReliabilityPolicy.BEST_EFFORT,
    'system_default': ReliabilityPolicy.SYSTEM_DEFAULT,
}


def input_queue(message_type: str) -> int:
    """Return the queue depth of the subscriptions of the depth node to a message type."""
    return _INPUT_QUEUES.get(message_type, SMALL_MESSAGE_QUEUE)


def reliable_qos(depth: int) -> QoSProfile:
    """Return what our publishers offer: reliable, volatile, the last ``depth`` messages."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE,
    )


def qos_override_options() -> QoSOverridingOptions:
    """Return options by which users override history, depth and reliability by parameters."""
    return QoSOverridingOptions.with_default_policies()


def format_qos(qos: QoSProfile) -> str:
    """Return reliability, history and depth for a log."""
    history = 'keep all' if qos.history == HistoryPolicy.KEEP_ALL else f'keep last {qos.depth}'
    return f'{qos.reliability.name.lower().replace("_", " ")}, {history}'


def type_name(kind: Any) -> str:
    """Return the name of a message class, such as ``sensor_msgs/msg/Image``."""
    return f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'


def create_publisher(
    create: Callable[..., Publisher],
    msg_type: Any,
    topic: str,
    depth: int,
    on_incompatible: Callable[[str], None] | None,
) -> Publisher:
    """Create a reliable publisher that users may override.

    :param create: ``node.create_publisher`` or ``node.create_lifecycle_publisher``.
    :param on_incompatible: told in words when a subscription cannot match; None where
        ``incompatible_endpoints`` is asked instead. The executor looks at every event in every round, so that
        a dozen of them cost an idle node a third of its time.
    """

    def report(event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        if on_incompatible is not None:
            on_incompatible(f'{topic}: a subscription asks for another {policy} than we offer')

    return create(
        msg_type,
        topic,
        reliable_qos(depth),
        qos_overriding_options=qos_override_options(),
        event_callbacks=PublisherEventCallbacks(
            incompatible_qos=None if on_incompatible is None else report,
            use_default_callbacks=False,
        ),
    )


def incompatible_policies(offered: QoSProfile, asked: QoSProfile) -> list[str]:
    """Return in words which policies keep a publisher and a subscription apart."""
    found = []
    best_effort, as_reliable = ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE
    if (offered.reliability, asked.reliability) == (best_effort, as_reliable):
        found.append('RELIABILITY best effort, asked for reliable')
    volatile, kept = DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL
    if (offered.durability, asked.durability) == (volatile, kept):
        found.append('DURABILITY volatile, asked for transient local')
    # A duration of zero means that there is none.
    deadline = asked.deadline.nanoseconds
    if deadline and not 0 < offered.deadline.nanoseconds <= deadline:
        found.append('DEADLINE longer than asked for')
    lease = asked.liveliness_lease_duration.nanoseconds
    if (offered.liveliness, asked.liveliness) == (
        LivelinessPolicy.AUTOMATIC,
        LivelinessPolicy.MANUAL_BY_TOPIC,
    ) or (lease and not 0 < offered.liveliness_lease_duration.nanoseconds <= lease):
        found.append('LIVELINESS weaker than asked for')
    return found


def incompatible_endpoints(node: Node, publisher: Publisher) -> list[str]:
    """Return in words which subscriptions of a publisher's topic can never match it, and why.

    Cheap as long as all match.
    """
    topic = publisher.topic_name
    if node.count_subscribers(topic) <= publisher.get_subscription_count():
        return []
    found = []
    for info in node.get_subscriptions_info_by_topic(topic):
        policies = incompatible_policies(publisher.qos_profile, info.qos_profile)
        if policies:
            who = f'{info.node_namespace.rstrip("/")}/{info.node_name}'
            found.append(f'{topic}: we offer {who} {"; ".join(policies)}')
    return found


class AdaptiveQosSubscription:
    """A subscription that is reliable as long as every publisher is.

    The parameter ``qos_overrides.<topic>.subscription.reliability`` fixes it instead.

    :param depth: how many messages may wait for the executor.
    """

    def __init__(
        self,
        node: Node,
        msg_type: Any,
        topic: str,
        callback: Callable[[Any], None],
        depth: int,
        group: CallbackGroup | None = None,
    ) -> None:
        self._node = node
        self._type = msg_type
        self._callback = callback
        self._depth = depth
        self._group = group
        self.topic = node.resolve_topic_name(topic)
        self.publishers = 0
        self.incompatible: str | None = None
        self._subscription: Subscription | None = None
        self._fixed = self._declare_reliability()
        self._create(self._fixed or self._offered() or ReliabilityPolicy.RELIABLE)

    def refresh(self) -> bool:
        """Follow what the publishers offer now; return whether the subscription was renewed."""
        offered = self._offered()
        if self._fixed or offered is None or offered == self._reliability:
            return False
        self.destroy()
        self._create(offered)
        self.incompatible = None
        return True

    def destroy(self) -> None:
        """Stop listening."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def __str__(self) -> str:
        qos = 'none' if self._subscription is None else format_qos(self._subscription.qos_profile)
        return f'{self.topic} [{type_name(self._type)}] {qos}'

    def _declare_reliability(self) -> ReliabilityPolicy | None:
        # The same name that QoSOverridingOptions would use, but with a value that means "follow":
        # its own parameter would fix whatever was offered when the node started.
        name = f'qos_overrides.{self.topic}.subscription.reliability'
        if not self._node.has_parameter(name):
            self._node.declare_parameter(
                name,
                AS_OFFERED,
                ParameterDescriptor(
                    description=f'reliability for subscription `{self.topic}`',
                    read_only=True,
                    additional_constraints=f'one of {AS_OFFERED}, {", ".join(_RELIABILITY)}',
                ),
            )
        value = self._node.get_parameter(name).value
        if value != AS_OFFERED and value not in _RELIABILITY:
            raise ValueError(
                f'{name} must be one of {AS_OFFERED}, {", ".join(_RELIABILITY)}, got {value!r}'
            )
        return _RELIABILITY.get(value)

    def _offered(self) -> ReliabilityPolicy | None:
        """Return what suits all publishers; None while there are none."""
        infos = self._node.get_publishers_info_by_topic(self.topic)
        self.publishers = len(infos)
        self.incompatible = self._incompatible_publishers(infos)
        if not infos:
            return None
        best_effort = ReliabilityPolicy.BEST_EFFORT
        if any(info.qos_profile.reliability == best_effort for info in infos):
            return best_effort
        return ReliabilityPolicy.RELIABLE

    def _create(self, reliability: ReliabilityPolicy) -> None:
        qos = reliable_qos(self._depth)
        qos.reliability = reliability
        self._reliability = reliability
        self._subscription = self._node.create_subscription(
            self._type,
            self.topic,
            self._callback,
            qos,
            callback_group=self._group,
            # None: the executor looks at every event in every round.
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
            qos_overriding_options=QoSOverridingOptions(
                (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH)
            ),
        )

    def _incompatible_publishers(self, infos: list[Any]) -> str | None:
        """Return in words which publishers can never match; None while all do."""
        if self._subscription is None:
            return None
        asked = self._subscription.qos_profile
        found = []
        for info in infos:
            policies = incompatible_policies(info.qos_profile, asked)
            if policies:
                who = f'{info.node_namespace.rstrip("/")}/{info.node_name}'
                found.append(f'{self.topic}: {who} offers {"; ".join(policies)}')
        return '; '.join(found) or None
