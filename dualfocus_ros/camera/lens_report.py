# SPDX-License-Identifier: Apache-2.0
"""Depth error, range limit, breathing and sweep of a lens over a range of distances."""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import Any

from dualfocus_ros.camera.depth_resolution import (
    BLUR_ERROR,
    MAX_RELATIVE_ERROR,
    depth_error,
    hyperfocal_distance,
    range_limit,
    sweep_planes,
)
from dualfocus_ros.camera.thin_lens import Lens

# Listed distances in metres, together with the ends of the range.
_DISTANCES = (0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 50.0)


@dataclass(frozen=True)
class LensReport:
    """Depth measurement with a lens over a range; lengths in metres, blur in pixels.

    :param kappa: blur in pixels per dioptre of defocus.
    :param lens: the lens; None if only kappa is known.
    :param width: width of the images in pixels; None if unknown.
    :param blur_error: error of an estimated blur diameter.
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
        lens = self.lens
        return {
            'focal_length_m': None if lens is None else lens.focal_length,
            'f_number': None if lens is None else lens.f_number,
            'pixel_pitch_m': None if lens is None else lens.pixel_pitch,
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
    :param near: metres.
    :param far: metres, or infinity.
    :raises ValueError: for an invalid range, or one that the lens cannot focus.
    """
    known = lens if isinstance(lens, Lens) else None
    kappa = lens.kappa() if isinstance(lens, Lens) else lens
    planes = sweep_planes(near, far, kappa, blur)
    distances = [near, *(z for z in _DISTANCES if near < z < far)]
    if math.isfinite(far):
        distances.append(far)
    return LensReport(
        kappa=kappa,
        lens=known,
        width=width,
        near=near,
        far=far,
        blur_error=blur_error,
        blur=blur,
        errors=[(z, depth_error(z, kappa, blur_error)) for z in distances],
        hyperfocal=hyperfocal_distance(kappa),
        limit=range_limit(kappa, blur_error=blur_error),
        planes=planes,
        breathing=None if known is None else known.magnification(planes[-1], planes[0]) - 1.0,
    )
