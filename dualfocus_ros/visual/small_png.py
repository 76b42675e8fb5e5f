# SPDX-License-Identifier: Apache-2.0
"""Pictures of reports as PNG with a palette: a third in size, and reports are kept in git."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from dualfocus_ros.atomic_files import replacing

COLOURS = 128
# PIL.Image.Quantize.FASTOCTREE, a name that Pillow 9.0 (Humble) does not have.
_FAST_OCTREE = 2


def save_small_png(path: Path, picture: np.ndarray) -> None:
    """Write an (H, W, 3) uint8 RGB picture with a palette of its own."""
    small = Image.fromarray(picture).quantize(COLOURS, _FAST_OCTREE)
    with replacing(path) as partial:
        small.save(partial, optimize=True)
