# SPDX-License-Identifier: Apache-2.0
"""Decoding and converting images takes milliseconds: that is for a thread of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from rclpy.node import Node

from dualfocus_ros.nodes.callback_times import CallbackTimer

R = TypeVar('R')


class ImageConverter(Generic[R]):
    """Does one piece of work after the other on its thread, and hands the results back in order.

    All methods are for the executor's thread, on which the results are taken as well.

    :param times: of the callbacks.
    """

    def __init__(self, node: Node, times: CallbackTimer) -> None:
        self._node = node
        self._pool = ThreadPoolExecutor(1, thread_name_prefix='converter')
        self._waiting: deque[tuple[Future[R], Callable[[Callable[[], R]], None]]] = deque()
        self._ready = node.create_guard_condition(times.timed(self._hand_back))

    @property
    def idle(self) -> bool:
        """Whether nothing waits."""
        return not self._waiting

    def submit(
        self, work: Callable[[], R], take: Callable[[Callable[[], R]], None], limit: int
    ) -> bool:
        """Have a piece of work done; return False if an older one was given up for it.

        :param limit: pieces that may wait, with this one; for more, the oldest is given up.
        :param take: gets a function that returns what the work returned, or raises what it raised.
        """
        kept = len(self._waiting) < limit
        if not kept:
            self._waiting.popleft()[0].cancel()
        future = self._pool.submit(work)
        self._waiting.append((future, take))
        future.add_done_callback(lambda _: self._ready.trigger())
        return kept

    def clear(self) -> None:
        """Give up all that waits."""
        for future, _ in self._waiting:
            future.cancel()
        self._waiting.clear()

    def close(self) -> None:
        """Give up all that waits and end the thread."""
        self.clear()
        self._pool.shutdown()
        self._node.destroy_guard_condition(self._ready)

    def _hand_back(self) -> None:
        while self._waiting and self._waiting[0][0].done():
            future, take = self._waiting.popleft()
            take(future.result)
