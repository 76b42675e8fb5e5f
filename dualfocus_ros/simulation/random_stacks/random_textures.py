# SPDX-License-Identifier: Apache-2.0
"""Random textures: crops of photographs, coloured noise and patterns.

The functions ``draw_…`` draw random parameters on the host. :class:`TextureSource` computes the
pixels of one patch on the CPU; :class:`BatchTextures` those of many patches on a device, without
synchronization.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dualfocus_ros.simulation.random_stacks.batch_defocus import upload

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.tif', '.tiff', '.bmp')
# Shares of the kinds of texture; without images, noise takes their share.
IMAGE_SHARE, NOISE_SHARE = 0.55, 0.30
STRIPES, CHECKS, DOTS, DASHES = range(4)
PATTERN_BLUR = 0.6
# Larger photographs are shrunk to this side, in pixels.
_MAX_IMAGE_SIDE = 2048


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

    :param exponent: a, and ``stretch`` the anisotropy of the spectrum.
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
    :param period: in pixels, as the ``radius`` of dots, and height and width of a dash (``cell``).
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

    :param folders: folders of photographs, see :func:`read_images`; may be empty.
    :param textureless: see :func:`draw_tone`.
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
        patch = (patch - patch.mean(axis=(0, 1), keepdims=True)) * tone.contrast * tone.tint
        patch = patch + tone.level * (0.5 * tone.tint + 0.5)
        return np.clip(patch, 0.0, 1.0).astype(np.float32)

    def _crop(self, rng: np.random.Generator, size: int) -> np.ndarray:
        c = draw_crop(rng, [image.shape[:2] for image in self.images], size)
        crop = self.images[c.image][c.top : c.top + c.side, c.left : c.left + c.side]
        crop = np.rot90(crop, c.turns)
        interpolation = cv2.INTER_AREA if c.side > size else cv2.INTER_CUBIC
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
    height, width = image.shape[:2]
    excess = max(height, width) / _MAX_IMAGE_SIDE
    if excess > 1.0:
        size = (round(width / excess), round(height / excess))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[..., ::-1])


def _noise_texture(noise: Noise, size: int) -> np.ndarray:
    assert noise.white is not None
    fy = np.fft.fftfreq(size)[:, None] * noise.stretch
    fx = np.fft.rfftfreq(size)[None, :] / noise.stretch
    amplitude = 1.0 / np.maximum(np.hypot(fx, fy), 1.0 / size) ** noise.exponent
    amplitude[0, 0] = 0.0
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
        row = (np.abs(v) / pattern.cell[0]).astype(int) % len(cells)
        value = cells[row, (np.abs(u) / pattern.cell[1]).astype(int) % len(cells)]
        value = np.where((np.abs(v) / 8.0).astype(int) % 2 == 0, value, False)
    first, second = pattern.colours
    value = cv2.GaussianBlur(value.astype(np.float32), (0, 0), PATTERN_BLUR)
    return (first + (second - first) * value[..., None]).astype(np.float32)


class BatchTextures:
    """Source of batches of random texture patches on a device; images are uploaded once.

    :param images: photographs (H, W, 3) uint8 sRGB; may be empty.
    :param textureless: see :func:`draw_tone`.
    """

    def __init__(
        self, images: Sequence[np.ndarray], device: torch.device, textureless: float = 0.0
    ) -> None:
        self.device, self._textureless = device, textureless
        self._images = [torch.from_numpy(image).permute(2, 0, 1).to(device) for image in images]

    def draw(
        self, rng: np.random.Generator, generator: torch.Generator, count: int, size: int
    ) -> Tensor:
        """Return (count, 3, size, size) float32 sRGB patches in [0, 1].

        :param generator: generator of the same device, for white noise.
        """
        crops: dict[int, Crop] = {}
        noises: dict[int, Noise] = {}
        patterns: dict[int, Pattern] = {}
        tones = []
        shapes = [(image.shape[1], image.shape[2]) for image in self._images]
        for index in range(count):
            kind = rng.random()
            if shapes and kind < IMAGE_SHARE:
                crops[index] = draw_crop(rng, shapes, size)
            elif kind < IMAGE_SHARE + NOISE_SHARE:
                noises[index] = draw_noise(rng, None)
            else:
                patterns[index] = draw_pattern(rng, None)
            tones.append(draw_tone(rng, self._textureless))
        patches = torch.empty((count, 3, size, size), device=self.device)
        if crops:
            patches[upload([*crops], self.device)] = self._crops(crops.values(), size)
        if noises:
            patches[upload([*noises], self.device)] = _noises([*noises.values()], size, generator)
        if patterns:
            drawn = _patterns([*patterns.values()], size, generator)
            patches[upload([*patterns], self.device)] = drawn
        contrast = upload([tone.contrast for tone in tones], self.device).view(-1, 1, 1, 1)
        level = upload([tone.level for tone in tones], self.device).view(-1, 1, 1, 1)
        tint = upload([tone.tint.reshape(3, 1, 1) for tone in tones], self.device)
        patches -= patches.mean(dim=(2, 3), keepdim=True)
        patches = patches * (contrast * tint) + level * (0.5 * tint + 0.5)
        return patches.clamp_(0.0, 1.0)

    def _crops(self, crops: Iterable[Crop], size: int) -> Tensor:
        patches = []
        for c in crops:
            part = self._images[c.image][None, :, c.top : c.top + c.side, c.left : c.left + c.side]
            part = torch.rot90(part.float(), c.turns, (2, 3))
            shrinks = c.side > size
            mode = 'bilinear' if shrinks else 'bicubic'
            part = functional.interpolate(part, (size, size), mode=mode, antialias=shrinks)
            patches.append(part)
        return torch.cat(patches).clamp_(0.0, 255.0) / 255.0


def _noises(noises: Sequence[Noise], size: int, generator: torch.Generator) -> Tensor:
    device = generator.device
    exponent, stretch, hard = (
        upload([getattr(noise, name) for noise in noises], device).view(-1, 1, 1)
        for name in ('exponent', 'stretch', 'hard')
    )
    fy = torch.fft.fftfreq(size, device=device)[None, :, None] * stretch
    fx = torch.fft.rfftfreq(size, device=device)[None, None, :] / stretch
    amplitude = torch.hypot(fx, fy).clamp_min(1.0 / size) ** -exponent
    amplitude[:, 0, 0] = 0.0
    white = torch.randn((len(noises), size, size), generator=generator, device=device)
    base = torch.fft.irfft2(torch.fft.rfft2(white) * amplitude, s=(size, size))
    base = base / (base.std(dim=(1, 2), keepdim=True) + 1e-6)
    base = torch.where(hard, torch.tanh(4.0 * base), base)
    mix = upload([n.mix for n in noises], device)[:, :, None, None]
    return 0.5 + base[:, None] * mix


def _patterns(patterns: Sequence[Pattern], size: int, generator: torch.Generator) -> Tensor:
    device = generator.device
    angle, period, kind, radius = (
        upload([getattr(pattern, name) for pattern in patterns], device).view(-1, 1, 1)
        for name in ('angle', 'period', 'kind', 'radius')
    )
    cell = upload([p.cell for p in patterns], device)[..., None, None]
    steps = torch.arange(size, device=device, dtype=torch.float32)
    row, column = steps[:, None], steps[None, :]
    u = torch.cos(angle) * column + torch.sin(angle) * row
    v = torch.cos(angle) * row - torch.sin(angle) * column
    half = 0.5 * period
    along, across = torch.floor(u / period), torch.floor(v / period)
    dots = (u % period - half).square() + (v % period - half).square() < radius.square()
    side = size // 2 + 2
    cells = torch.rand((len(patterns), side * side), generator=generator, device=device) < 0.5
    index = (v.abs() / cell[:, 0]).long() % side * side + (u.abs() / cell[:, 1]).long() % side
    dashes = cells.gather(1, index.flatten(1)).view_as(index) & ((v.abs() / 8.0).long() % 2 == 0)
    value = torch.where(kind == STRIPES, along % 2, torch.zeros_like(u))
    value = torch.where(kind == CHECKS, (along + across) % 2, value)
    value = torch.where(kind == DOTS, dots.to(u.dtype), value)
    value = torch.where(kind == DASHES, dashes.to(u.dtype), value)
    colours = upload([p.colours.reshape(2, 3, 1, 1) for p in patterns], device)
    first, second = colours[:, 0], colours[:, 1]
    return first + (second - first) * _smooth(value)[:, None]


def _smooth(value: Tensor) -> Tensor:
    """Blur (B, H, W) by a Gaussian: printed edges are not sharper than their pixels."""
    offsets = torch.arange(-3, 4, device=value.device, dtype=value.dtype)
    taps = torch.exp(-0.5 * (offsets / PATTERN_BLUR).square())
    taps = taps / taps.sum()
    padded = functional.pad(value[:, None], (3, 3, 3, 3), mode='reflect')
    rows = functional.conv2d(padded, taps.view(1, 1, 1, -1))
    return functional.conv2d(rows, taps.view(1, 1, -1, 1))[:, 0]
