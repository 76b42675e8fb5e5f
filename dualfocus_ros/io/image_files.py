# SPDX-License-Identifier: Apache-2.0
"""Image files: listing in natural order, decoding, writing as PNG."""

from __future__ import annotations

from pathlib import Path
import re

import cv2
import numpy as np
from PIL import Image

from dualfocus_ros.exceptions import DataError
from dualfocus_ros.io.atomic_files import atomic_write, write_bytes

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.tif', '.tiff', '.bmp', '.webp', '.ppm', '.pgm')
PALETTE_SIZE = 128
# PIL.Image.Quantize.FASTOCTREE, a name that Pillow 9.0 (Humble) does not have.
_FAST_OCTREE = 2


def natural_sort_key(path: Path) -> list[tuple[int, int, str]]:
    """Return a sort key of the file name that puts 2 before 10."""
    parts = re.split(r'(\d+)', path.name.lower())
    return [(0, int(p), '') if p.isdigit() else (1, 0, p) for p in parts if p]


def list_images(folder: Path) -> list[Path]:
    """Return the image files of a folder in natural order.

    :raises DataError: if there is no such folder.
    """
    if not folder.is_dir():
        raise DataError(f'{folder}: no such folder')
    found = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES]
    return sorted(found, key=natural_sort_key)


def decode_image_file(path: Path, flags: int) -> np.ndarray:
    """Return the pixels in the channel order of OpenCV.

    :param flags: of ``cv2.imdecode``.
    :raises DataError: if the file cannot be read or decoded.
    """
    try:
        encoded = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f'{path}: {error.strerror}') from None
    image = cv2.imdecode(encoded, flags) if encoded.size else None
    if image is None:
        raise DataError(f'{path}: damaged or not an image')
    return np.asarray(image)


def read_pixels(path: Path) -> np.ndarray:
    """Return (H, W) grey or (H, W, 3) RGB, uint8 or uint16, with the EXIF orientation applied.

    Transparency is dropped.

    :raises DataError: if the file cannot be read or has another pixel type.
    """
    # ANYCOLOR keeps grey grey and drops transparency.
    pixels = decode_image_file(path, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise DataError(f'{path}: {pixels.dtype} pixels; expected 8 or 16 bits per channel')
    return np.ascontiguousarray(pixels[..., ::-1]) if pixels.ndim == 3 else pixels


def read_rgb(path: Path) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB; grey is repeated, 16 bits are scaled to 8.

    :raises DataError: as :func:`read_pixels`.
    """
    image = read_pixels(path)
    if image.dtype == np.uint16:
        image = (image.astype(np.float32) / 257.0 + 0.5).astype(np.uint8)
    return to_rgb(image)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """Repeat the grey of a (H, W) image to (H, W, 3); return (H, W, 3) unchanged."""
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image


def save_png(path: Path, image: np.ndarray) -> None:
    """Write (H, W) grey or (H, W, 3) RGB, uint8 or uint16.

    :raises OSError: if the image cannot be encoded or written.
    """
    done, data = cv2.imencode('.png', image[..., ::-1] if image.ndim == 3 else image)
    if not done:
        raise OSError(f'{path.name}: the image could not be encoded as PNG')
    write_bytes(path, data.tobytes())


def save_palette_png(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB with an adapted palette, a third in size, for figures in git."""
    small = Image.fromarray(image).quantize(PALETTE_SIZE, _FAST_OCTREE)
    with atomic_write(path) as partial:
        small.save(partial, optimize=True)
