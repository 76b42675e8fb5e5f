# SPDX-License-Identifier: Apache-2.0
"""Depth maps and other float maps from .npy, .exr, PNG and HDF5 files."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from dualfocus_ros.exceptions import DataError
from dualfocus_ros.io.image_files import decode_image_file

# A Kinect driver writes the largest code for pixels without a measurement.
INVALID_DEPTH_CODES = (0, 65535)


def read_float_map(path: Path, scale: float = 1.0) -> np.ndarray:
    """Return a map (H, W) float32 from .npy, .exr or an image of 8 or 16 bits, times ``scale``.

    In images, 0 and 65535 are invalid and become NaN.

    :raises DataError: if the file cannot be read or has more than one value per pixel.
    """
    suffix = path.suffix.lower()
    if suffix == '.npy':
        try:
            values = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f'{path}: cannot be read as a NumPy array ({error})') from None
        values = np.squeeze(values).astype(np.float32)
    elif suffix == '.exr':
        values = read_exr(path)
    else:
        codes = decode_image_file(path, cv2.IMREAD_UNCHANGED)
        values = np.where(np.isin(codes, INVALID_DEPTH_CODES), np.nan, codes.astype(np.float32))
    if values.ndim != 2:
        raise DataError(f'{path}: expected one value per pixel, got shape {values.shape}')
    return (values * scale).astype(np.float32)


def read_depth(path: Path) -> np.ndarray:
    """Return depth (H, W) float32 in metres, NaN invalid. Images are in mm, the rest in metres.

    :raises DataError: as :func:`read_float_map`.
    """
    scale = 1.0 if path.suffix.lower() in ('.npy', '.exr') else 1e-3
    depth = read_float_map(path, scale)
    return np.where(np.isfinite(depth) & (depth > 0.0), depth, np.nan).astype(np.float32)


def to_millimetres(depth: np.ndarray) -> np.ndarray:
    """Convert metres to uint16 millimetres; 0 for invalid pixels and those above 65.535 m."""
    with np.errstate(invalid='ignore', over='ignore'):
        millimetres = np.rint(depth * np.float32(1000.0))
        valid = (millimetres >= 1.0) & (millimetres <= 65535.0)
    return np.where(valid, millimetres, 0.0).astype(np.uint16)


def read_exr(path: Path) -> np.ndarray:
    """Return channel R, Y, Z or V, else the first channel of the file, (H, W) float32.

    :raises DataError: if the file cannot be read or OpenEXR is not installed.
    """
    openexr = _import_optional('OpenEXR', 'EXR files')
    try:
        with openexr.File(str(path), separate_channels=True) as file:
            channels = {name: channel.pixels for name, channel in file.channels().items()}
    except Exception as error:  # the library raises bare exceptions of several kinds
        raise DataError(f'{path}: cannot be read as EXR ({error})') from None
    name = next((n for n in ('R', 'Y', 'Z', 'V') if n in channels), next(iter(channels)))
    return np.asarray(channels[name]).astype(np.float32)


def open_hdf5(path: Path) -> Any:
    """Open an HDF5 file (MATLAB 7.3 files are HDF5) for reading.

    :raises DataError: if the file cannot be read or h5py is not installed.
    """
    if not path.is_file():
        raise DataError(f'{path}: no such file')
    h5py = _import_optional('h5py', 'HDF5 files')
    try:
        return h5py.File(path, 'r')
    except OSError as error:
        raise DataError(f'{path}: cannot be read as HDF5 ({error})') from None


def _import_optional(module: str, purpose: str) -> Any:
    """Import a library that only some data sets need, of the same name on PyPI."""
    try:
        return import_module(module)
    except ImportError:
        raise DataError(f'{purpose} need {module}: pip install {module}') from None
