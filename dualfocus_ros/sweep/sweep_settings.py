# SPDX-License-Identifier: Apache-2.0
"""Settings of a focus sweep: planes, mode, pattern and timing."""

from __future__ import annotations

from dataclasses import dataclass
import math

from dualfocus_ros.focal_stack import MAX_PLANES, MIN_PLANES

MODES = ('continuous', 'once', 'hold')
PATTERNS = ('triangle', 'sawtooth')


def uniform_planes(near: float, far: float, count: int) -> tuple[float, ...]:
    """Return ``count`` focus positions in dioptres, evenly spaced from near to far.

    :raises ValueError: unless 0 <= far < near and 2 <= count <= 32.
    """
    if not 0.0 <= far < near:
        raise ValueError(f'planes need 0 <= far < near dioptres, got near={near:g}, far={far:g}')
    if not MIN_PLANES <= count <= MAX_PLANES:
        raise ValueError(f'a sweep has {MIN_PLANES} to {MAX_PLANES} planes, got {count}')
    return tuple(near + (far - near) * index / (count - 1) for index in range(count))


@dataclass(frozen=True)
class SweepSettings:
    """Settings of a focus sweep.

    :param planes: focus positions in dioptres, in the order of the first sweep.
    :param mode: ``continuous``; ``once``: one sweep per request; ``hold``: rest at ``hold``.
    :param pattern: ``triangle`` reverses at the ends, ``sawtooth`` returns to the first plane.
    :param hold: position in dioptres of mode ``hold``.
    :param tolerance: largest distance in dioptres between reading and target on target.
    :param settle_frames: frames on target before the next plane.
    :param settle_time: seconds on target before the next plane.
    :param model_time: seconds per plane without readings.
    :param report_timeout: seconds without a reading after which none is expected; three times
        as long before the first reading.
    :param resend_time: seconds after which a command is repeated while the lens is off target.
    :param plane_timeout: seconds after which a plane is skipped.
    :raises ValueError: for values that do not make a sweep.
    """

    planes: tuple[float, ...]
    mode: str = 'continuous'
    pattern: str = 'triangle'
    hold: float = 1.0
    tolerance: float = 0.02
    settle_frames: int = 1
    settle_time: float = 0.0
    model_time: float = 0.3
    report_timeout: float = 1.0
    resend_time: float = 0.5
    plane_timeout: float = 4.0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f'mode must be one of {", ".join(MODES)}, got {self.mode!r}')
        if self.pattern not in PATTERNS:
            raise ValueError(f'pattern must be one of {", ".join(PATTERNS)}, got {self.pattern!r}')
        if not MIN_PLANES <= len(self.planes) <= MAX_PLANES:
            raise ValueError(
                f'a sweep has {MIN_PLANES} to {MAX_PLANES} planes, got {len(self.planes)}'
            )
        if not all(math.isfinite(plane) and plane >= 0.0 for plane in self.planes):
            raise ValueError(f'planes must be dioptres from 0 on, got {list(self.planes)}')
        closest = min(abs(a - b) for a, b in zip(self.planes, self.planes[1:], strict=False))
        if closest <= self.tolerance:
            raise ValueError(
                f'neighbouring planes are {closest:.3f} dioptres apart, which must exceed the '
                f'tolerance of {self.tolerance:g}: use fewer planes or a smaller tolerance'
            )
