# SPDX-License-Identifier: Apache-2.0
"""Images blurred by a disc, with the true width of the blur."""

from __future__ import annotations

import math

import cv2
import numpy as np
import torch

from dualfocus_ros.simulation.psf import Aperture, blur_kernels


def disc_blurred(image: np.ndarray, radius: float) -> tuple[np.ndarray, float]:
    """Return the image blurred by a soft disc, and the standard deviation along an axis."""
    kernel = blur_kernels(torch.tensor([radius]), Aperture('disc', softness=0.5))[0].numpy()
    half = kernel.shape[0] // 2
    across = np.sum(kernel.sum(axis=0) * np.arange(-half, half + 1) ** 2)
    border = cv2.copyMakeBorder(image, *[half] * 4, cv2.BORDER_REFLECT_101)
    return cv2.filter2D(border, -1, kernel)[half:-half, half:-half], math.sqrt(float(across))
