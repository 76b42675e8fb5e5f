# SPDX-License-Identifier: Apache-2.0
"""Conversion on a thread: order, errors, dropped conversions."""

import threading
import time

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')

import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor

from dualfocus_ros.nodes.monitoring.node_statistics import CallbackTimer
from dualfocus_ros.nodes.stack_source import ImageConverter


class Bench:
    """A converter, its executor and the delivered results."""

    def __init__(self, limit: int = 32) -> None:
        self.limit = limit
        self.context = Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node('converting', context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.times = CallbackTimer()
        self.converter: ImageConverter = ImageConverter(self.node, self.times)
        self.taken: list[object] = []
        self.permit = threading.Event()
        self.began = threading.Event()

    def take(self, result) -> None:
        assert threading.current_thread() is threading.main_thread()
        try:
            self.taken.append(result())
        except ValueError as error:
            self.taken.append(str(error))

    def submit(self, name: object) -> bool:
        return self.converter.submit(lambda: name, self.take, self.limit)

    def block(self) -> None:
        """Keep the thread busy until ``permit`` is set."""

        def wait() -> object:
            self.began.set()
            assert self.permit.wait(30.0)
            return 'blocker'

        assert self.converter.submit(wait, self.take, self.limit)
        assert self.began.wait(30.0)

    def until(self, count: int) -> list[object]:
        end = time.monotonic() + 30.0
        while len(self.taken) < count and time.monotonic() < end:
            self.executor.spin_once(timeout_sec=0.1)
        for _ in range(3):
            self.executor.spin_once(timeout_sec=0.02)
        return self.taken


@pytest.fixture
def make():
    made: list[Bench] = []

    def make_one(**arguments):
        made.append(Bench(**arguments))
        return made[-1]

    yield make_one
    for bench in made:
        bench.permit.set()
        bench.converter.close()
        bench.executor.shutdown()
        bench.node.destroy_node()
        rclpy.shutdown(context=bench.context)


def test_results_arrive_in_order_on_the_executor(make):
    bench = make()

    def fail() -> object:
        time.sleep(0.05)
        raise ValueError('damaged')

    assert bench.converter.idle
    assert bench.submit(0) and not bench.converter.idle
    assert bench.converter.submit(fail, bench.take, bench.limit)
    assert all(bench.submit(n) for n in range(2, 10))
    assert bench.until(10) == [0, 'damaged', *range(2, 10)]
    assert bench.times.summary() is not None and bench.converter.idle


def test_conversion_does_not_block_the_executor(make):
    bench = make()
    bench.block()
    ticks: list[int] = []
    bench.node.create_timer(0.01, lambda: ticks.append(1))
    for _ in range(10):
        bench.executor.spin_once(timeout_sec=0.1)
    assert len(ticks) >= 5 and bench.taken == []
    bench.permit.set()
    assert bench.until(1) == ['blocker']


def test_full_queue_drops_the_oldest(make):
    bench = make(limit=3)
    bench.block()
    assert [bench.submit(n) for n in range(4)] == [True, True, False, False]
    bench.permit.set()
    assert bench.until(3) == [1, 2, 3]


def test_cleared_conversions_deliver_nothing(make):
    bench = make()
    bench.block()
    assert bench.submit('old')
    bench.converter.clear()
    assert bench.submit('new')
    bench.permit.set()
    assert bench.until(1) == ['new']


def test_close_stops_thread_and_delivery(make):
    bench = make()
    bench.submit('one')
    bench.block()
    threading.Timer(0.1, bench.permit.set).start()
    bench.converter.close()
    assert not any(t.name.startswith('converter') for t in threading.enumerate())
    assert bench.until(0) == []
