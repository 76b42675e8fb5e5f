# SPDX-License-Identifier: Apache-2.0
"""Image and depth files of small data sets."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

SHAPE = (24, 32)
RNG = np.random.default_rng(3)


def make_image(shape: tuple[int, int] = SHAPE, value: int | None = None) -> np.ndarray:
    """Return a colour image, random or of one grey value."""
    if value is not None:
        return np.full((*shape, 3), value, np.uint8)
    return RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)


def make_depth(*, holes: bool = True) -> np.ndarray:
    """Return depth of ``SHAPE`` in millimetres, with both kinds of invalid value if wanted."""
    depth = np.linspace(700, 3000, SHAPE[0] * SHAPE[1]).reshape(SHAPE).astype(np.uint16)
    if holes:
        depth[0, 0], depth[0, 1] = 0, 65535
    return depth


def write_image(path: Path, image: np.ndarray) -> None:
    """Write RGB, grey or 16-bit pixels, creating the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = image[..., ::-1] if image.ndim == 3 else image
    success, encoded = cv2.imencode(path.suffix, np.ascontiguousarray(image))
    assert success
    path.write_bytes(encoded.tobytes())


def write_exr(path: Path, values: np.ndarray) -> None:
    """Write an EXR file whose red channel has the values; skip the test without OpenEXR."""
    openexr = pytest.importorskip('OpenEXR')
    header = {'compression': openexr.ZIP_COMPRESSION, 'type': openexr.scanlineimage}
    with openexr.File(header, {'R': values, 'G': values * 0, 'B': values * 0}) as file:
        file.write(str(path))
