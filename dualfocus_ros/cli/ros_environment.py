# SPDX-License-Identifier: Apache-2.0
"""ROS in commands: checks that it is available, and a node with signal handling."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
import signal
from types import FrameType
from typing import Any

from dualfocus_ros.exceptions import CommandError


def require_ros(module: str = 'rclpy') -> None:
    """Import a module that depends on ROS.

    :raises CommandError: if ROS or the built package is not in the environment.
    """
    try:
        import_module(module)
    except ImportError as error:
        raise CommandError(
            f'this needs the message classes and rclpy, which cannot be imported ({error}): '
            'source activate.sh (or the setup file of your ROS distribution and of the workspace)'
        ) from error


def _raise_interrupt() -> None:
    raise KeyboardInterrupt


@contextmanager
def live_node(
    name: str, on_signal: Callable[[], None] = _raise_interrupt, use_sim_time: bool = False
) -> Iterator[Any]:
    """Yield an rclpy node.

    :param on_signal: called on SIGINT and SIGTERM; by default both raise KeyboardInterrupt.
    :raises CommandError: without ROS.
    """
    require_ros()
    import rclpy
    from rclpy.parameter import Parameter
    from rclpy.signals import SignalHandlerOptions

    def interrupt(number: int, frame: FrameType | None) -> None:
        on_signal()

    # SIGINT too: shells start background processes with it ignored.
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
