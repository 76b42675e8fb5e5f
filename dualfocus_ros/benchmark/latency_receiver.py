# SPDX-License-Identifier: Apache-2.0
"""Receiver of the benchmark: logs the arrival of messages.

``python -m dualfocus_ros.benchmark.latency_receiver TOPIC RELIABILITY LOG``: an image topic;
``reliable`` or ``best_effort``. Each line of the log is JSON: ``{"arrival": …}`` with stamp and
receipt of an image, ``{"info": …}`` with the timings of a ``stack_info``, or ``{"callbacks": …}``
with the callback times in the diagnostics of the depth node.
"""

from __future__ import annotations

from dataclasses import asdict
import json
from pathlib import Path
import sys
from typing import Any

from dualfocus_ros.nodes.monitoring.node_statistics import CallbackSummary
from dualfocus_ros.nodes.node_runner import run

INFO_FIELDS = ('assemble_ms', 'inference_ms', 'publish_ms', 'model', 'device')


def _create(topic: str, reliability: str, log: Path) -> Any:
    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.node import Node
    from rclpy.qos import ReliabilityPolicy
    from sensor_msgs.msg import Image

    from dualfocus_ros.msg import StackInfo
    from dualfocus_ros.nodes.qos import reliable_qos
    from dualfocus_ros.stamps import to_ns

    class Receiver(Node):
        """Subscribes to an image topic, to ``stack_info`` and to the diagnostics."""

        def __init__(self) -> None:
            super().__init__('benchmark_receiver')
            self._log = log.open('w', buffering=1)
            # Deep enough that losses are those of the transport, not of a slow receiver.
            qos = reliable_qos(5)
            qos.reliability = ReliabilityPolicy[reliability.upper()]
            self.create_subscription(Image, topic, self._on_image, qos)
            self.create_subscription(StackInfo, 'stack_info', self._on_info, reliable_qos(10))
            self.create_subscription(
                DiagnosticArray, '/diagnostics', self._on_diagnostics, reliable_qos(10)
            )

        def _on_image(self, image: Image) -> None:
            now = self.get_clock().now().nanoseconds
            self._log_entry('arrival', {'stamp_ns': to_ns(image.header.stamp), 'receipt_ns': now})

        def _on_info(self, info: StackInfo) -> None:
            self._log_entry('info', {name: getattr(info, name) for name in INFO_FIELDS})

        def _on_diagnostics(self, diagnostics: DiagnosticArray) -> None:
            for status in diagnostics.status:
                values = {entry.key: entry.value for entry in status.values}
                summary = CallbackSummary.from_values(values)
                if summary is not None:
                    self._log_entry('callbacks', asdict(summary))

        def _log_entry(self, kind: str, entry: dict[str, Any]) -> None:
            self._log.write(json.dumps({kind: entry}) + '\n')

        def close(self) -> None:
            """Close the log."""
            self._log.close()

    return Receiver()


if __name__ == '__main__':
    _topic, _reliability, _log = sys.argv[1:4]
    sys.exit(run(lambda: _create(_topic, _reliability, Path(_log)), []))
