# SPDX-License-Identifier: Apache-2.0
"""Run a node until a signal: exit code 0 within two seconds, without a traceback.

This module imports nothing slow, so that signals are handled while the modules of the node load.
"""

from __future__ import annotations

from collections.abc import Callable
import contextlib
import ctypes
from importlib import import_module
import logging
import math
import os
from pathlib import Path
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from dualfocus_ros.exceptions import one_line

_STOP_TIMEOUT = 1.7
_WATCHDOG_TIMEOUT = 1.9
_BAD_CONFIGURATION = 1
_BAD_ARGUMENTS = 2
# Constants of Linux for timer_create.
_SIGEV_THREAD = 2
_LARGEST_SIGEVENT = 64
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(create: Callable[[], Any], args: list[str] | None = None) -> int:
    """Create a node and spin it in a single-threaded executor until SIGINT or SIGTERM.

    The signal handlers of rclpy invalidate the context at once, while worker threads still
    publish. Here the main thread waits for the signal, the executor spins in another thread, and
    the context stays valid until the node is closed.

    :param create: makes the node, after ``rclpy.init``; imports the slow modules. A method
        ``close()`` of the node is called from the main thread after the last callback and before
        ``destroy_node()``: it stops worker threads and may raise the error that ended them.
    :param args: ROS arguments; ``sys.argv`` by default.
    :returns: 0 after a signal or an external shutdown; 1 if the node cannot be created
        (ValueError, OSError, ROS parameter errors and errors of rcl, printed in one line); 2 for
        wrong ROS arguments.
    """
    stop = threading.Event()
    # Nothing to clean up yet.
    _handle_signals(lambda: os._exit(0))
    import rclpy
    from rclpy.exceptions import ParameterException
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    try:
        rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    except Exception as error:  # rclpy has a class per kind of argument, some private
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
            # Errors of rcl are complete in one line, such as missing security plugins of DDS.
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
            with contextlib.suppress(Exception):  # the context may be invalid
                node.destroy_node()
        rclpy.try_shutdown()
        for number in _SIGNALS if threading.current_thread() is threading.main_thread() else ():
            # Another Ctrl-C must not interrupt the exit of the interpreter.
            signal.signal(number, signal.SIG_IGN)


def run_node(module: str, args: list[str] | None = None) -> int:
    """Run the node that ``create_node()`` of ``dualfocus_ros.nodes.MODULE`` returns.

    The module is imported while signals are already handled; see :func:`run`.
    """
    return run(lambda: import_module(f'dualfocus_ros.nodes.{module}').create_node(), args)


class _RosLogHandler(logging.Handler):
    """Forwards Python logging warnings to the node's logger, and so to ``/rosout``."""

    def __init__(self, node: Any) -> None:
        super().__init__(logging.WARNING)
        self._logger = node.get_logger()

    def emit(self, record: logging.LogRecord) -> None:
        # rclpy allows one severity per line of source.
        if record.levelno >= logging.ERROR:
            self._logger.error(self.format(record))
        else:
            self._logger.warning(self.format(record))


class _Interrupted(BaseException):
    """A signal arrived during the construction of the node."""


def _handle_signals(react: Callable[[], None]) -> None:
    if threading.current_thread() is not threading.main_thread():
        return

    def handler(number: int, frame: FrameType | None) -> None:
        react()

    for number in _SIGNALS:
        signal.signal(number, handler)


def _abort_construction(stop: threading.Event) -> None:
    """Abort node construction on the first signal; ignore later ones."""
    if not stop.is_set():
        _request_stop(stop)
        raise _Interrupted


def _request_stop(stop: threading.Event) -> None:
    """Request the stop, and force the exit if it does not happen in time."""
    if stop.is_set():
        return
    stop.set()
    _exit_after(_WATCHDOG_TIMEOUT)
    watchdog = threading.Timer(_STOP_TIMEOUT, _force_exit)
    watchdog.daemon = True
    watchdog.start()


def _force_exit() -> None:
    print(
        f'{_program()}: exited after {_STOP_TIMEOUT} s without waiting for its threads',
        file=sys.stderr,
    )
    sys.stderr.flush()
    os._exit(0)


def _print_error(error: BaseException, code: int) -> int:
    print(f'{_program()}: {one_line(error)}', file=sys.stderr)
    return code


def _program() -> str:
    return Path(sys.argv[0]).name or 'node'


class _SigEvent(ctypes.Structure):
    """``struct sigevent`` of Linux."""

    _fields_ = (
        ('value', ctypes.c_void_p),
        ('signal', ctypes.c_int),
        ('notify', ctypes.c_int),
        ('function', ctypes.c_void_p),
        ('rest', ctypes.c_byte * _LARGEST_SIGEVENT),
    )


class _TimerSpec(ctypes.Structure):
    """``struct itimerspec``: seconds and nanoseconds."""

    _fields_ = (('interval', ctypes.c_long * 2), ('value', ctypes.c_long * 2))


def _exit_after(seconds: float) -> None:
    """End this process with status 0 after a time, even if no Python code can run.

    A library call that holds the GIL and never returns blocks all Python threads and signal
    handlers; the destruction of a node in Fast DDS did so while its subscribers left. A timer of
    the operating system therefore calls ``_exit`` on a native thread. On systems without such a
    timer this function does nothing.
    """
    if sys.platform != 'linux':
        return
    with contextlib.suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        leave = ctypes.cast(libc._exit, ctypes.c_void_p)
        # The value is the argument of the function: the exit status.
        event = _SigEvent(value=0, notify=_SIGEV_THREAD, function=leave.value)
        timer = ctypes.c_void_p()
        if libc.timer_create(time.CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)):
            return
        rest, whole = math.modf(seconds)
        setting = _TimerSpec(value=(int(whole), int(rest * 1e9)))
        libc.timer_settime(timer, 0, ctypes.byref(setting), None)
