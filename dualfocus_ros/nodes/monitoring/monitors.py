# SPDX-License-Identifier: Apache-2.0
"""Monitors of the depth node: clock, depth range, rejections."""

from __future__ import annotations

from collections.abc import Callable
import math
import time
from typing import Any

from rclpy.clock import JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.node import Node

from dualfocus_ros.camera.depth_resolution import RangeCheck, check_range
from dualfocus_ros.inference.settings import EstimatorSettings
from dualfocus_ros.sweep.stage_counter import StageCounter

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
        self.jumps = 0
        self.last_jump = ''
        self._last_step = (0, 0.0)
        self._handle = node.get_clock().create_jump_callback(
            JumpThreshold(min_forward=_JUMP_FORWARD, min_backward=_JUMP_BACKWARD),
            post_callback=self._after_jump,
        )

    @property
    def simulated(self) -> bool:
        """Whether the time comes from /clock."""
        return bool(self._node.get_parameter('use_sim_time').value)

    def silent(self) -> bool:
        """Return whether simulated time stands still; called about once a second."""
        now_ns, steady = self._node.get_clock().now().nanoseconds, time.monotonic()
        if now_ns != self._last_step[0]:
            self._last_step = (now_ns, steady)
        return self.simulated and (now_ns == 0 or steady - self._last_step[1] > _SILENCE)

    def _after_jump(self, jump: TimeJump) -> None:
        self._on_jump()
        step = jump.delta.nanoseconds
        if step == self._node.get_clock().now().nanoseconds:
            return  # start of simulated time
        self.jumps += 1
        self.last_jump = f'{step * 1e-9:+.3f} s'
        self._node.get_logger().info(
            f'the clock jumped by {self.last_jump}: dropped the stack in progress'
        )


class RangeMonitor:
    """Compares the depth range of the parameters and of each stack with the limit of the lens."""

    def __init__(self) -> None:
        # Result for the last stack; None without one, or if the lens is not known.
        self.last: RangeCheck | None = None
        self._warned: RangeCheck | None = None

    def check(self, settings: EstimatorSettings, far_dioptres: float) -> str | None:
        """Check the requested range; return a warning unless it was given before.

        The warning is repeated after a change of the lens, or if the requested range grows by
        more than 10 %; noise of the reported lens position is smaller.

        :param far_dioptres: focus of the plane focused farthest.
        """
        kappa = settings.blur_per_dioptre
        self.last = None
        if kappa is None:
            return None
        self.last = check = check_range(kappa, settings.depth_max, far_dioptres)
        warned = self._warned
        known = (
            warned is not None
            and warned.kappa == kappa
            and check.requested <= 1.1 * warned.requested
        )
        if known or not check.exceeded:
            return None
        self._warned = check
        return str(check)


# Seconds between two warnings of one reason.
_WARNING_PERIOD = 10.0
# Rejections that are part of every sweep or reported by other means.
_EXPECTED = frozenset(
    {'moving', 'superseded', 'reset', 'reconfigured', 'joined_midway', 'format_changed'}
)


class RejectionLog:
    """Warns of each reason for a rejection, at most once in 10 s."""

    def __init__(self, logger: Any, stage_counter: StageCounter) -> None:
        self._logger = logger
        self._stage_counter = stage_counter
        self._logged: dict[str, tuple[int, float]] = {}

    def update(self) -> None:
        """Log the rejections that are new since the last log line of their reason."""
        now = time.monotonic()
        for rejection in self._stage_counter.snapshot().rejections:
            reason, count = rejection.reason, rejection.count
            logged, when = self._logged.get(reason, (0, -math.inf))
            if count > logged and now - when > _WARNING_PERIOD and reason not in _EXPECTED:
                self._logged[reason] = (count, now)
                self._logger.warning(
                    f'not {rejection.stage.value}: {rejection.text} ({reason}, {count} so far)'
                )
