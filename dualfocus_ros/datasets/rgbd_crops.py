# SPDX-License-Identifier: Apache-2.0
"""Training scenes from images with depth: random parts, normalised range, holes filled."""

from __future__ import annotations

import cv2
import numpy as np
from scipy.ndimage import distance_transform_edt

from dualfocus_ros.datasets.samples import RgbdSample
from dualfocus_ros.simulation.random_stacks.random_scenes import POSITION_RANGE, TrainingScene

# A part of which less is known says little about depth; after some tries it is taken anyway.
MIN_VALID_SHARE = 0.6
MAX_TRIES = 8
# Share of the pixels at either end that may lie outside the range: stray values of a sensor.
OUTLIER_SHARE = 0.005


def random_rgbd_crop(rng: np.random.Generator, view: RgbdSample, size: int) -> TrainingScene:
    """Return a random part of a view, flipped at random, as ``size`` x ``size`` pixels.

    Depth that is not known is filled from the nearest pixel that is, so that it can be rendered;
    :attr:`TrainingScene.known` leaves it out of the truth.
    """
    height, width = view.depth.shape
    shorter = min(height, width)
    for _ in range(MAX_TRIES):
        side = int(rng.integers(min(size, shorter), shorter + 1))
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        window = np.s_[top : top + side, left : left + side]
        depth = cv2.resize(view.depth[window], (size, size), interpolation=cv2.INTER_NEAREST)
        known = np.isfinite(depth)
        if known.mean() >= MIN_VALID_SHARE:
            break
    area = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    colour = cv2.resize(view.colour[window], (size, size), interpolation=area)
    if not known.any():
        depth, known = np.ones_like(depth), np.zeros_like(known)
    dioptres = 1.0 / _filled(depth, known)
    low, high = np.quantile(
        dioptres[known] if known.any() else dioptres, (OUTLIER_SHARE, 1.0 - OUTLIER_SHARE)
    )
    position = np.clip((dioptres - low) / max(float(high - low), 1e-3), *POSITION_RANGE)
    flip = np.s_[:, ::-1] if rng.random() < 0.5 else np.s_[:, :]
    return TrainingScene(
        np.ascontiguousarray(colour[flip], np.float32) / np.float32(255.0),
        np.ascontiguousarray(position[flip], np.float32),
        None if known.all() else np.ascontiguousarray(known[flip]),
    )


def _filled(depth: np.ndarray, known: np.ndarray) -> np.ndarray:
    if known.all() or not known.any():
        return depth
    rows, columns = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return np.asarray(depth[rows, columns])
