# SPDX-License-Identifier: Apache-2.0
"""Runs a node until a signal: exit code 0, within two seconds, without a traceback.

This module imports nothing slow, so that a signal is already handled while the node's own
modules load.
"""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import logging
import os
from pathlib import Path
import signal
import sys
import threading
from types import FrameType
from typing import Any

from dualfocus_ros.nodes.exit_watchdog import exit_after

_STOP_TIMEOUT = 1.7
_WATCHDOG_TIMEOUT = 1.9
_BAD_CONFIGURATION = 1
_BAD_ARGUMENTS = 2
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(create: Callable[[], Any], args: list[str] | None = None) -> int:
    """Create a node and spin it in a single-threaded executor until SIGINT or SIGTERM.

    rclpy's own signal handlers would invalidate the context at once, under the feet of worker
    threads that still publish. Here the main thread waits for the signal, the executor spins in
    another one, and the context stays valid until the node has been closed.

    :param create: makes the node, after ``rclpy.init``; imports what is slow. The node may have
        a method ``close()``, called from the main thread after the last callback and before
        ``destroy_node()``: it stops worker threads and may raise the error that ended them.
        Managed (lifecycle) nodes work alike.
    :param args: ROS arguments; the process's own by default.
    :returns: 0 after a signal or an external shutdown; not 0 when the node could not be created
        (ValueError, OSError, ROS parameter errors and errors of rcl are printed as one line).
    """
    stop = threading.Event()
    # Nothing exists yet that would have to be put in order.
    _handle_signals(lambda: os._exit(0))
    import rclpy
    from rclpy.exceptions import ParameterException
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # rclpy has one class per kind of bad argument, some private
        return _print_error(error, _BAD_ARGUMENTS)
    failures: list[BaseException] = []
    node = None
    try:
        try:
            _handle_signals(lambda: _abort_construction(stop))
            node = create()
            _handle_signals(lambda: _request_stop(stop))
        except _Interrupted:
            return 0
        except (ValueError, OSError, ParameterException) as error:
            return _print_error(error, _BAD_CONFIGURATION)
        except RuntimeError as error:
            # rcl's own errors say all in one line, such as that DDS has no security plugins.
            if not type(error).__module__.startswith('rclpy'):
                raise
            return _print_error(error, _BAD_CONFIGURATION)
        logging.getLogger('dualfocus_ros').addHandler(_RosLogHandler(node))
        executor = SingleThreadedExecutor()
        executor.add_node(node)

        def spin() -> None:
            try:
                while not stop.is_set() and executor.context.ok():
                    executor.spin_once()
            except ExternalShutdownException:
                pass
            except BaseException as error:
                failures.append(error)
            finally:
                stop.set()

        spinner = threading.Thread(target=spin, name='executor', daemon=True)
        spinner.start()
        stop.wait()
        executor.wake()
        spinner.join()
        executor.remove_node(node)
        executor.shutdown()
        close = getattr(node, 'close', None)
        if close is not None:
            close()
        if failures:
            raise failures[0]
        return 0
    finally:
        if node is not None:
            with contextlib.suppress(Exception):  # the context may be gone already
                node.destroy_node()
        rclpy.try_shutdown()
        for number in _SIGNALS if threading.current_thread() is threading.main_thread() else ():
            # One more Ctrl-C must not disturb the interpreter on its way out.
            signal.signal(number, signal.SIG_IGN)


class _RosLogHandler(logging.Handler):
    """Passes warnings of what knows no ROS to the node's logger, and so to ``/rosout``."""

    def __init__(self, node: Any) -> None:
        super().__init__(logging.WARNING)
        self._logger = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        # rclpy takes one severity from one place in the source.
        if record.levelno >= logging.ERROR:
            self._logger.error(self.format(record))
        else:
            self._logger.warning(self.format(record))


class _Interrupted(BaseException):
    """A signal came while the node was being made."""


def _handle_signals(react: Callable[[], None]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return

    def handler(number: int, frame: FrameType | None) -> None:
        react()

    for number in _SIGNALS:
        signal.signal(number, handler)


def _abort_construction(stop: threading.Event) -> None:
    """Leave the making of the node, once; later signals find nothing more to do."""
    if not stop.is_set():
        _request_stop(stop)
        raise _Interrupted


def _request_stop(stop: threading.Event) -> None:
    """Ask for the end, and see to it when something does not let go."""
    if stop.is_set():
        return
    stop.set()
    exit_after(_WATCHDOG_TIMEOUT)
    watchdog = threading.Timer(_STOP_TIMEOUT, _force_exit)
    watchdog.daemon = True
    watchdog.start()


def _force_exit() -> None:
    print(
        f'{_program()}: left after {_STOP_TIMEOUT} s without waiting for its threads',
        file=sys.stderr,
    )
    sys.stderr.flush()
    os._exit(0)


def _print_error(error: BaseException, code: int) -> int:
    text = ' '.join(str(error).split()) or type(error).__name__
    print(f'{_program()}: {text}', file=sys.stderr)
    return code


def _program() -> str:
    return Path(sys.argv[0]).name or 'node'
