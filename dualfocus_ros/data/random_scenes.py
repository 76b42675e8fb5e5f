# SPDX-License-Identifier: Apache-2.0
"""Random layered scenes for training: textured shapes at random depths, with exact truth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.tif', '.tiff', '.bmp')


@dataclass(frozen=True, eq=False)
class TrainingScene:
    """A sharp view and its inverse depth.

    :param colour: (H, W, 3) float32 sRGB in [0, 1].
    :param position: (H, W) float32 inverse depth, 0 at the far and 1 at the near end of the range.
    """

    colour: np.ndarray
    position: np.ndarray


class TextureSource:
    """Draws texture patches: from image folders when given, else purely generated ones."""

    def __init__(self, folders: list[Path]) -> None:
        paths = sorted(
            path
            for folder in folders
            for path in folder.rglob('*')
            if path.suffix.lower() in IMAGE_SUFFIXES
        )
        if folders and not paths:
            raise FileNotFoundError(
                f'no images ({", ".join(IMAGE_SUFFIXES)}) under {", ".join(map(str, folders))}'
            )
        self._images = [image for path in paths if (image := _read(path)) is not None]

    def draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Return a (size, size, 3) float32 sRGB patch in [0, 1]."""
        kind = rng.random()
        if self._images and kind < 0.55:
            patch = self._crop(rng, size)
        elif kind < 0.85:
            patch = _noise_texture(rng, size)
        else:
            patch = _pattern_texture(rng, size)
        # Contrast and tone vary; one surface in eight is nearly blank, as walls are.
        contrast = rng.uniform(0.02, 0.15) if rng.random() < 0.125 else rng.uniform(0.4, 1.2)
        mean = patch.mean(axis=(0, 1), keepdims=True)
        tint = rng.uniform(0.7, 1.3, (1, 1, 3))
        level = rng.uniform(0.15, 0.85)
        patch = (patch - mean) * contrast * tint + level * (0.5 * tint + 0.5)
        return np.clip(patch, 0.0, 1.0).astype(np.float32)

    def _crop(self, rng: np.random.Generator, size: int) -> np.ndarray:
        image = self._images[rng.integers(len(self._images))]
        height, width = image.shape[:2]
        side = int(min(height, width, size * rng.uniform(0.7, 2.0)))
        top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
        crop = image[top : top + side, left : left + side]
        crop = np.rot90(crop, int(rng.integers(4)))
        interpolation = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
        crop = cv2.resize(np.ascontiguousarray(crop), (size, size), interpolation=interpolation)
        return crop.astype(np.float32) / 255.0


def random_scene(rng: np.random.Generator, textures: TextureSource, size: int) -> TrainingScene:
    """Return a scene of a slanted background and 4 to 25 overlapping textured shapes."""
    grid = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    x, y = np.meshgrid(grid, grid)
    position = _surface(rng, x, y, centre=rng.uniform(0.0, 0.5), slope=rng.uniform(0.0, 0.6))
    colour = textures.draw(rng, size) * _shading(rng, x, y)
    for _ in range(rng.integers(4, 26)):
        mask, u, v = _shape(rng, x, y)
        if not mask.any():
            continue
        centre, slope = rng.uniform(0.0, 1.0), rng.choice([0.0, 0.1, 0.5]) * rng.random()
        surface = _surface(rng, x, y, centre, slope)
        if rng.random() < 0.35:
            # A bulge: spheres, cylinders, mugs.
            profile = np.sqrt(np.clip(1.0 - u * u - (v * v if rng.random() < 0.5 else 0), 0, 1))
            surface = surface + rng.uniform(0.05, 0.3) * profile
        visible = mask & (surface > position)
        if not visible.any():
            continue
        patch = textures.draw(rng, size) * _shading(rng, x, y)
        colour = np.where(visible[..., None], patch, colour)
        position = np.where(visible, surface, position)
    position = np.clip(position, -0.1, 1.1).astype(np.float32)
    return TrainingScene(np.clip(colour, 0.0, 1.0).astype(np.float32), position)


def _read(path: Path) -> np.ndarray | None:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    return None if image is None or min(image.shape[:2]) < 64 else image[..., ::-1].copy()


def _surface(
    rng: np.random.Generator, x: np.ndarray, y: np.ndarray, centre: float, slope: float
) -> np.ndarray:
    """A plane: inverse depth is affine over the image. Rarely with gentle bumps."""
    angle = rng.uniform(0.0, 2.0 * np.pi)
    surface = centre + slope * (np.cos(angle) * x + np.sin(angle) * y)
    if rng.random() < 0.3:
        bumps = cv2.resize(
            rng.normal(0.0, 1.0, (6, 6)).astype(np.float32), x.shape[::-1],
            interpolation=cv2.INTER_CUBIC,
        )  # fmt: skip
        surface = surface + rng.uniform(0.01, 0.08) * bumps
    return surface


def _shading(rng: np.random.Generator, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    angle = rng.uniform(0.0, 2.0 * np.pi)
    ramp = 1.0 + rng.uniform(0.0, 0.3) * (np.cos(angle) * x + np.sin(angle) * y)
    return ramp[..., None].astype(np.float32)


def _shape(
    rng: np.random.Generator, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return a mask and the shape's own coordinates u, v in [-1, 1]."""
    cx, cy = rng.uniform(-1.0, 1.0, 2)
    angle = rng.uniform(0.0, np.pi)
    kind = rng.random()
    if kind < 0.25:  # thin bars and wires, which coarse decoders lose
        half_u, half_v = rng.uniform(0.3, 1.5), rng.uniform(0.008, 0.05)
    else:
        half_u, half_v = np.exp(rng.uniform(np.log(0.06), np.log(0.8), 2))
    dx, dy = x - cx, y - cy
    u = (np.cos(angle) * dx + np.sin(angle) * dy) / half_u
    v = (-np.sin(angle) * dx + np.cos(angle) * dy) / half_v
    if kind < 0.6:
        mask = (np.abs(u) < 1.0) & (np.abs(v) < 1.0)
    elif kind < 0.85:
        mask = u * u + v * v < 1.0
    else:  # a star-shaped blob
        theta = np.arctan2(v, u)
        lobes = rng.integers(3, 9)
        radius = 0.75 + 0.25 * np.sin(lobes * theta + rng.uniform(0, 6.28))
        mask = u * u + v * v < radius * radius
    return mask, u, v


def _noise_texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Coloured 1/f^a noise, sometimes stretched along one axis as brushed or woven stuff is."""
    exponent = rng.uniform(0.3, 1.6)
    stretch = np.exp(rng.uniform(-1.2, 1.2)) if rng.random() < 0.4 else 1.0
    fy = np.fft.fftfreq(size)[:, None] * stretch
    fx = np.fft.rfftfreq(size)[None, :] / stretch
    amplitude = 1.0 / np.maximum(np.hypot(fx, fy), 1.0 / size) ** exponent
    amplitude[0, 0] = 0.0
    base = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(size, size))) * amplitude, (size, size))
    base = base / (base.std() + 1e-6)
    if rng.random() < 0.3:  # hard-edged grain
        base = np.tanh(4.0 * base)
    mix = rng.uniform(0.3, 1.0, 3) * 0.2
    return (0.5 + base[..., None] * mix).astype(np.float32)


def _pattern_texture(rng: np.random.Generator, size: int) -> np.ndarray:
    """Stripes, checks, dots or rows of dashes such as print."""
    row, column = np.mgrid[0:size, 0:size].astype(np.float32)
    angle = rng.uniform(0.0, np.pi)
    u = np.cos(angle) * column + np.sin(angle) * row
    v = -np.sin(angle) * column + np.cos(angle) * row
    period = rng.uniform(4.0, 40.0)
    kind = rng.integers(4)
    if kind == 0:
        value = (np.floor(u / period) % 2).astype(np.float32)
    elif kind == 1:
        value = ((np.floor(u / period) + np.floor(v / period)) % 2).astype(np.float32)
    elif kind == 2:
        value = ((u % period - period / 2) ** 2 + (v % period - period / 2) ** 2) < (
            period * rng.uniform(0.2, 0.45)
        ) ** 2
    else:
        cells = rng.random((size // 2 + 2, size // 2 + 2)) < 0.5
        value = cells[
            (np.abs(v) / rng.uniform(2.0, 5.0)).astype(int) % cells.shape[0],
            (np.abs(u) / rng.uniform(1.5, 4.0)).astype(int) % cells.shape[1],
        ]
        value = np.where((np.abs(v) / 8.0).astype(int) % 2 == 0, value, False)
    first, second = rng.uniform(0.0, 1.0, (2, 1, 1, 3))
    value = cv2.GaussianBlur(value.astype(np.float32), (0, 0), 0.6)
    return (first + (second - first) * value[..., None]).astype(np.float32)
