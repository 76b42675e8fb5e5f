# SPDX-License-Identifier: Apache-2.0
"""Random textures: crops of photographs, coloured noise and patterns.

The functions ``draw_…`` draw random parameters; the rasterization is separate. So
:mod:`dualfocus_ros.simulation.random_stacks.batch_textures` shares their distributions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.tif', '.tiff', '.bmp')
# Shares of the kinds of texture; without images, noise takes their share.
IMAGE_SHARE, NOISE_SHARE = 0.55, 0.30
STRIPES, CHECKS, DOTS, DASHES = range(4)
PATTERN_BLUR = 0.6
# Larger photographs are shrunk to this side, in pixels.
MAX_IMAGE_SIDE = 2048


@dataclass(frozen=True)
class Tone:
    """Contrast and mean colour of a texture; the mean is ``level`` * (``tint`` + 1) / 2."""

    contrast: float
    tint: np.ndarray
    level: float


@dataclass(frozen=True)
class Crop:
    """Square crop of an image, rotated by quarter turns."""

    image: int
    side: int
    top: int
    left: int
    turns: int


@dataclass(frozen=True, eq=False)
class Noise:
    """Coloured 1/f^a noise.

    :param exponent: a.
    :param stretch: anisotropy of the spectrum.
    :param hard: whether the noise has hard edges.
    :param mix: (3,) amplitudes of the colour channels.
    :param white: (S, S) white noise to filter; None if the caller draws it.
    """

    exponent: float
    stretch: float
    hard: bool
    mix: np.ndarray
    white: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Pattern:
    """Stripes, checks, dots or rows of dashes in two colours.

    :param kind: ``STRIPES``, ``CHECKS``, ``DOTS`` or ``DASHES``.
    :param angle: rotation in radians.
    :param period: period in pixels.
    :param radius: radius of the dots in pixels.
    :param cell: height and width of a dash in pixels.
    :param cells: bool grid of the dashes; None if the caller draws it.
    :param colours: (2, 1, 1, 3) sRGB.
    """

    kind: int
    angle: float
    period: float
    radius: float
    cell: tuple[float, float]
    cells: np.ndarray | None
    colours: np.ndarray


def draw_tone(rng: np.random.Generator, textureless: float = 0.0) -> Tone:
    """Draw contrast and mean colour; one surface in eight is nearly blank.

    :param textureless: share of additional surfaces without visible texture, such as walls.
    """
    contrast = rng.uniform(0.02, 0.15) if rng.random() < 0.125 else rng.uniform(0.4, 1.2)
    if textureless and rng.random() < textureless:
        contrast = rng.uniform(0.0, 0.02)
    return Tone(contrast, rng.uniform(0.7, 1.3, (1, 1, 3)), rng.uniform(0.15, 0.85))


def draw_crop(rng: np.random.Generator, shapes: Sequence[tuple[int, int]], size: int) -> Crop:
    """Draw a crop, to be resized to ``size``, of one of several images of (height, width)."""
    image = int(rng.integers(len(shapes)))
    height, width = shapes[image]
    side = int(min(height, width, size * rng.uniform(0.7, 2.0)))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    return Crop(image, side, int(top), int(left), int(rng.integers(4)))


def draw_noise(rng: np.random.Generator, size: int | None) -> Noise:
    """Draw noise, including its white noise of ``size`` pixels a side unless that is None."""
    exponent = rng.uniform(0.3, 1.6)
    # Some materials, brushed or woven ones, are stretched along one axis.
    stretch = float(np.exp(rng.uniform(-1.2, 1.2))) if rng.random() < 0.4 else 1.0
    white = None if size is None else rng.normal(size=(size, size))
    hard = bool(rng.random() < 0.3)
    return Noise(exponent, stretch, hard, rng.uniform(0.3, 1.0, 3) * 0.2, white)


def draw_pattern(rng: np.random.Generator, size: int | None) -> Pattern:
    """Draw a pattern, including the cells for ``size`` pixels a side unless that is None."""
    angle, period, kind = rng.uniform(0.0, np.pi), rng.uniform(4.0, 40.0), int(rng.integers(4))
    radius, cell, cells = 0.0, (1.0, 1.0), None
    if kind == DOTS:
        radius = period * rng.uniform(0.2, 0.45)
    elif kind == DASHES:
        if size is not None:
            cells = rng.random((size // 2 + 2, size // 2 + 2)) < 0.5
        cell = (rng.uniform(2.0, 5.0), rng.uniform(1.5, 4.0))
    return Pattern(kind, angle, period, radius, cell, cells, rng.uniform(0.0, 1.0, (2, 1, 1, 3)))


class TextureSource:
    """Source of random texture patches: crops of photographs, noise and patterns.

    :param folders: folders of photographs; may be empty.
    :param textureless: see :func:`draw_tone`.
    :raises FileNotFoundError: as :func:`read_images`.
    """

    def __init__(self, folders: list[Path], textureless: float = 0.0) -> None:
        self.images, self.textureless = read_images(folders), textureless

    def draw(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Return a (size, size, 3) float32 sRGB patch in [0, 1]."""
        kind = rng.random()
        if self.images and kind < IMAGE_SHARE:
            patch = self._crop(rng, size)
        elif kind < IMAGE_SHARE + NOISE_SHARE:
            patch = _noise_texture(draw_noise(rng, size), size)
        else:
            patch = _pattern_texture(draw_pattern(rng, size), size)
        tone = draw_tone(rng, self.textureless)
        mean = patch.mean(axis=(0, 1), keepdims=True)
        patch = (patch - mean) * tone.contrast * tone.tint
        patch = patch + tone.level * (0.5 * tone.tint + 0.5)
        return np.clip(patch, 0.0, 1.0).astype(np.float32)

    def _crop(self, rng: np.random.Generator, size: int) -> np.ndarray:
        chosen = draw_crop(rng, [image.shape[:2] for image in self.images], size)
        side, top, left = chosen.side, chosen.top, chosen.left
        crop = self.images[chosen.image][top : top + side, left : left + side]
        crop = np.rot90(crop, chosen.turns)
        interpolation = cv2.INTER_AREA if side > size else cv2.INTER_CUBIC
        crop = cv2.resize(np.ascontiguousarray(crop), (size, size), interpolation=interpolation)
        return crop.astype(np.float32) / 255.0


def read_images(folders: list[Path]) -> list[np.ndarray]:
    """Return the (H, W, 3) uint8 images in the folder trees, without those below 64 pixels.

    :raises FileNotFoundError: for folders without any image.
    """
    paths = sorted(
        path
        for folder in folders
        for path in folder.rglob('*')
        if path.suffix.lower() in IMAGE_SUFFIXES
    )
    images = [image for path in paths if (image := _read(path)) is not None]
    if folders and not images:
        raise FileNotFoundError(
            f'no images ({", ".join(IMAGE_SUFFIXES)}) of 64 or more pixels under '
            f'{", ".join(map(str, folders))}: give folders of photographs, or no folder to use '
            'generated textures only'
        )
    return images


def _read(path: Path) -> np.ndarray | None:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None or min(image.shape[:2]) < 64:
        return None
    excess = max(image.shape[:2]) / MAX_IMAGE_SIDE
    if excess > 1.0:
        size = (round(image.shape[1] / excess), round(image.shape[0] / excess))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[..., ::-1])


def _noise_amplitude(noise: Noise, size: int) -> np.ndarray:
    """Return the (size, size // 2 + 1) spectrum of the filter for white noise."""
    fy = np.fft.fftfreq(size)[:, None] * noise.stretch
    fx = np.fft.rfftfreq(size)[None, :] / noise.stretch
    amplitude = 1.0 / np.maximum(np.hypot(fx, fy), 1.0 / size) ** noise.exponent
    amplitude[0, 0] = 0.0
    return amplitude


def _noise_texture(noise: Noise, size: int) -> np.ndarray:
    assert noise.white is not None
    amplitude = _noise_amplitude(noise, size)
    base = np.fft.irfft2(np.fft.rfft2(noise.white) * amplitude, (size, size))
    base = base / (base.std() + 1e-6)
    if noise.hard:
        base = np.tanh(4.0 * base)
    return (0.5 + base[..., None] * noise.mix).astype(np.float32)


def _pattern_texture(pattern: Pattern, size: int) -> np.ndarray:
    row, column = np.mgrid[0:size, 0:size].astype(np.float32)
    u = np.cos(pattern.angle) * column + np.sin(pattern.angle) * row
    v = -np.sin(pattern.angle) * column + np.cos(pattern.angle) * row
    period = pattern.period
    if pattern.kind == STRIPES:
        value = (np.floor(u / period) % 2).astype(np.float32)
    elif pattern.kind == CHECKS:
        value = ((np.floor(u / period) + np.floor(v / period)) % 2).astype(np.float32)
    elif pattern.kind == DOTS:
        offset_u, offset_v = u % period - period / 2, v % period - period / 2
        value = offset_u**2 + offset_v**2 < pattern.radius**2
    else:  # rows of dashes, similar to print
        cells = pattern.cells
        assert cells is not None
        value = cells[
            (np.abs(v) / pattern.cell[0]).astype(int) % cells.shape[0],
            (np.abs(u) / pattern.cell[1]).astype(int) % cells.shape[1],
        ]
        value = np.where((np.abs(v) / 8.0).astype(int) % 2 == 0, value, False)
    first, second = pattern.colours
    value = cv2.GaussianBlur(value.astype(np.float32), (0, 0), PATTERN_BLUR)
    return (first + (second - first) * value[..., None]).astype(np.float32)
