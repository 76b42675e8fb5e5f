# SPDX-License-Identifier: Apache-2.0
"""Images, depth maps and HDF5 files of data sets."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
import re
from typing import Any

import cv2
import numpy as np

from dualfocus_ros.exceptions import DataError

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.tif', '.tiff', '.bmp', '.ppm', '.pgm')
# A Kinect driver writes the largest code where it measured nothing.
INVALID_DEPTH_CODES = (0, 65535)


def natural_sort_key(path: Path) -> list[tuple[int, int, str]]:
    """Return a sort key that puts 2 before 10."""
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


def read_rgb(path: Path) -> np.ndarray:
    """Return (H, W, 3) uint8 RGB; grey becomes colour, 16 bits become 8."""
    image = _decode(path, cv2.IMREAD_ANYDEPTH | cv2.IMREAD_ANYCOLOR)
    if image.dtype == np.uint16:
        image = (image.astype(np.float32) / 257.0 + 0.5).astype(np.uint8)
    if image.dtype != np.uint8:
        raise DataError(f'{path}: {image.dtype} pixels; images of 8 or 16 bits can be used')
    if image.ndim == 2:
        return np.repeat(image[..., None], 3, axis=2)
    return np.ascontiguousarray(image[..., ::-1])


def read_float_map(path: Path, scale: float = 1.0) -> np.ndarray:
    """Return a map (H, W) float32 from .npy, .exr or an image of 8 or 16 bits, times ``scale``.

    In images, 0 and 65535 are invalid and become NaN.
    """
    suffix = path.suffix.lower()
    if suffix == '.npy':
        try:
            values = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f'{path}: not an array that can be read ({error})') from None
        values = np.squeeze(values).astype(np.float32)
    elif suffix == '.exr':
        values = read_exr(path)
    else:
        codes = _decode(path, cv2.IMREAD_UNCHANGED)
        values = np.where(np.isin(codes, INVALID_DEPTH_CODES), np.nan, codes.astype(np.float32))
    if values.ndim != 2:
        raise DataError(f'{path}: expected one value per pixel, got shape {values.shape}')
    return (values * scale).astype(np.float32)


def read_depth(path: Path) -> np.ndarray:
    """Return depth (H, W) float32 in metres, NaN invalid. Images are in mm, the rest in metres."""
    scale = 1.0 if path.suffix.lower() in ('.npy', '.exr') else 1e-3
    depth = read_float_map(path, scale)
    return np.where(np.isfinite(depth) & (depth > 0.0), depth, np.nan).astype(np.float32)


def read_exr(path: Path) -> np.ndarray:
    """Return the first of the channels R, Y, Z, V or of whatever there is, (H, W) float32."""
    openexr = import_optional('OpenEXR', 'OpenEXR', 'EXR files')
    try:
        with openexr.File(str(path), separate_channels=True) as file:
            channels = {name: channel.pixels for name, channel in file.channels().items()}
    except Exception as error:  # the library raises bare exceptions of several kinds
        raise DataError(f'{path}: cannot be read as EXR ({error})') from None
    name = next((n for n in ('R', 'Y', 'Z', 'V') if n in channels), next(iter(channels)))
    return np.asarray(channels[name]).astype(np.float32)


def open_hdf5(path: Path) -> Any:
    """Open an HDF5 file (or a MATLAB 7.3 file, which is one) for reading."""
    if not path.is_file():
        raise DataError(f'{path}: no such file')
    h5py = import_optional('h5py', 'h5py', 'HDF5 files')
    try:
        return h5py.File(path, 'r')
    except OSError as error:
        raise DataError(f'{path}: cannot be read as HDF5 ({error})') from None


def import_optional(module: str, package: str, purpose: str) -> Any:
    """Import a library that only some data sets need.

    :raises DataError: with the command that installs it.
    """
    try:
        return import_module(module)
    except ImportError:
        raise DataError(f'{purpose} need {package}: pip install {package}') from None


def _decode(path: Path, flags: int) -> np.ndarray:
    try:
        encoded = np.fromfile(path, np.uint8)
    except OSError as error:
        raise DataError(f'{path}: {error.strerror}') from None
    image = cv2.imdecode(encoded, flags) if encoded.size else None
    if image is None:
        raise DataError(f'{path}: damaged or not an image')
    return np.asarray(image)
