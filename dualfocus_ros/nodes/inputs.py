# SPDX-License-Identifier: Apache-2.0
"""Inputs of the depth node: a sweep, planes of several cameras, or whole stacks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray

from dualfocus_ros.camera.lens_state import LensReading
from dualfocus_ros.camera.rectification import CameraCalibration
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.msg import FocalStack as FocalStackMsg, FocusCommand, FocusState
from dualfocus_ros.nodes.messages.image_decoding import (
    MessageError,
    blank_image,
    decode_image,
    is_zero_copy,
)
from dualfocus_ros.nodes.messages.input_messages import cameras_of, focal_stack_from_msg
from dualfocus_ros.nodes.messages.lens_messages import (
    frame_metadata,
    lens_position,
    lens_reading_from_msg,
    plane_target_from_msg,
)
from dualfocus_ros.nodes.parameters.depth_parameters import DepthNodeSettings
from dualfocus_ros.nodes.parameters.derived_settings import (
    assembler_settings,
    settling_model,
    synchronizer_settings,
)
from dualfocus_ros.nodes.stack_source import StackSource
from dualfocus_ros.stamps import to_ns
from dualfocus_ros.sweep.assembler import SweepAssembler, SweepProgress
from dualfocus_ros.sweep.focus_sources import CommandFocusSource, PositionFocusSource
from dualfocus_ros.sweep.frames import Frame
from dualfocus_ros.sweep.plane_synchronizer import PlaneSynchronizer
from dualfocus_ros.sweep.stage_counter import Stage
from dualfocus_ros.topics import (
    FOCAL_STACK,
    FOCUS_COMMAND,
    FOCUS_STATE,
    IMAGE_RAW,
    METADATA,
    plane_image_name,
)


class SweepInput(StackSource):
    """One camera whose focus moves; images, focus and calibrations are matched by stamp."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        settings = self._settings()
        self.assembler = SweepAssembler(
            assembler_settings(settings), self._stage_counter, self._on_plane
        )
        self._applied: tuple[DepthNodeSettings, bool] | None = None
        self.commanded_focus = CommandFocusSource(settling_model(settings))
        self._reported = PositionFocusSource(settling_model(settings))

    @property
    def progress(self) -> SweepProgress | None:
        return self.assembler.progress

    @property
    def in_progress(self) -> bool:
        return self.assembler.in_progress

    def start(self) -> None:
        super().start()
        source = self._settings().focus_source
        if source == 'focus_state':
            self._subscribe(FocusState, FOCUS_STATE.name, self.on_focus_state)
            # For comparison with the reported focus; matching does not wait for it.
            self._subscribe(FocusCommand, FOCUS_COMMAND.name, self._on_compared_command)
        elif source == 'camera_ros':
            self._subscribe(DiagnosticArray, METADATA.name, self.on_metadata)
        else:
            self._subscribe(FocusCommand, FOCUS_COMMAND.name, self.on_command)
        # Last, so that the small messages of the first image are not missed.
        self._subscribe_image(IMAGE_RAW.name, self.on_frame)

    def tick(self, now_ns: int) -> None:
        self._apply()
        self._emit(self.assembler.tick(now_ns))

    def _on_plane(self, plane: Plane) -> None:
        if self._enabled:
            self._emit_plane(plane)

    def reset(self) -> None:
        super().reset()
        self.assembler.reset()
        self.commanded_focus.clear()
        self._reported.clear()

    def _apply(self) -> None:
        settings = self._settings()
        if self._applied is None or (settings, self._enabled) != self._applied:
            self._applied = (settings, self._enabled)
            assembler = assembler_settings(settings)
            self.assembler.settings = assembler
            self.commanded_focus.model = self._reported.model = settling_model(settings)

    def on_frame(self, frame: Frame) -> None:
        self._apply()
        if self._settings().focus_source == 'command':
            reading = self.commanded_focus.reading(frame.stamp_ns)
            if reading is None:
                self._stage_counter.reject(
                    Stage.MATCHED, 'no_focus', 'no focus_command from before this image'
                )
                return
            self._add_reading(reading)
        self._emit(self.assembler.add_frame(frame))

    def _add_reading(self, reading: LensReading) -> None:
        self.lens = reading
        self._emit(self.assembler.add_reading(reading))

    def on_focus_state(self, msg: FocusState) -> None:
        self._add_reading(lens_reading_from_msg(msg))

    def _on_compared_command(self, msg: FocusCommand) -> None:
        now_ns = self._node.get_clock().now().nanoseconds
        self.assembler.add_command(plane_target_from_msg(msg, now_ns))

    def on_metadata(self, msg: DiagnosticArray) -> None:
        metadata = frame_metadata(msg)
        if not metadata:
            return
        dioptres = lens_position(metadata)
        if dioptres is None:
            self._stage_counter.reject(
                Stage.MATCHED,
                'no_lens_position',
                'metadata without the key LensPosition: the camera needs an autofocus lens, and '
                'AfMode must be manual',
            )
            return
        self._add_reading(self._reported.reading(to_ns(msg.header.stamp), dioptres))

    def on_command(self, msg: FocusCommand) -> None:
        now_ns = self._node.get_clock().now().nanoseconds
        misled = self.commanded_focus.add_command(plane_target_from_msg(msg, now_ns))
        if misled:
            self.assembler.drop_sweep(
                'late_command',
                f'the command to go to {msg.focus_dioptres:.3f} dioptres came '
                f'after {misled} images that were taken later: their focus is not known',
            )

    def _on_calibration(self, stamp: int, calibration: CameraCalibration) -> None:
        self._emit(self.assembler.add_camera(stamp, calibration))


class FixedFocusSource(StackSource):
    """Base of inputs whose calibration is independent of focus: the newest one applies."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.calibration: CameraCalibration | None = None

    def _on_calibration(self, stamp: int, calibration: CameraCalibration) -> None:
        self.calibration = calibration


class PlanesInput(FixedFocusSource):
    """Several cameras at fixed focus, or several sensors behind one lens; matched by stamp."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._synchronizer = PlaneSynchronizer(
            synchronizer_settings(self._settings()), self._stage_counter
        )

    @property
    def progress(self) -> SweepProgress | None:
        settings = self._synchronizer.settings
        return SweepProgress(self._synchronizer.waiting, len(settings.focus_dioptres))

    @property
    def in_progress(self) -> bool:
        return self._synchronizer.waiting > 0

    def start(self) -> None:
        super().start()
        for plane in range(len(self._settings().planes_focus_dioptres)):
            self._subscribe_image(plane_image_name(plane), self.frame_callback(plane))

    def tick(self, now_ns: int) -> None:
        self._synchronizer.settings = synchronizer_settings(self._settings())
        self._emit(self._synchronizer.tick(now_ns))

    def reset(self) -> None:
        super().reset()
        self._synchronizer.reset()

    def frame_callback(self, plane: int) -> Callable[[Frame], None]:
        def on_frame(frame: Frame) -> None:
            camera, distorted = None, None
            rectify = self._settings().rectify == 'auto'
            try:
                camera, distorted = cameras_of(frame.image, self.calibration, rectify)
            except MessageError as error:  # depth without points is still possible
                self._stage_counter.reject(Stage.MATCHED, error.reason, str(error))
            self._emit(self._synchronizer.add(plane, frame, camera, distorted))

        return on_frame


class StackInput(FixedFocusSource):
    """Whole stacks, one per ``FocalStack`` message."""

    max_pending = 4

    def start(self) -> None:
        super().start()
        self.images.append(self._subscribe(FocalStackMsg, FOCAL_STACK.name, self.on_stack))

    def tick(self, now_ns: int) -> None:
        """Do nothing: no stack is assembled here."""

    def on_stack(self, msg: FocalStackMsg) -> None:
        self._stage_counter.count(Stage.RECEIVED)
        self.arrivals.record()
        settings = self._settings()
        self._convert(
            not self._enabled or all(is_zero_copy(image) for image in msg.images),
            partial(
                focal_stack_from_msg,
                msg,
                settings.max_pixels,
                settings.rectify == 'auto',
                self.calibration,
                decode_image if self._enabled else blank_image,
            ),
            self._on_converted_stack,
        )

    def _on_converted_stack(self, stack: FocalStack) -> None:
        for stage in (Stage.VALID, Stage.MATCHED, Stage.STACKED):
            self._stage_counter.count(stage)
        self._emit([stack])


# Input of each value of the parameter `input`.
INPUTS: dict[str, Callable[..., StackSource]] = {
    'sweep': SweepInput,
    'planes': PlanesInput,
    'stack': StackInput,
}
