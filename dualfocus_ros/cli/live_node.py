# SPDX-License-Identifier: Apache-2.0
"""A node for commands that talk over DDS, and their end by a signal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
import signal
from types import FrameType
from typing import Any

from dualfocus_ros.cli.bag_arguments import require_ros


def _raise() -> None:
    raise KeyboardInterrupt


@contextmanager
def live_node(
    name: str, on_signal: Callable[[], None] = _raise, use_sim_time: bool = False
) -> Iterator[Any]:
    """Return an rclpy node.

    :param on_signal: called by SIGINT and SIGTERM; by default both raise KeyboardInterrupt.
    :raises CommandError: without ROS.
    """
    require_ros('rclpy')
    import rclpy
    from rclpy.parameter import Parameter
    from rclpy.signals import SignalHandlerOptions

    def interrupt(number: int, frame: FrameType | None) -> None:
        on_signal()

    # Also for Ctrl-C: a shell starts what runs in the background with SIGINT ignored.
    before = {s: signal.signal(s, interrupt) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        try:
            node = rclpy.create_node(
                name, parameter_overrides=[Parameter('use_sim_time', value=use_sim_time)]
            )
            try:
                yield node
            finally:
                node.destroy_node()
        finally:
            rclpy.try_shutdown()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
