# SPDX-License-Identifier: Apache-2.0
"""Images of a sweep, before and after they are matched with a lens reading."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dualfocus_ros.camera.lens_state import LensReading
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import CameraCalibration
from dualfocus_ros.focal_stack import Plane


@dataclass(frozen=True, eq=False)
class Frame:
    """One image as received.

    :param image: (H, W, 3) RGB or (H, W) mono, uint8; owned by the receiver.
    :param encoding: encoding of the message, used only to detect changes.
    """

    stamp_ns: int
    image: np.ndarray
    frame_id: str = ''
    encoding: str = ''

    @property
    def format(self) -> tuple[tuple[int, ...], str, str]:
        """Shape, encoding and frame id, which are constant within one stack."""
        return self.image.shape, self.encoding, self.frame_id


@dataclass(frozen=True, eq=False)
class MatchedFrame:
    """A frame with its lens reading and, if available, its calibration.

    :param calibration: calibration of the raw image; None: nothing to rectify.
    :param camera: intrinsics of the rectified image.
    :param span_ns: first and last stamp of all frames at this position; None: only this one.
    """

    frame: Frame
    lens: LensReading
    calibration: CameraCalibration | None = None
    camera: PinholeCamera | None = None
    span_ns: tuple[int, int] | None = None

    @property
    def stamp_ns(self) -> int:
        """Stamp of the image."""
        return self.frame.stamp_ns

    @property
    def plane(self) -> Plane:
        """Plane of a focal stack."""
        lens = self.lens
        return Plane(
            self.frame.image,
            lens.dioptres,
            self.stamp_ns,
            self.camera,
            lens.plane_index,
            self.calibration,
        )

    @property
    def first_ns(self) -> int:
        """First stamp at this lens position."""
        return self.stamp_ns if self.span_ns is None else self.span_ns[0]

    @property
    def last_ns(self) -> int:
        """Last stamp at this lens position."""
        return self.stamp_ns if self.span_ns is None else self.span_ns[1]
