# SPDX-License-Identifier: Apache-2.0
"""Thread for decoding and conversion of images, which take milliseconds."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from rclpy.node import Node

from dualfocus_ros.nodes.monitoring.callback_times import CallbackTimer

R = TypeVar('R')


class ImageConverter(Generic[R]):
    """Runs conversions one after the other on its thread and returns the results in order.

    All methods are called on the executor's thread, and so are the result callbacks.

    :param times: timer of the callbacks.
    """

    def __init__(self, node: Node, times: CallbackTimer) -> None:
        self._node = node
        self._pool = ThreadPoolExecutor(1, thread_name_prefix='converter')
        self._pending: deque[tuple[Future[R], Callable[[Callable[[], R]], None]]] = deque()
        self._ready = node.create_guard_condition(times.timed(self.deliver))

    @property
    def idle(self) -> bool:
        """Whether nothing is pending."""
        return not self._pending

    def submit(
        self, work: Callable[[], R], on_result: Callable[[Callable[[], R]], None], limit: int
    ) -> bool:
        """Queue a conversion; return False if an older one was dropped for it.

        :param on_result: called with a function that returns the result of ``work`` or raises its
            exception.
        :param limit: maximum number of pending conversions with this one; beyond it the oldest is
            dropped.
        """
        has_room = len(self._pending) < limit
        if not has_room:
            self._pending.popleft()[0].cancel()
        future = self._pool.submit(work)
        self._pending.append((future, on_result))
        future.add_done_callback(lambda _: self._ready.trigger())
        return has_room

    def clear(self) -> None:
        """Drop all pending conversions."""
        for future, _ in self._pending:
            future.cancel()
        self._pending.clear()

    def close(self) -> None:
        """Drop all pending conversions and stop the thread."""
        self.clear()
        self._pool.shutdown()
        self._node.destroy_guard_condition(self._ready)

    def deliver(self) -> None:
        """Call the result callbacks of the finished conversions."""
        while self._pending and self._pending[0][0].done():
            future, on_result = self._pending.popleft()
            on_result(future.result)
