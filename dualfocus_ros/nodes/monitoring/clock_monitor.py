# SPDX-License-Identifier: Apache-2.0
"""Monitor of the node's clock: jumps, and silence of /clock."""

from __future__ import annotations

from collections.abc import Callable
import time

from rclpy.clock import JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node

from dualfocus_ros.nodes.monitoring.node_health import ClockHealth

# Larger steps of the ROS clock are jumps (a bag that loops, a seek), not a slow clock.
_JUMP_FORWARD = Duration(seconds=10)
_JUMP_BACKWARD = Duration(nanoseconds=-100_000_000)
# Seconds without a step of simulated time after which /clock is reported as silent.
_SILENCE = 2.5


class ClockMonitor:
    """Detects jumps and silence of a node's clock.

    :param on_jump: called after every jump, the start of simulated time included.
    """

    def __init__(self, node: Node, on_jump: Callable[[], None]) -> None:
        self._node = node
        self._on_jump = on_jump
        self._jumps = 0
        self._last_jump = ''
        self._last_step = (0, 0.0)
        self._handle = node.get_clock().create_jump_callback(
            JumpThreshold(min_forward=_JUMP_FORWARD, min_backward=_JUMP_BACKWARD),
            post_callback=self._after_jump,
        )

    def health(self) -> ClockHealth:
        """Return the state of the clock for the diagnostics; called about once a second."""
        simulated = bool(self._node.get_parameter('use_sim_time').value)
        now_ns, steady = self._node.get_clock().now().nanoseconds, time.monotonic()
        if now_ns != self._last_step[0]:
            self._last_step = (now_ns, steady)
        silent = simulated and (now_ns == 0 or steady - self._last_step[1] > _SILENCE)
        return ClockHealth(simulated, silent, self._jumps, self._last_jump)

    def _after_jump(self, jump: TimeJump) -> None:
        self._on_jump()
        step = jump.delta.nanoseconds
        if step == self._node.get_clock().now().nanoseconds:
            return  # start of simulated time
        self._jumps += 1
        self._last_jump = f'{step * 1e-9:+.3f} s'
        self._node.get_logger().info(
            f'the clock jumped by {self._last_jump}: dropped the stack in progress'
        )
