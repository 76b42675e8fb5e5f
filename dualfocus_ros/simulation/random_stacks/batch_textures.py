# SPDX-License-Identifier: Apache-2.0
"""Batches of random textures computed on a device, without device synchronization.

The distributions are those of :mod:`dualfocus_ros.simulation.random_stacks.random_textures`:
parameters are drawn on the host and uploaded; pixels are computed on the device.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dualfocus_ros.simulation.random_stacks.batch_defocus import upload
from dualfocus_ros.simulation.random_stacks.random_textures import (
    CHECKS,
    DASHES,
    DOTS,
    IMAGE_SHARE,
    NOISE_SHARE,
    PATTERN_BLUR,
    STRIPES,
    Crop,
    Noise,
    Pattern,
    draw_crop,
    draw_noise,
    draw_pattern,
    draw_tone,
)


class BatchTextures:
    """Source of random texture patches on a device; images are uploaded once.

    :param images: photographs (H, W, 3) uint8 sRGB; may be empty.
    :param textureless: see :func:`~dualfocus_ros.simulation.random_stacks.random_textures.draw_tone`.
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
        crops: list[tuple[int, Crop]] = []
        noises: list[tuple[int, Noise]] = []
        patterns: list[tuple[int, Pattern]] = []
        tones = []
        shapes = [(image.shape[1], image.shape[2]) for image in self._images]
        for index in range(count):
            kind = rng.random()
            if shapes and kind < IMAGE_SHARE:
                crops.append((index, draw_crop(rng, shapes, size)))
            elif kind < IMAGE_SHARE + NOISE_SHARE:
                noises.append((index, draw_noise(rng, None)))
            else:
                patterns.append((index, draw_pattern(rng, None)))
            tones.append(draw_tone(rng, self._textureless))
        patches = torch.empty((count, 3, size, size), device=self.device)
        if crops:
            patches[self._indices(crops)] = self._crops([c for _, c in crops], size)
        if noises:
            patches[self._indices(noises)] = _noises([n for _, n in noises], size, generator)
        if patterns:
            drawn = _patterns([p for _, p in patterns], size, generator)
            patches[self._indices(patterns)] = drawn
        contrast = upload([tone.contrast for tone in tones], self.device).view(-1, 1, 1, 1)
        level = upload([tone.level for tone in tones], self.device).view(-1, 1, 1, 1)
        tint = upload(np.stack([tone.tint.reshape(3, 1, 1) for tone in tones]), self.device)
        patches -= patches.mean(dim=(2, 3), keepdim=True)
        patches = patches * (contrast * tint) + level * (0.5 * tint + 0.5)
        return patches.clamp_(0.0, 1.0)

    def _indices(self, drawn: Sequence[tuple[int, object]]) -> Tensor:
        return upload([index for index, _ in drawn], self.device)

    def _crops(self, crops: Sequence[Crop], size: int) -> Tensor:
        patches = []
        for c in crops:
            part = self._images[c.image][None, :, c.top : c.top + c.side, c.left : c.left + c.side]
            part = torch.rot90(part.float(), c.turns, (2, 3))
            shrinks = c.side > size
            mode = 'bilinear' if shrinks else 'bicubic'
            patches.append(
                functional.interpolate(part, (size, size), mode=mode, antialias=shrinks)
            )
        return torch.cat(patches).clamp_(0.0, 255.0) / 255.0


def _noises(noises: Sequence[Noise], size: int, generator: torch.Generator) -> Tensor:
    device = generator.device
    exponent = upload([n.exponent for n in noises], device).view(-1, 1, 1)
    stretch = upload([n.stretch for n in noises], device).view(-1, 1, 1)
    hard = upload([n.hard for n in noises], device).view(-1, 1, 1)
    fy = torch.fft.fftfreq(size, device=device)[None, :, None] * stretch
    fx = torch.fft.rfftfreq(size, device=device)[None, None, :] / stretch
    amplitude = torch.hypot(fx, fy).clamp_min(1.0 / size) ** -exponent
    amplitude[:, 0, 0] = 0.0
    white = torch.randn((len(noises), size, size), generator=generator, device=device)
    base = torch.fft.irfft2(torch.fft.rfft2(white) * amplitude, s=(size, size))
    base = base / (base.std(dim=(1, 2), keepdim=True) + 1e-6)
    base = torch.where(hard, torch.tanh(4.0 * base), base)
    mix = upload(np.stack([n.mix for n in noises]), device)[:, :, None, None]
    return 0.5 + base[:, None] * mix


def _patterns(patterns: Sequence[Pattern], size: int, generator: torch.Generator) -> Tensor:
    device = generator.device
    angle = upload([p.angle for p in patterns], device).view(-1, 1, 1)
    period = upload([p.period for p in patterns], device).view(-1, 1, 1)
    kind = upload([p.kind for p in patterns], device).view(-1, 1, 1)
    radius = upload([p.radius for p in patterns], device).view(-1, 1, 1)
    cell = upload(np.array([p.cell for p in patterns]), device)[..., None, None]
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
    colours = upload(np.stack([p.colours.reshape(2, 3, 1, 1) for p in patterns]), device)
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
