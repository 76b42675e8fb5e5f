# SPDX-License-Identifier: Apache-2.0
"""Sources of lens readings for the sweep: messages of the camera, or the settling model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo

from dualfocus_ros.camera.lens_state import LensReading, PlaneTarget
from dualfocus_ros.msg import FocusState
from dualfocus_ros.nodes.messages.lens_messages import (
    frame_metadata,
    lens_position,
    lens_reading_from_msg,
)
from dualfocus_ros.nodes.qos import AdaptiveQosSubscription
from dualfocus_ros.stamps import to_ns
from dualfocus_ros.sweep.focus_sources import (
    CommandFocusSource,
    PositionFocusSource,
    SettlingModel,
)

_QUEUE_DEPTH = 10
OnReading = Callable[[LensReading], None]


class LensReadingSource(Protocol):
    """Source of one lens reading per frame."""

    subscription: AdaptiveQosSubscription

    def on_command(self, target: PlaneTarget) -> None:
        """Handle a command; NaN dioptres: the position is unknown from now on."""


class FocusStateSource:
    """Readings from ``focus_state``."""

    def __init__(self, node: Node, on_reading: OnReading) -> None:
        self._on_reading = on_reading
        self.subscription = AdaptiveQosSubscription(
            node, FocusState, 'focus_state', self._on_state, _QUEUE_DEPTH
        )

    def on_command(self, target: PlaneTarget) -> None:
        """Ignore the command."""

    def _on_state(self, msg: FocusState) -> None:
        self._on_reading(lens_reading_from_msg(msg))


class MetadataSource:
    """Readings from libcamera metadata, with the state by a settling model.

    The metadata hold the commanded position of each frame, not whether the lens has arrived.

    :param on_metadata: receives all metadata of each frame.
    """

    def __init__(
        self,
        node: Node,
        on_reading: OnReading,
        model: SettlingModel,
        on_metadata: Callable[[Mapping[str, str]], None],
    ) -> None:
        self._on_reading = on_reading
        self._on_metadata = on_metadata
        self._positions = PositionFocusSource(model)
        self.subscription = AdaptiveQosSubscription(
            node, DiagnosticArray, 'metadata', self._on_message, _QUEUE_DEPTH
        )

    def on_command(self, target: PlaneTarget) -> None:
        """Ignore the command."""

    def _on_message(self, msg: DiagnosticArray) -> None:
        metadata = frame_metadata(msg)
        dioptres = lens_position(metadata)
        if dioptres is None:
            return
        self._on_metadata(metadata)
        self._on_reading(self._positions.reading(to_ns(msg.header.stamp), dioptres))


class SettlingModelSource:
    """Readings from the settling model at the stamps of ``camera_info``, without feedback.

    The depth node computes the same states with ``focus_source: command``.
    """

    def __init__(self, node: Node, on_reading: OnReading, model: SettlingModel) -> None:
        self._on_reading = on_reading
        self._commands = CommandFocusSource(model)
        self.subscription = AdaptiveQosSubscription(
            node, CameraInfo, 'camera_info', self._on_camera_info, _QUEUE_DEPTH
        )

    def on_command(self, target: PlaneTarget) -> None:
        """Add a command."""
        self._commands.add_command(target)

    def _on_camera_info(self, msg: CameraInfo) -> None:
        reading = self._commands.reading(to_ns(msg.header.stamp))
        if reading is not None:
            self._on_reading(reading)
