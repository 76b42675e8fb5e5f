# SPDX-License-Identifier: Apache-2.0
"""Small images to generate training stacks from."""

from __future__ import annotations

import numpy as np

from dualfocus_ros.datasets.samples import RgbdSample


def make_photograph() -> np.ndarray:
    """Return a detailed image, (90, 120, 3) uint8, with values from 40 to 199."""
    return np.random.default_rng(3).integers(40, 200, (90, 120, 3), dtype=np.uint8)


def make_rgbd_image(*, holes: bool = False) -> RgbdSample:
    """Return a slanted floor with a box in front, 100 x 140 pixels."""
    depth = np.linspace(3.0, 1.0, 100, dtype=np.float32)[:, None].repeat(140, axis=1)
    depth[30:70, 50:90] = 0.8
    if holes:
        depth[:, :30] = np.nan
    colour = np.random.default_rng(4).integers(0, 255, (100, 140, 3), dtype=np.uint8)
    return RgbdSample('view', colour, depth)
