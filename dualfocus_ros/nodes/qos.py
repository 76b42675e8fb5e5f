# SPDX-License-Identifier: Apache-2.0
"""Quality of service by REP 2003: publish reliable, subscribe as offered, allow overrides.

A best-effort subscription loses nine of ten 0.9 MB images over default Fast DDS, and a reliable
one never matches a camera that offers best effort. Like the bag recorder, subscriptions are
reliable if every publisher is, else best effort, and follow changes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
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
    """Return the profile of our publishers: reliable, volatile, keep last ``depth``."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE,
    )


def format_qos(qos: QoSProfile) -> str:
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
    """Create a reliable publisher whose quality of service parameters may override.

    :param create: ``node.create_publisher`` or ``node.create_lifecycle_publisher``.
    :param on_incompatible: called with a description when a subscription cannot match; None
        where ``incompatible_endpoints`` is polled instead. The executor checks each event in every
        round: a dozen of them cost an idle node a third of its CPU time.
    """

    def report(event: Any) -> None:
        assert on_incompatible is not None
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        on_incompatible(f'{topic}: a subscription requests another {policy} than offered')

    return create(
        msg_type,
        topic,
        reliable_qos(depth),
        qos_overriding_options=QoSOverridingOptions.with_default_policies(),
        event_callbacks=PublisherEventCallbacks(
            incompatible_qos=None if on_incompatible is None else report,
            use_default_callbacks=False,
        ),
    )


def incompatible_policies(offered: QoSProfile, requested: QoSProfile) -> list[str]:
    """Describe the policies that are incompatible between a publisher and a subscription."""
    found = []
    best_effort, as_reliable = ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE
    if (offered.reliability, requested.reliability) == (best_effort, as_reliable):
        found.append('RELIABILITY best effort, requested reliable')
    volatile, kept = DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL
    if (offered.durability, requested.durability) == (volatile, kept):
        found.append('DURABILITY volatile, requested transient local')
    # A duration of zero means unlimited.
    deadline = requested.deadline.nanoseconds
    if deadline and not 0 < offered.deadline.nanoseconds <= deadline:
        found.append('DEADLINE longer than requested')
    lease = requested.liveliness_lease_duration.nanoseconds
    if (offered.liveliness, requested.liveliness) == (
        LivelinessPolicy.AUTOMATIC,
        LivelinessPolicy.MANUAL_BY_TOPIC,
    ) or (lease and not 0 < offered.liveliness_lease_duration.nanoseconds <= lease):
        found.append('LIVELINESS weaker than requested')
    return found


def incompatible_endpoints(node: Node, publisher: Publisher) -> list[str]:
    """Describe incompatible subscriptions of a publisher's topic; cheap while all match."""
    topic = publisher.topic_name
    if node.count_subscribers(topic) <= publisher.get_subscription_count():
        return []
    infos = node.get_subscriptions_info_by_topic(topic)
    return [
        f'{topic}: {_node_name(info)} is offered {"; ".join(policies)}'
        for info in infos
        if (policies := incompatible_policies(publisher.qos_profile, info.qos_profile))
    ]


def _node_name(info: Any) -> str:
    return f'{info.node_namespace.rstrip("/")}/{info.node_name}'


class AdaptiveQosSubscription:
    """A subscription that is reliable as long as every publisher is.

    The parameter ``qos_overrides.<topic>.subscription.reliability`` overrides that.

    :param depth: queue depth.
    """

    def __init__(
        self,
        node: Node,
        msg_type: Any,
        topic: str,
        callback: Callable[[Any], None],
        depth: int,
    ) -> None:
        self._node = node
        self._type = msg_type
        self._callback = callback
        self._depth = depth
        self.topic = node.resolve_topic_name(topic)
        self.publishers = 0
        self.incompatible: str | None = None
        self._subscription: Subscription | None = None
        self._fixed = self._declare_reliability()
        self._create(self._fixed or self._offered() or ReliabilityPolicy.RELIABLE)

    def refresh(self) -> bool:
        """Follow the publishers' offers; return whether the subscription was recreated."""
        offered = self._offered()
        if self._fixed or offered is None or offered == self._reliability:
            return False
        self.destroy()
        self._create(offered)
        self.incompatible = None
        return True

    def destroy(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def __str__(self) -> str:
        qos = 'none' if self._subscription is None else format_qos(self._subscription.qos_profile)
        return f'{self.topic} [{type_name(self._type)}] {qos}'

    def _declare_reliability(self) -> ReliabilityPolicy | None:
        # The name of QoSOverridingOptions, with a value for "follow the publishers"; the parameter
        # of QoSOverridingOptions would keep the offer at the start of the node.
        name = f'qos_overrides.{self.topic}.subscription.reliability'
        choices = f'one of {AS_OFFERED}, {", ".join(_RELIABILITY)}'
        if not self._node.has_parameter(name):
            descriptor = ParameterDescriptor(
                description=f'reliability for subscription `{self.topic}`',
                read_only=True,
                additional_constraints=choices,
            )
            self._node.declare_parameter(name, AS_OFFERED, descriptor)
        value = self._node.get_parameter(name).value
        if value != AS_OFFERED and value not in _RELIABILITY:
            raise ValueError(f'{name} must be {choices}, got {value!r}')
        return _RELIABILITY.get(value)

    def _offered(self) -> ReliabilityPolicy | None:
        """Return the reliability that matches all publishers; None without publishers."""
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
            # No event callbacks: the executor checks each event in every round.
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
            qos_overriding_options=QoSOverridingOptions(
                (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH)
            ),
        )

    def _incompatible_publishers(self, infos: list[Any]) -> str | None:
        if self._subscription is None:
            return None
        requested = self._subscription.qos_profile
        found = [
            f'{self.topic}: {_node_name(info)} offers {"; ".join(policies)}'
            for info in infos
            if (policies := incompatible_policies(info.qos_profile, requested))
        ]
        return '; '.join(found) or None
