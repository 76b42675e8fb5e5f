# SPDX-License-Identifier: Apache-2.0
"""Training scenes from RGB-D images: random crops with normalized range and filled holes."""

from __future__ import annotations

import cv2
import numpy as np

from dualfocus_ros.datasets.samples import RgbdSample
from dualfocus_ros.simulation.depth_resampling import fill_holes
from dualfocus_ros.simulation.random_stacks.random_scenes import POSITION_RANGE, TrainingScene

# Required share of pixels with depth in a crop; after MAX_TRIES any crop is accepted.
MIN_VALID_SHARE = 0.6
MAX_TRIES = 8
# Share of pixels at either end that may lie outside of the range: outliers of the depth sensor.
OUTLIER_SHARE = 0.005


def random_rgbd_crop(rng: np.random.Generator, image: RgbdSample, size: int) -> TrainingScene:
    """Return a random square crop, flipped at random, resized to ``size`` x ``size``.

    Unknown depth takes the nearest known value so that it can be rendered;
    :attr:`TrainingScene.known` excludes it from the truth.
    """
    height, width = image.depth.shape
    shorter = min(height, width)
    for _ in range(MAX_TRIES):
        side = int(rng.integers(min(size, shorter), shorter + 1))
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        window = np.s_[top : top + side, left : left + side]
        depth = cv2.resize(image.depth[window], (size, size), interpolation=cv2.INTER_NEAREST)
        known = np.isfinite(depth)
        if known.mean() >= MIN_VALID_SHARE:
            break
    interpolation = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
    colour = cv2.resize(image.colour[window], (size, size), interpolation=interpolation)
    if known.any():
        dioptres = 1.0 / fill_holes(depth)
        low, high = np.quantile(dioptres[known], (OUTLIER_SHARE, 1.0 - OUTLIER_SHARE))
    else:
        dioptres, low, high = np.ones_like(depth), 1.0, 1.0
    position = np.clip((dioptres - low) / max(float(high - low), 1e-3), *POSITION_RANGE)
    flip = np.s_[:, ::-1] if rng.random() < 0.5 else np.s_[:, :]
    return TrainingScene(
        np.ascontiguousarray(colour[flip], np.float32) / np.float32(255.0),
        np.ascontiguousarray(position[flip], np.float32),
        None if known.all() else np.ascontiguousarray(known[flip]),
    )
