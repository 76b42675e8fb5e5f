# SPDX-License-Identifier: Apache-2.0
"""Small bags of a wall at 1.4 dioptres."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.focal_stack import Plane
from stack_bag import write_stack_bag

START = 1_700_000_000_123_456_789
PERIOD = 33_000_000
FOCUS = (2.2, 1.8, 1.4, 1.0, 0.6)
BLUR = (2.0, 1.1, 0.3, 1.1, 2.0)
CAMERA = PinholeCamera(96, 64, 86.0, 86.0, 47.5, 31.5)


def wall(width: int = 96, height: int = 64) -> list[Plane]:
    """Return the planes of one sweep of the wall; the third is sharp."""
    rng = np.random.default_rng(6)
    fine = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
    coarse = cv2.resize(fine[:8, :12], (width, height), interpolation=cv2.INTER_CUBIC)
    scene = (0.5 * fine + 0.5 * coarse).astype(np.uint8)
    scale = width / CAMERA.width
    camera = PinholeCamera(
        width, height, 86.0 * scale, 86.0 * scale, (width - 1) / 2, (height - 1) / 2
    )
    return [
        Plane(cv2.GaussianBlur(scene, (0, 0), blur), focus, camera=camera)
        for blur, focus in zip(BLUR, FOCUS, strict=True)
    ]


def wall_bag(path: Path, sweeps: int = 3, prefix: str = '', start_ns: int = START) -> Path:
    """Write a bag of identical sweeps of the wall."""
    return write_stack_bag(
        path, wall(), sweeps=sweeps, prefix=prefix, start_ns=start_ns, period_ns=PERIOD
    )


def messages_by_topic(path: Path) -> dict[str, list]:
    """Return the messages of a bag by topic."""
    with BagReader(path) as bag:
        return {name: [m.message for m in bag.messages([name])] for name in bag.topics}


def pixels(message) -> np.ndarray:
    """Return the values of a 32FC1 image."""
    return message.data.view(np.float32).reshape(message.height, message.width)
