# SPDX-License-Identifier: Apache-2.0
"""Where the sweep learns from what the lens did: from the camera's reports, or from a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo

from dualfocus_ros.msg import FocusState
from dualfocus_ros.nodes.input_messages import stamp_ns
from dualfocus_ros.nodes.qos import AdaptiveQosSubscription
from dualfocus_ros.sweep.focus_sources import (
    CommandFocusSource,
    FocusOrder,
    PositionFocusSource,
    SettlingModel,
    lens_position,
)
from dualfocus_ros.sweep.sweep_controller import PlaneTarget, Report
from dualfocus_ros.sweep.time_synchronizer import LensReading, LensState

_KEPT = 10
Take = Callable[[Report], None]


class LensReadingSource(Protocol):
    """A source of reports, one a frame.

    :ivar subscription: what it listens to.
    """

    subscription: AdaptiveQosSubscription

    def ordered(self, order: FocusOrder) -> None:
        """Note that the lens was sent somewhere; NaN dioptres: it is not known where."""


class FocusStateSource:
    """From ``FocusState``, which says all that there is to say."""

    def __init__(self, node: Node, take: Take) -> None:
        self._take = take
        self.subscription = AdaptiveQosSubscription(
            node, FocusState, 'focus_state', self._on_state, _KEPT
        )

    def ordered(self, order: FocusOrder) -> None:
        pass

    def _on_state(self, msg: FocusState) -> None:
        try:
            state = LensState(msg.state)
        except ValueError:
            state = LensState.UNKNOWN
        step = PlaneTarget(msg.focus_dioptres, msg.sweep_id, msg.plane_index, msg.plane_count)
        self._take(Report(msg.focus_dioptres, state, step))


class MetadataSource:
    """From the metadata of camera_ros: where the lens was told to be for this very frame.

    It still takes the model's time to get there.

    :param observe: takes all metadata of each frame.
    """

    def __init__(
        self,
        node: Node,
        take: Take,
        model: SettlingModel,
        observe: Callable[[Mapping[str, str]], None],
    ) -> None:
        self._take = take
        self._observe = observe
        self._reported = PositionFocusSource(model)
        self.subscription = AdaptiveQosSubscription(
            node, DiagnosticArray, 'metadata', self._on_metadata, _KEPT
        )

    def ordered(self, order: FocusOrder) -> None:
        pass

    def _on_metadata(self, msg: DiagnosticArray) -> None:
        # On /diagnostics, where camera_ros publishes, other nodes' statuses come too; they have
        # names, those of frames have not.
        pairs = {
            value.key: value.value
            for status in msg.status
            if not status.name
            for value in status.values
        }
        dioptres = lens_position(pairs.items())
        if dioptres is None:
            return
        self._observe(pairs)
        self._take(_report(self._reported.report(stamp_ns(msg.header.stamp), dioptres)))


class SettlingModelSource:
    """From the settling model, by the stamps of ``camera_info``, for drivers that report nothing.

    The depth node takes the same frames as settled with ``focus_source: command``.
    """

    def __init__(self, node: Node, take: Take, model: SettlingModel) -> None:
        self._take = take
        self._commanded = CommandFocusSource(model)
        self.subscription = AdaptiveQosSubscription(
            node, CameraInfo, 'camera_info', self._on_camera_info, _KEPT
        )

    def ordered(self, order: FocusOrder) -> None:
        self._commanded.add_command(order)

    def _on_camera_info(self, msg: Any) -> None:
        report = self._commanded.report(stamp_ns(msg.header.stamp))
        if report is not None:
            self._take(_report(report))


def _report(report: LensReading) -> Report:
    step = PlaneTarget(report.dioptres, report.sweep_id, report.plane_index, report.plane_count)
    return Report(report.dioptres, report.state, step)
