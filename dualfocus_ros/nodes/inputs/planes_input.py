# SPDX-License-Identifier: Apache-2.0
"""Input `planes`: several cameras at fixed focus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dualfocus_ros.nodes.inputs.stack_source import FixedFocusSource
from dualfocus_ros.nodes.messages.image_decoding import MessageError
from dualfocus_ros.nodes.messages.input_messages import cameras_of
from dualfocus_ros.nodes.parameters.derived_settings import synchronizer_settings
from dualfocus_ros.sweep.assembler import SweepProgress
from dualfocus_ros.sweep.frames import Frame
from dualfocus_ros.sweep.plane_synchronizer import PlaneSynchronizer
from dualfocus_ros.sweep.stage_counter import Stage
from dualfocus_ros.topics import plane_image_name


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
            self._subscribe_image(plane_image_name(plane), self._frame_callback(plane))

    def tick(self, now_ns: int) -> None:
        self._synchronizer.settings = synchronizer_settings(self._settings())
        self._emit(self._synchronizer.tick(now_ns))

    def reset(self) -> None:
        super().reset()
        self._synchronizer.reset()

    def _frame_callback(self, plane: int) -> Callable[[Frame], None]:
        def on_frame(frame: Frame) -> None:
            camera, distorted = None, None
            rectify = self._settings().rectify == 'auto'
            try:
                camera, distorted = cameras_of(frame.image, self._calibration, rectify)
            except MessageError as error:  # depth without points is still possible
                self._stage_counter.reject(Stage.MATCHED, error.reason, str(error))
            self._emit(self._synchronizer.add(plane, frame, camera, distorted))

        return on_frame
