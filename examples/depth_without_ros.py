#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Depth from the images of a focal stack, in Python without ROS.

python3 examples/depth_without_ros.py examples/table
"""

from pathlib import Path
import sys

import numpy as np

import dualfocus_ros as df

FOCUS_DISTANCES = (0.35, 0.50, 0.90, 1.33, 2.21)  # metres, one per image


def main(folder: Path) -> None:
    """Print the depth at the image centre and its standard deviation."""
    result = df.estimate_depth(sorted(folder.glob('*.jpg')), focus_distances=FOCUS_DISTANCES)
    # (H, W) float32 metres; not finite where there is no depth (REP 117).
    valid = np.isfinite(result.depth)
    row, column = (size // 2 for size in result.depth.shape)
    print(f'{valid.mean():.0%} of the pixels are valid')
    print(f'median depth: {np.median(result.depth[valid]):.2f} m')
    print(
        f'depth at the centre: {result.depth[row, column]:.2f} m, '
        f'standard deviation {result.sigma[row, column]:.2f} m'
    )


if __name__ == '__main__':
    main(Path(sys.argv[1]))
