# SPDX-License-Identifier: Apache-2.0
"""Classical depth-from-focus baselines."""

from __future__ import annotations

import cv2
import numpy as np

from dualfocus_ros.evaluation.method_interface import Case, Estimate, Method

FOCUS_MEASURES = {'sml': 'sum-modified-Laplacian', 'rdf': 'ring difference filter'}


class ClassicalMethod(Method):
    """One of :data:`FOCUS_MEASURES` with a refined peak over the planes, on the CPU."""

    def __init__(self, measure: str) -> None:
        self.name = measure
        title = FOCUS_MEASURES[measure]
        self.about = f'{title}, 9x9 window, Gaussian peak in dioptres, no training'

    def estimate(self, case: Case) -> Estimate:
        return Estimate(refined_peak(focus_volume(case.images, self.name), case.focus))


def sum_modified_laplacian(grey: np.ndarray, step: int = 1, window: int = 9) -> np.ndarray:
    """Return the sum-modified-Laplacian of an (H, W) float image (Nayar and Nakagawa 1994)."""
    kernel = np.zeros(2 * step + 1, np.float32)
    kernel[[0, step, -1]] = -1.0, 2.0, -1.0
    border = cv2.BORDER_REPLICATE
    horizontal = cv2.filter2D(grey, cv2.CV_32F, kernel[None], borderType=border)
    vertical = cv2.filter2D(grey, cv2.CV_32F, kernel[:, None], borderType=border)
    return cv2.boxFilter(np.abs(horizontal) + np.abs(vertical), -1, (window, window))


def ring_difference(image: np.ndarray, radius: int = 5, gap: int = 2) -> np.ndarray:
    """Return the smoothed response of a ring difference filter, its norm over channels.

    The kernel is a positive centre, a gap of zeros and a negative ring (Surh et al., CVPR 2017).

    :param image: (H, W) or (H, W, 3) float32.
    """
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    distance = np.hypot(x, y)
    ring = (distance > gap) & (distance <= radius + 0.5)
    kernel = np.where(ring, -1.0 / ring.sum(), 0.0).astype(np.float32)
    kernel[radius, radius] = 1.0
    response = cv2.filter2D(image, cv2.CV_32F, kernel, borderType=cv2.BORDER_REPLICATE)
    if response.ndim == 3:
        response = np.linalg.norm(response, axis=2)
    return cv2.boxFilter(np.abs(response), -1, (9, 9))


def focus_volume(images: np.ndarray, measure: str) -> np.ndarray:
    """Return (N, H, W) float32 focus measures of (N, H, W, 3) or (N, H, W) images.

    :param images: uint8, or float in [0, 1].
    :raises ValueError: for an unknown measure.
    """
    if measure not in FOCUS_MEASURES:
        raise ValueError(f"measure must be one of {', '.join(FOCUS_MEASURES)}, got '{measure}'")
    if images.dtype != np.uint8:
        images = images * np.float32(255.0)
    volume = []
    for image in images:
        if measure == 'sml':
            grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
            volume.append(sum_modified_laplacian(grey.astype(np.float32)))
        else:
            volume.append(ring_difference(image.astype(np.float32)))
    return np.stack(volume)


def refined_peak(volume: np.ndarray, dioptres: np.ndarray) -> np.ndarray:
    """Return the inverse depth (H, W) at the peak of a Gaussian through the best plane.

    A parabola through the logarithms at the best plane and its neighbours, for any spacing,
    clamped to the neighbours.

    :param volume: (N, H, W) focus measures.
    :param dioptres: (N,) focus of the planes, in any order.
    """
    order = np.argsort(dioptres)
    q = np.asarray(dioptres, np.float64)[order]
    logs = np.log(volume[order] + 1e-6)
    best = logs.argmax(axis=0)
    if len(q) <= 2:
        return q[best].astype(np.float32)
    middle = np.clip(best, 1, len(q) - 2)
    left, centre, right = (
        np.take_along_axis(logs, (middle + k)[None], axis=0)[0] for k in (-1, 0, 1)
    )
    low, mid, high = q[middle - 1], q[middle], q[middle + 1]
    # Vertex of the parabola in Newton's form.
    first = (centre - left) / (mid - low)
    second = ((right - centre) / (high - mid) - first) / (high - low)
    with np.errstate(divide='ignore', invalid='ignore'):
        vertex = 0.5 * (low + mid) - 0.5 * first / second
    usable = (second < 0.0) & np.isfinite(vertex) & (best == middle)
    return np.where(usable, np.clip(vertex, low, high), q[best]).astype(np.float32)
