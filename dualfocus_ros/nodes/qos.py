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
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.subscription import Subscription

try:
    from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
except ImportError:  # Humble
    from rclpy.qos_event import PublisherEventCallbacks, SubscriptionEventCallbacks

AS_OFFERED = 'as_offered'
_RELIABILITY = {
    'reliable': ReliabilityPolicy.RELIABLE,
    'best_effort': ReliabilityPolicy.BEST_EFFORT,
    'system_default': ReliabilityPolicy.SYSTEM_DEFAULT,
}


def reliable(depth: int) -> QoSProfile:
    """Return what our publishers offer: reliable, volatile, the last ``depth`` messages."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.VOLATILE,
    )


def overridable() -> QoSOverridingOptions:
    """Return options by which users override history, depth and reliability by parameters."""
    return QoSOverridingOptions.with_default_policies()


def in_words(qos: QoSProfile) -> str:
    """Return reliability, history and depth for a log."""
    history = 'keep all' if qos.history == HistoryPolicy.KEEP_ALL else f'keep last {qos.depth}'
    return f'{qos.reliability.name.lower().replace("_", " ")}, {history}'


def kind_name(kind: Any) -> str:
    """Return the name of a message type, such as ``sensor_msgs/Image``."""
    return f'{kind.__module__.split(".")[0]}/{kind.__name__}'


def create_publisher(
    create: Callable[..., Publisher],
    msg_type: Any,
    topic: str,
    depth: int,
    on_incompatible: Callable[[str], None],
) -> Publisher:
    """Create a reliable publisher that users may override.

    :param create: ``node.create_publisher`` or ``node.create_lifecycle_publisher``.
    :param on_incompatible: told in words when a subscription cannot match.
    """

    def report(event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        on_incompatible(f'{topic}: a subscription asks for another {policy} than we offer')

    return create(
        msg_type, topic, reliable(depth), qos_overriding_options=overridable(),
        event_callbacks=PublisherEventCallbacks(
            incompatible_qos=report, use_default_callbacks=False
        ),
    )


class OfferedSubscription:
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
        self._fixed = self._declare_reliability()
        self._subscription: Subscription | None = None
        self._create(self._fixed or self._offered() or ReliabilityPolicy.RELIABLE)

    def refresh(self) -> bool:
        """Follow what the publishers offer now; return whether the subscription was renewed."""
        offered = self._offered()
        if self._fixed or offered is None or offered == self._reliability:
            return False
        self.destroy()
        self._create(offered)
        return True

    def destroy(self) -> None:
        """Stop listening."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

    def __str__(self) -> str:
        qos = 'none' if self._subscription is None else in_words(self._subscription.qos_profile)
        return f'{self.topic} [{kind_name(self._type)}] {qos}'

    def _declare_reliability(self) -> ReliabilityPolicy | None:
        # The same name that QoSOverridingOptions would use, but with a value that means "follow":
        # its own parameter would fix whatever was offered when the node started.
        name = f'qos_overrides.{self.topic}.subscription.reliability'
        if not self._node.has_parameter(name):
            self._node.declare_parameter(name, AS_OFFERED, ParameterDescriptor(
                description=f'reliability for subscription `{self.topic}`', read_only=True,
                additional_constraints=f'one of {AS_OFFERED}, {", ".join(_RELIABILITY)}',
            ))
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
        if not infos:
            return None
        best_effort = ReliabilityPolicy.BEST_EFFORT
        if any(info.qos_profile.reliability == best_effort for info in infos):
            return best_effort
        return ReliabilityPolicy.RELIABLE

    def _create(self, reliability: ReliabilityPolicy) -> None:
        qos = reliable(self._depth)
        qos.reliability = reliability
        self._reliability = reliability
        self.incompatible = None
        self._subscription = self._node.create_subscription(
            self._type, self.topic, self._callback, qos, callback_group=self._group,
            # The executor handles every event in every round: only those that are needed.
            event_callbacks=SubscriptionEventCallbacks(
                incompatible_qos=self._on_incompatible, use_default_callbacks=False
            ),
            qos_overriding_options=QoSOverridingOptions(
                (QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH)
            ),
        )

    def _on_incompatible(self, event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        self.incompatible = f'{self.topic}: a publisher offers another {policy} than we ask for'
