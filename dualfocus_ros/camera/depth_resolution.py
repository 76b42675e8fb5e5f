# SPDX-License-Identifier: Apache-2.0
"""Depth resolution of a lens: expected error, range limit, sweep planes and lens report.

The circle of confusion of a point at inverse depth q is kappa |q_s - q| pixels wide, with focus
q_s and ``Lens.kappa`` at infinity focus. So an error of delta pixels of blur is an error of
delta / kappa dioptres at every depth, and to first order of z^2 delta / kappa metres.
"""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import Any

from dualfocus_ros.camera.thin_lens import Lens

# Error of the blur diameter in pixels, above 68 % of the errors of the network on rendered scenes:
# mean of 25 sweeps through lenses of 2.5 to 16 px per dioptre, 0.13 to 0.31 with any lens.
BLUR_ERROR = 0.2
# Expected error relative to the depth at the range limit.
MAX_RELATIVE_ERROR = 0.10


def inverse_depth_error(kappa: float, blur_error: float = BLUR_ERROR) -> float:
    """Return the expected error of inverse depth, delta / kappa, in dioptres."""
    return blur_error / kappa


def depth_error(depth: float, kappa: float, blur_error: float = BLUR_ERROR) -> float:
    """Return the expected error at ``depth`` metres, z^2 delta / kappa, in metres."""
    return depth * depth * inverse_depth_error(kappa, blur_error)


def range_limit(
    kappa: float, share: float = MAX_RELATIVE_ERROR, blur_error: float = BLUR_ERROR
) -> float:
    """Return the distance z in metres where z^2 delta / kappa = share z: share kappa / delta."""
    return share * kappa / blur_error


def hyperfocal_distance(kappa: float, blur: float = 1.0) -> float:
    """Return the focus s in metres with at most ``blur`` px of blur from s / 2 to infinity.

    Infinity is 1 / s dioptres from the focus, so s = kappa / blur: F^2 / (A c) without + F.
    """
    return kappa / blur


def sweep_planes(near: float, far: float, kappa: float, blur: float = 2.0) -> list[float]:
    """Return a sweep in which every point has at most ``blur`` px of blur in its best plane.

    Planes are uniform in dioptres, at most 2 blur / kappa apart.

    :param near: nearest depth in metres; ``far`` may be infinity.
    :returns: focus in dioptres from far to near, two planes or more.
    :raises ValueError: unless 0 < near < far.
    """
    if not 0.0 < near < far:
        raise ValueError(f'the range must be from near to far, both above 0, got {near:g} {far:g}')
    low, high = 1.0 / far, 1.0 / near
    # Rounding must not add a plane to a whole number of spacings.
    gaps = max(1, math.ceil((high - low) * kappa / (2.0 * blur) - 1e-9))
    return [low + (high - low) * n / gaps for n in range(gaps + 1)]


@dataclass(frozen=True)
class RangeCheck:
    """Largest requested depth against the range limit of a lens, both in metres."""

    requested: float
    limit: float
    kappa: float

    @property
    def exceeded(self) -> bool:
        return self.requested > self.limit

    def __str__(self) -> str:
        text = (
            f'the expected error reaches {MAX_RELATIVE_ERROR:.0%} of the depth at '
            f'{self.limit:.2f} m ({self.kappa:.3g} px of blur per dioptre)'
        )
        if not self.exceeded:
            return f'{text}; requested depth: up to {self.requested:.2f} m'
        end = 'infinity'
        if math.isfinite(self.requested):
            error = depth_error(self.requested, self.kappa)
            end = f'{self.requested:.2f} m, where the expected error is {error:.2g} m'
        return (
            f'{text}; requested depth: beyond that, up to {end}; '
            'lower the maximum depth, or focus the farthest plane nearer'
        )


def check_range(kappa: float, depth_max: float, far_dioptres: float) -> RangeCheck:
    """Compare the requested range with the range limit of a lens.

    The requested range ends at the farthest plane or at ``depth_max``, the nearer of the two.

    :param depth_max: metres.
    :param far_dioptres: focus of the farthest plane; 0 or less is infinity.
    """
    far = 1.0 / far_dioptres if far_dioptres > 0.0 else math.inf
    return RangeCheck(min(depth_max, far), range_limit(kappa), kappa)


# Listed distances in metres, together with the ends of the range.
_DISTANCES = (0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 50.0)


@dataclass(frozen=True)
class LensReport:
    """Depth measurement with a lens over a range; lengths in metres, blur in pixels.

    :param lens: None if only kappa is known.
    :param width: width of the images in pixels; None if unknown.
    :param blur: largest blur of a point in its sharpest plane.
    :param errors: distance and expected depth error, near to far.
    :param limit: distance beyond which the expected error exceeds ``MAX_RELATIVE_ERROR`` of it.
    :param planes: suggested sweep in dioptres, far to near.
    :param breathing: relative growth of the image from far to near focus; None without lens.
    """

    kappa: float
    lens: Lens | None
    width: int | None
    near: float
    far: float
    blur_error: float
    blur: float
    errors: list[tuple[float, float]]
    hyperfocal: float
    limit: float
    planes: list[float]
    breathing: float | None

    @property
    def breathing_edge_px(self) -> float | None:
        """Displacement of the image edge by breathing in pixels; None if unknown."""
        if self.breathing is None or self.width is None:
            return None
        return 0.5 * self.width * self.breathing

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            'focal_length_m': self.lens and self.lens.focal_length,
            'f_number': self.lens and self.lens.f_number,
            'pixel_pitch_m': self.lens and self.lens.pixel_pitch,
            'image_width_px': self.width,
            'kappa_px_per_dioptre': self.kappa,
            'blur_error_px': self.blur_error,
            'sigma_dioptres': self.blur_error / self.kappa,
            'range_m': [self.near, self.far if math.isfinite(self.far) else None],
            'errors': [
                {'distance_m': z, 'error_m': error, 'share': error / z} for z, error in self.errors
            ],
            'range_limit_m': self.limit,
            'range_limit_share': MAX_RELATIVE_ERROR,
            'hyperfocal_m': self.hyperfocal,
            'blur_px': self.blur,
            'planes_dioptres': [round(q, 6) for q in self.planes],
            'breathing': self.breathing,
            'breathing_edge_px': self.breathing_edge_px,
        }


def analyze_lens(
    lens: Lens | float,
    near: float,
    far: float,
    *,
    width: int | None = None,
    blur_error: float = BLUR_ERROR,
    blur: float = 2.0,
) -> LensReport:
    """Return the report of a lens.

    :param lens: the lens, or its kappa in pixels per dioptre.
    :param near: metres; ``far`` may be infinity.
    :raises ValueError: for an invalid range, or one that the lens cannot focus.
    """
    known, kappa = (lens, lens.kappa()) if isinstance(lens, Lens) else (None, lens)
    planes = sweep_planes(near, far, kappa, blur)
    distances = [near, *(z for z in _DISTANCES if near < z < far), far]
    return LensReport(
        kappa=kappa,
        lens=known,
        width=width,
        near=near,
        far=far,
        blur_error=blur_error,
        blur=blur,
        errors=[(z, depth_error(z, kappa, blur_error)) for z in distances if z < math.inf],
        hyperfocal=hyperfocal_distance(kappa),
        limit=range_limit(kappa, blur_error=blur_error),
        planes=planes,
        breathing=None if known is None else known.magnification(planes[-1], planes[0]) - 1.0,
    )
