# SPDX-License-Identifier: Apache-2.0
"""Node of a test with a separate context and executor."""

from __future__ import annotations

from collections.abc import Callable
import time
from typing import Any

import pytest
import rclpy
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor


class RosClient:
    """Node that subscribes, calls services and spins until a condition holds."""

    patience = 60.0

    def __init__(self, name: str = 'test_client', namespace: str | None = None) -> None:
        self.context = Context()
        rclpy.init(context=self.context)
        self.node = rclpy.create_node(name, context=self.context, namespace=namespace)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)

    def collect(self, msg_type: type, topic: str, depth: int = 50) -> list[Any]:
        """Subscribe; return the list to which messages are appended."""
        messages: list[Any] = []
        self.node.create_subscription(msg_type, topic, messages.append, depth)
        return messages

    def until(
        self, condition: Callable[[], object], what: str = '', patience: float | None = None
    ) -> None:
        """Spin until the condition holds; fail the test after ``patience`` seconds.

        A condition about the last message of a list does not hold while the list is empty.
        """
        patience = patience or self.patience
        end = time.monotonic() + patience

        def holds() -> object:
            try:
                return condition()
            except IndexError:
                return False

        while not holds():
            if time.monotonic() > end:
                pytest.fail(f'no result within {patience:g} s {what}'.rstrip())
            self.executor.spin_once(timeout_sec=0.02)

    def spin(self, seconds: float) -> None:
        """Spin for a while."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0.0:
            self.executor.spin_once(timeout_sec=min(0.02, left))

    def call(self, service_type: type, name: str, request: Any) -> Any:
        """Call a service and return its answer."""
        client = self.node.create_client(service_type, name)
        self.until(client.service_is_ready, f'for the service {name}')
        future = client.call_async(request)
        self.until(future.done, f'for the answer of {name}')
        self.node.destroy_client(client)
        return future.result()

    def close(self) -> None:
        """Leave ROS."""
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


def newest_status(arrays: list[Any], name: str) -> tuple[bytes | None, str, dict[str, str]]:
    """Return level, text and values of the newest diagnostics whose name ends with ``name``."""
    for array in reversed(arrays):
        for status in array.status:
            if status.name.endswith(name):
                return status.level, status.message, {v.key: v.value for v in status.values}
    return None, '', {}
