# SPDX-License-Identifier: Apache-2.0
"""Managed node whose slow transitions do not block its services.

rclpy runs a transition inside the callback of its service. While a model loads, no other service
would answer, which a lifecycle manager takes for a failure. Here the slow part runs first, on
another thread; the quick transition follows on the executor's thread, then the response.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.lifecycle import LifecycleNodeMixin
from rclpy.node import Node
from rclpy.task import Future

_LABELS = {
    Transition.TRANSITION_CONFIGURE: 'configure',
    Transition.TRANSITION_CLEANUP: 'cleanup',
    Transition.TRANSITION_ACTIVATE: 'activate',
    Transition.TRANSITION_DEACTIVATE: 'deactivate',
    Transition.TRANSITION_UNCONFIGURED_SHUTDOWN: 'shutdown',
    Transition.TRANSITION_INACTIVE_SHUTDOWN: 'shutdown',
    Transition.TRANSITION_ACTIVE_SHUTDOWN: 'shutdown',
}


class ResponsiveLifecycleNode(LifecycleNodeMixin, Node):
    """A lifecycle node that prepares transitions without blocking the executor.

    Subclasses override ``prepare`` and call ``resume_waiting`` from a timer.
    """

    def __init__(self, node_name: str, **arguments: Any) -> None:
        Node.__init__(self, node_name, **arguments)
        # A waiting service must not block the others of its group.
        self.lifecycle_group = ReentrantCallbackGroup()
        LifecycleNodeMixin.__init__(self, callback_group=self.lifecycle_group)
        self._waiting: list[tuple[Callable[[], bool], Future]] = []
        service = self._service_change_state
        self._transition = service.callback
        service.callback = self._on_change_state

    @property
    def state_label(self) -> str:
        """Lifecycle state: unconfigured, inactive, active, finalized or a transition."""
        return str(self._state_machine.current_state[1])

    async def prepare(self, transition: str) -> None:
        """Run the slow part of a transition: configure, cleanup, activate, shutdown ..."""

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait without blocking the executor until ``resume_waiting`` finds the condition true."""
        if not condition():
            future = Future()
            self._waiting.append((condition, future))
            await future

    def resume_waiting(self) -> None:
        for waiting in [waiting for waiting in self._waiting if waiting[0]()]:
            self._waiting.remove(waiting)
            waiting[1].set_result(None)

    async def configure_and_activate(self) -> None:
        await self.prepare('configure')
        if self.state_label == 'unconfigured':
            self.trigger_configure()
        if self.state_label == 'inactive':
            self.trigger_activate()

    async def _on_change_state(
        self, request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        label = request.transition.label or _LABELS.get(request.transition.id, '')
        try:
            await self.prepare(label)
            return self._transition(request, response)
        except RuntimeError as error:  # of rcl: no such transition from this state
            self.get_logger().warning(
                f'no transition {label or request.transition.id!r} from {self.state_label}: '
                f'{str(error).splitlines()[0]}'
            )
            response.success = False
            return response
