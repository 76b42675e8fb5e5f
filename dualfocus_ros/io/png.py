# SPDX-License-Identifier: Apache-2.0
"""Pictures as PNG files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from dualfocus_ros.io.atomic_files import atomic_write, write_bytes

PALETTE_SIZE = 128
# PIL.Image.Quantize.FASTOCTREE, a name that Pillow 9.0 (Humble) does not have.
_FAST_OCTREE = 2


def save_png(path: Path, image: np.ndarray) -> None:
    """Write (H, W) or RGB (H, W, 3), 8 or 16 bits."""
    done, data = cv2.imencode('.png', image[..., ::-1] if image.ndim == 3 else image)
    if not done:
        raise OSError(f'{path.name}: the picture could not be encoded')
    write_bytes(path, data.tobytes())


def save_palette_png(path: Path, picture: np.ndarray) -> None:
    """Write an (H, W, 3) uint8 RGB picture with a palette of its own.

    For reports, which are kept in git: a third in size.
    """
    small = Image.fromarray(picture).quantize(PALETTE_SIZE, _FAST_OCTREE)
    with atomic_write(path) as partial:
        small.save(partial, optimize=True)
