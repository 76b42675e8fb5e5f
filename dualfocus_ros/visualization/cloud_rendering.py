# SPDX-License-Identifier: Apache-2.0
"""Rendering of a point cloud from an oblique viewpoint, for still images."""

from __future__ import annotations

import math

import cv2
import numpy as np

from dualfocus_ros.io.image_files import to_rgb

YAW, PITCH = math.radians(-14.0), math.radians(20.0)
BACKGROUND = 255
SPLAT_SIZE = 3  # pixels


def render_oblique_view(points: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Render an organised cloud from a camera turned aside and up about the cloud's centre.

    :param points: (H, W, 3) float32 metres in the optical frame; only finite points are drawn.
    :param colours: (H, W, 3) uint8 RGB or (H, W) grey.
    :returns: (H, W, 3) uint8 RGB on white.
    """
    height, width = points.shape[:2]
    canvas = np.full((height, width, 3), BACKGROUND, np.uint8)
    valid = np.isfinite(points).all(axis=-1)
    if not valid.any():
        return canvas
    cloud, paint = points[valid].astype(np.float64), to_rgb(colours)[valid]
    near, far = np.percentile(cloud[:, 2], (2, 98))
    keep = (cloud[:, 2] >= 0.9 * near) & (cloud[:, 2] <= 1.1 * far)
    cloud, paint = cloud[keep], paint[keep]
    pivot = np.median(cloud, axis=0)
    rotation = cv2.Rodrigues((PITCH, 0.0, 0.0))[0] @ cv2.Rodrigues((0.0, YAW, 0.0))[0]
    seen = (cloud - pivot) @ rotation.T + pivot
    front = seen[:, 2] > 0.2 * near
    seen, paint = seen[front], paint[front]
    order = np.argsort(-seen[:, 2], kind='stable')  # far first, so that near points cover them
    seen, paint = seen[order], paint[order]
    across, down = seen[:, 0] / seen[:, 2], seen[:, 1] / seen[:, 2]
    u, v = _fit(across, down, width, height)
    for dv in range(SPLAT_SIZE):
        for du in range(SPLAT_SIZE):
            inside = (u + du >= 0) & (u + du < width) & (v + dv >= 0) & (v + dv < height)
            canvas[v[inside] + dv, u[inside] + du] = paint[inside]
    return canvas


def _fit(across: np.ndarray, down: np.ndarray, width: int, height: int) -> list[np.ndarray]:
    """Scale and shift directions so that 99 % of them fit the image."""
    left, right = np.percentile(across, (0.5, 99.5))
    top, bottom = np.percentile(down, (0.5, 99.5))
    scale = 0.96 * min(width / max(right - left, 1e-6), height / max(bottom - top, 1e-6))
    u = (across - 0.5 * (left + right)) * scale + 0.5 * width
    v = (down - 0.5 * (top + bottom)) * scale + 0.5 * height
    return [np.rint(axis).astype(np.intp) for axis in (u, v)]
