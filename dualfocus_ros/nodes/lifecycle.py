# SPDX-License-Identifier: Apache-2.0
"""A managed node whose slow transitions do not block its services.

rclpy runs a transition inside the callback of the service that asks for it. While a model loads,
nothing else would be answered, and a lifecycle manager takes a service that does not answer for a
failure. Here the slow part comes first, on another thread; the transition follows on the
executor's thread, when it is quick, and only then the answer.
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

    Subclasses override ``prepare`` and call ``resume`` from a timer.
    """

    def __init__(self, node_name: str, **arguments: Any) -> None:
        Node.__init__(self, node_name, **arguments)
        # A service that waits must not keep the others of its group waiting.
        self.lifecycle_group = ReentrantCallbackGroup()
        LifecycleNodeMixin.__init__(self, callback_group=self.lifecycle_group)
        self._paused: list[tuple[Callable[[], bool], Future]] = []
        service = self._service_change_state
        self._transition = service.callback
        service.callback = self._on_change_state

    @property
    def state_label(self) -> str:
        """The lifecycle state: unconfigured, inactive, active, finalized or a transition."""
        return str(self._state_machine.current_state[1])

    async def prepare(self, transition: str) -> None:
        """Do what is slow about a transition: configure, cleanup, activate, shutdown ..."""

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait, while the executor goes on, until ``resume`` finds the condition true."""
        if not condition():
            future = Future()
            self._paused.append((condition, future))
            await future

    def resume(self) -> None:
        """Let those who wait for a condition that is true now go on."""
        for entry in [entry for entry in self._paused if entry[0]()]:
            self._paused.remove(entry)
            entry[1].set_result(None)

    async def configure_and_activate(self) -> None:
        """Configure and activate, as far as that succeeds."""
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
        except RuntimeError as error:  # rcl's own error: no such transition from this state
            self.get_logger().warning(
                f'no transition {label or request.transition.id!r} from {self.state_label}: '
                f'{str(error).splitlines()[0]}'
            )
            response.success = False
            return response
