# SPDX-License-Identifier: Apache-2.0
"""Result of an alignment: map of each plane of a focal stack onto its reference plane."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from dualfocus_ros.alignment import registration

# Parameters of the smooth displacement: affine (6), perspective (2), radial (1).
SMOOTH_PARAMETERS = 9


@dataclass(frozen=True, eq=False)
class Alignment:
    """Map of each plane of a stack onto the reference plane.

    A reference pixel x lies in plane n at ``transforms[n] (x + B(x) smooth[n])``, with B from
    :func:`smooth_basis`.

    :param transforms: (N, 3, 3) float64 homographies in pixels.
    :param displacement_px: (N,) root mean square displacement over the image; NaN where
        registration failed.
    :param reference: index of the reference plane.
    :param smooth: (N, 9) float64 parameters of a smooth displacement, in pixels of the reference
        plane; zero with the model ``shift_scale``.
    :param residuals_px: (N,) median shift of tiles against the reference plane after alignment;
        NaN for too little texture, and with the model ``shift_scale``.
    """

    transforms: np.ndarray
    displacement_px: np.ndarray
    reference: int
    smooth: np.ndarray
    residuals_px: np.ndarray

    @property
    def failed(self) -> tuple[int, ...]:
        """Indices of the planes that could not be registered."""
        return tuple(int(n) for n in np.flatnonzero(np.isnan(self.displacement_px)))

    @property
    def max_displacement_px(self) -> float:
        """Largest displacement of a plane; NaN if no plane could be registered."""
        known = self.displacement_px[np.isfinite(self.displacement_px)]
        return float(known.max()) if len(known) > 1 else float('nan')

    def is_identity(self, index: int) -> bool:
        """Return whether the plane needs no resampling."""
        same = np.array_equal(self.transforms[index], np.eye(3))
        return same and not self.smooth[index].any()

    def at_full_size(self, scale: float) -> Alignment:
        """Return the alignment in pixels of the images that were scaled by ``scale`` before it."""
        if scale == 1.0:
            return self
        scaling = registration.pixel_scaling(scale)
        transforms = np.linalg.inv(scaling) @ self.transforms @ scaling
        transforms /= transforms[:, 2:, 2:]
        # Rounding must not make a plane that needs no resampling look displaced.
        unmoved = [np.array_equal(transform, np.eye(3)) for transform in self.transforms]
        transforms[unmoved] = np.eye(3)
        return replace(
            self,
            transforms=transforms,
            displacement_px=self.displacement_px / scale,
            smooth=self.smooth / scale,
            residuals_px=self.residuals_px / scale,
        )

    def map_points(self, index: int, points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Map reference pixels (M, 2) to plane ``index``.

        :param shape: height and width of the planes.
        """
        if self.smooth[index].any():
            points = points + smooth_basis(points, shape) @ self.smooth[index]
        return registration.transform_points(self.transforms[index], points)

    def sample_positions(self, index: int, height: int, width: int) -> np.ndarray:
        """Return the position x, y of each reference pixel in a plane: (H, W, 2) float32."""
        # Row by row: large photographs need no more memory than their result.
        positions = np.empty((height, width, 2), np.float32)
        for row in range(height):
            points = np.column_stack([np.arange(width), np.full(width, float(row))])
            positions[row] = self.map_points(index, points, (height, width))
        return positions


def identity_alignment(count: int, reference: int) -> Alignment:
    """Return the alignment of ``count`` planes that need no resampling."""
    return Alignment(
        transforms=np.tile(np.eye(3), (count, 1, 1)),
        displacement_px=np.zeros(count),
        reference=reference,
        smooth=np.zeros((count, SMOOTH_PARAMETERS)),
        residuals_px=np.full(count, np.nan),
    )


def smooth_basis(points: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return (M, 2, 9): displacement of each point by a unit of each smooth parameter.

    Coordinates are relative to the image centre, in units of half the width. The parameters are
    shift (2), linear (4), perspective (x^2, xy; xy, y^2) and radial distortion (x r^2, y r^2).
    """
    x = (points[:, 0] - (shape[1] - 1) / 2) / (shape[1] / 2)
    y = (points[:, 1] - (shape[0] - 1) / 2) / (shape[1] / 2)
    one, zero, r2 = np.ones_like(x), np.zeros_like(x), x * x + y * y
    along_x = [one, zero, x, y, zero, zero, x * x, x * y, x * r2]
    along_y = [zero, one, zero, zero, x, y, x * y, y * y, y * r2]
    return np.stack([np.stack(along, axis=-1) for along in (along_x, along_y)], axis=1)
