#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Depth from the images of a focal stack, in Python and without ROS.

python3 examples/depth_without_ros.py examples/table
"""

from pathlib import Path
import sys

import cv2
import numpy as np

from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.inference.estimator import DepthEstimator
from dualfocus_ros.inference.result import OutputRequest

DISTANCES = (0.35, 0.50, 0.90, 1.33, 2.21)  # metres, one for each image


def main(folder: Path) -> None:
    """Print what is in the middle of the image, and how sure that is."""
    images = [cv2.imread(str(file))[..., ::-1] for file in sorted(folder.glob('*.jpg'))]  # RGB
    stack = FocalStack(
        tuple(Plane(image, 1.0 / metres) for image, metres in zip(images, DISTANCES, strict=True))
    )
    estimator = DepthEstimator(model='auto', device='auto')
    result = estimator.estimate(stack, OutputRequest(sigma=True, all_in_focus=True))
    # (H, W) float32 metres; what is not finite has no depth (REP 117).
    valid = np.isfinite(result.depth)
    row, column = (size // 2 for size in result.depth.shape)
    print(
        f'{valid.mean():.0%} of the pixels have a depth, median '
        f'{np.median(result.depth[valid]):.2f} m'
    )
    print(
        f'in the middle: {result.depth[row, column]:.2f} m, standard deviation '
        f'{result.sigma[row, column]:.2f} m'
    )


if __name__ == '__main__':
    main(Path(sys.argv[1]))
