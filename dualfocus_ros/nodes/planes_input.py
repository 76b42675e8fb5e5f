# SPDX-License-Identifier: Apache-2.0
"""Input `planes`: several cameras at fixed focus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dualfocus_ros.nodes.derived_settings import synchronizer_settings
from dualfocus_ros.nodes.stack_source import FixedFocusSource
from dualfocus_ros.sweep.assembler import SweepProgress
from dualfocus_ros.sweep.frames import Frame
from dualfocus_ros.sweep.plane_synchronizer import PlaneSynchronizer
from dualfocus_ros.sweep.stage_counter import Stage


class PlanesInput(FixedFocusSource):
    """Several cameras at fixed focus, or several sensors behind one lens; matched by stamp."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._synchroniser = PlaneSynchronizer(
            synchronizer_settings(self._settings()), self._stage_counter
        )

    @property
    def progress(self) -> SweepProgress | None:
        settings = self._synchroniser.settings
        return SweepProgress(self._synchroniser.waiting, len(settings.focus_dioptres))

    @property
    def in_progress(self) -> bool:
        return self._synchroniser.waiting > 0

    def start(self) -> None:
        super().start()
        for plane in range(len(self._settings().planes_focus_dioptres)):
            self._subscribe_image(f'plane_{plane}/image_raw', self._frame_callback(plane))

    def tick(self, now_ns: int) -> None:
        self._synchroniser.settings = synchronizer_settings(self._settings())
        self._emit(self._synchroniser.tick(now_ns))

    def reset(self) -> None:
        super().reset()
        self._synchroniser.reset()

    def _frame_callback(self, plane: int) -> Callable[[Frame], None]:
        def on_frame(frame: Frame) -> None:
            camera, distorted = None, None
            calibration = self._calibration
            if calibration is not None:
                height, width = frame.image.shape[:2]
                if (calibration.camera.width, calibration.camera.height) != (width, height):
                    self._stage_counter.reject(
                        Stage.MATCHED, 'camera_size', f'camera_info is not for {width}x{height}'
                    )
                else:
                    camera = calibration.output
                    if self._settings().rectify == 'auto' and not calibration.is_rectified:
                        distorted = calibration
            self._emit(self._synchroniser.add(plane, frame, camera, distorted))

        return on_frame
