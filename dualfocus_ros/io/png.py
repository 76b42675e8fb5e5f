# SPDX-License-Identifier: Apache-2.0
"""Images as PNG files."""

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
    """Write (H, W) grey or (H, W, 3) RGB, uint8 or uint16.

    :raises OSError: if the image cannot be encoded or written.
    """
    done, data = cv2.imencode('.png', image[..., ::-1] if image.ndim == 3 else image)
    if not done:
        raise OSError(f'{path.name}: the image could not be encoded as PNG')
    write_bytes(path, data.tobytes())


def save_palette_png(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB with an adapted palette, a third in size.

    For figures of reports, which are kept in git.
    """
    small = Image.fromarray(image).quantize(PALETTE_SIZE, _FAST_OCTREE)
    with atomic_write(path) as partial:
        small.save(partial, optimize=True)
