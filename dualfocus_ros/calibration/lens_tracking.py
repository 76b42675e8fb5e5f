# SPDX-License-Identifier: Apache-2.0
"""Focus of a moving lens from images alone.

The images at rest at the positions of a sweep span a curve in the space of images. Interpolated
over focus, it locates the lens in every other image without a report of the driver.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math

import cv2
import numpy as np
from scipy.interpolate import CubicSpline

from dualfocus_ros.calibration.target_images import FocusImage, Region
from dualfocus_ros.exceptions import CalibrationError

MIN_POSITIONS = 4
MIN_STEPS = 6
MIN_FRAMES = 5  # of a step
SAME_FOCUS = 0.005  # dioptres
_THUMBNAIL = 128
_REST = 0.25  # of the frames of a step, at its end


@dataclass(frozen=True)
class LensCommand:
    """Focus command, with its time."""

    stamp_ns: int
    dioptres: float


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """Downscaled frame with the reported focus.

    :param values: (P,) float32 pixels, relative to their mean.
    :param reported: dioptres reported by the driver; NaN without a report.
    """

    stamp_ns: int
    values: np.ndarray
    reported: float = math.nan
    moving: bool = False


def make_thumbnail(image: FocusImage, region: Region | None = None) -> Thumbnail:
    """Return the thumbnail of an image, or of a region of it."""
    light = image.luminance(region)
    factor = min(1.0, _THUMBNAIL / max(light.shape))
    small = cv2.resize(light, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    values = (small / max(float(small.mean()), 1e-6)).astype(np.float32).ravel()
    return Thumbnail(image.stamp_ns, values, image.dioptres, image.moving)


def commands_from_reports(thumbnails: Sequence[Thumbnail]) -> list[LensCommand]:
    """Return a command at each change of the reported focus (libcamera repeats commands)."""
    commands: list[LensCommand] = []
    previous = math.nan
    for item in thumbnails:
        if math.isfinite(item.reported) and not abs(item.reported - previous) < SAME_FOCUS:
            if math.isfinite(previous):
                # The first frame that reports a change is the first one after the command.
                commands.append(LensCommand(item.stamp_ns - 1, item.reported))
            previous = item.reported
    return commands


@dataclass(frozen=True, eq=False)
class Dwell:
    """Command and the frames until the next command."""

    stamp_ns: int
    target: float
    frames: list[Thumbnail]
    rising: bool

    @property
    def rest(self) -> int:
        """Number of last frames in which the lens counts as at rest."""
        return max(2, round(_REST * len(self.frames)))

    def rest_image(self) -> np.ndarray:
        """Return the mean thumbnail (P,) of the frames at rest."""
        return np.asarray(np.mean([f.values for f in self.frames[-self.rest :]], axis=0))


def find_dwells(commands: Sequence[LensCommand], thumbnails: Sequence[Thumbnail]) -> list[Dwell]:
    """Return the dwells with enough frames.

    :param commands: in order of time; repetitions are ignored.
    :param thumbnails: all frames, in order of time.
    :raises CalibrationError: for too few steps, or too few frames per step.
    """
    changes: list[LensCommand] = []
    for command in commands:
        if not changes or abs(command.dioptres - changes[-1].dioptres) > SAME_FOCUS:
            changes.append(command)
    starts = np.searchsorted(
        [thumbnail.stamp_ns for thumbnail in thumbnails],
        [command.stamp_ns for command in changes],
        side='right',
    ).tolist()
    dwells = []
    ends = [*starts[1:], len(thumbnails)]
    previous = math.inf
    for command, first, last in zip(changes, starts, ends, strict=True):
        rising = command.dioptres > previous
        previous = command.dioptres
        frames = list(thumbnails[first:last])
        dwells.append(Dwell(command.stamp_ns, command.dioptres, frames, rising))
    # Incomplete at the start or the end of the recording.
    while dwells and len(dwells[-1].frames) < MIN_FRAMES:
        dwells.pop()
    while dwells and len(dwells[0].frames) < MIN_FRAMES:
        dwells.pop(0)
    if len(dwells) < MIN_STEPS + 1:
        raise CalibrationError(
            f'the recording has {max(len(dwells) - 1, 0)} whole steps of the lens: at least '
            f'{MIN_STEPS} are needed, better 20, up and down over the focus range'
        )
    short = sum(len(dwell.frames) < MIN_FRAMES for dwell in dwells)
    if short > 0.3 * len(dwells):
        raise CalibrationError(
            f'{short} of {len(dwells)} steps have fewer than {MIN_FRAMES} frames: wait longer at '
            'each position'
        )
    return [dwell for dwell in dwells if len(dwell.frames) >= MIN_FRAMES]


class RestImageCurve:
    """Images at rest as a function of focus, interpolated by a cubic spline.

    :raises CalibrationError: for too few different positions.
    """

    def __init__(self, dwells: Sequence[Dwell]) -> None:
        groups: dict[int, list[np.ndarray]] = {}
        for dwell in dwells:
            groups.setdefault(round(dwell.target / SAME_FOCUS), []).append(dwell.rest_image())
        keys = sorted(groups)
        self.targets = np.array([key * SAME_FOCUS for key in keys])
        if len(keys) < MIN_POSITIONS:
            raise CalibrationError(
                f'the lens was sent to {len(keys)} different positions: at least {MIN_POSITIONS} '
                'are needed, better 6 to 10'
            )
        self._images = np.stack([np.mean(groups[key], axis=0) for key in keys])
        self._gram = self._images.astype(np.float64) @ self._images.T.astype(np.float64)
        self._weights = CubicSpline(self.targets, np.eye(len(keys)))

    def is_unambiguous(self, start: float, end: float) -> bool:
        """Whether images between two positions get steadily closer to that at the end.

        They do not if the target is equally blurred before and beyond its focus.
        """
        at = self._weights(np.linspace(start, end, 21)) - self._weights(end)
        away = np.einsum('ij,jk,ik->i', at, self._gram, at)
        return bool(np.all(np.diff(away) < 0.0))

    def locate(self, frames: Sequence[Thumbnail], start: float, end: float) -> np.ndarray:
        """Return the focus of each frame in dioptres, within 120 % of the step."""
        step = end - start
        grid = np.linspace(start - 0.2 * step, end + 0.2 * step, 281)
        low, high = self.targets[0] - 0.1 * abs(step), self.targets[-1] + 0.1 * abs(step)
        grid = grid[(grid >= low) & (grid <= high)]
        weights = self._weights(grid)
        length = np.einsum('ij,jk,ik->i', weights, self._gram, weights)
        found = []
        for frame in frames:
            products = self._images @ frame.values
            distance = length - 2.0 * weights @ products.astype(np.float64)
            best, shift = int(np.argmin(distance)), 0.0
            if 0 < best < len(grid) - 1:
                a, b, c = distance[best - 1 : best + 2]
                shift = np.clip(0.5 * (a - c) / max(a - 2.0 * b + c, 1e-300), -0.5, 0.5)
            found.append(grid[best] + shift * (grid[1] - grid[0]))
        return np.array(found)
