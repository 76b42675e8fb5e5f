# SPDX-License-Identifier: Apache-2.0
"""Scene images from files of colour and depth."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.srgb import decode_srgb8
from dualfocus_ros.simulation.depth_resampling import resample_depth
from dualfocus_ros.simulation.ray_casting import SceneImage


def load_rgbd(
    colour: str | Path,
    depth: str | Path,
    intrinsics: tuple[float, float, float, float],
    size: tuple[int, int] | None = None,
) -> SceneImage:
    """Read a registered pair of colour and depth.

    :param colour: 8-bit sRGB image file.
    :param depth: 16-bit image in millimetres (0 and 65535 invalid), or a ``.npy`` array in metres
        (invalid unless finite and positive).
    :param intrinsics: fx, fy, cx, cy of the files in pixels.
    :param size: width and height to resample to, with the intrinsics.
    :returns: the scene; depth is NaN where invalid.
    :raises ValueError: for files that are unreadable, differ in size or have no valid depth.
    """
    image = _read(colour, cv2.IMREAD_COLOR)
    if Path(depth).suffix == '.npy':
        metres = _load_array(depth)
    else:
        raw = _read(depth, cv2.IMREAD_UNCHANGED)
        if raw.dtype != np.uint16 or raw.ndim != 2:
            raise ValueError(
                f'{depth}: expected a 16-bit depth image with one channel, '
                f'got {raw.dtype} {raw.shape}'
            )
        metres = np.where(raw == 65535, 0, raw) / 1000.0
    if metres.shape != image.shape[:2]:
        raise ValueError(
            f'colour {image.shape[:2]} and depth {metres.shape} differ in size: '
            'they must be registered to each other'
        )
    with np.errstate(invalid='ignore'):
        metres = np.where(np.isfinite(metres) & (metres > 0.0), metres, np.nan)
    if not np.isfinite(metres).any():
        raise ValueError(f'{depth}: no pixel has a valid depth')
    height, width = metres.shape
    camera = PinholeCamera(width, height, *intrinsics)
    light = decode_srgb8(image[..., ::-1])
    if size is not None and size != (width, height):
        light, metres, camera = _resize(light, metres, camera, size)
    planes = np.ascontiguousarray(light.transpose(2, 0, 1))
    return SceneImage(planes, metres.astype(np.float32), camera)


def _read(path: str | Path, flags: int) -> np.ndarray:
    image = cv2.imread(str(path), flags) if Path(path).is_file() else None
    if image is None:
        raise ValueError(f'{path}: no such file, or not an image')
    return np.asarray(image)


def _load_array(path: str | Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(f'{path}: not a NumPy array file ({error})') from None
    if array.ndim != 2 or array.dtype.kind != 'f':
        raise ValueError(f'{path}: expected a 2-D float array, got {array.dtype} {array.shape}')
    return np.asarray(array, np.float32)


def _resize(
    light: np.ndarray, metres: np.ndarray, camera: PinholeCamera, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray, PinholeCamera]:
    width, height = size
    sx, sy = width / camera.width, height / camera.height
    method = cv2.INTER_AREA if sx < 1.0 else cv2.INTER_CUBIC
    light = np.clip(cv2.resize(light, size, interpolation=method), 0.0, 1.0)
    rows = (np.arange(height) + 0.5) / sy - 0.5
    columns = (np.arange(width) + 0.5) / sx - 0.5
    metres = resample_depth(metres, rows, columns)
    return light, metres, camera.resized(width, height)
