# SPDX-License-Identifier: Apache-2.0
"""Slices of constant inverse depth of an image with known depth, for defocus rendering.

Behind nearer slices the colour of a slice is extrapolated from its visible surroundings: this is
the background that shows through the blurred rim of a near object. Colour is linear light.
"""

from __future__ import annotations

from dataclasses import dataclass, field
import math

import torch
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class Layer:
    """One slice of the scene, cropped to its content.

    :param dioptres: inverse depth of the slice in 1/m.
    :param planes: (C + 1, h, w) premultiplied linear colour channels and coverage.
    :param top: row, and ``left`` the column, of the crop in the padded frame.
    :param spectra: cache of Fourier transforms by shape.
    """

    dioptres: float
    planes: torch.Tensor
    top: int
    left: int
    spectra: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict, repr=False)

    def spectrum(self, shape: tuple[int, int]) -> torch.Tensor:
        """Return the cached real Fourier transform, zero-padded to ``shape``."""
        if shape not in self.spectra:
            self.spectra[shape] = torch.fft.rfft2(self.planes, s=shape)
        return self.spectra[shape]

    def crop(self, rows: tuple[int, int], columns: tuple[int, int]) -> Layer:
        """Return the part within rows and columns (first, end) of the padded frame."""
        height, width = self.planes.shape[1:]
        top, bottom = (min(max(row - self.top, 0), height) for row in rows)
        left, right = (min(max(column - self.left, 0), width) for column in columns)
        planes = self.planes[:, top:bottom, left:right]
        return Layer(self.dioptres, planes, self.top + top, self.left + left)

    def colour(self, channels: slice) -> Layer:
        """Return the layer with some of the colour channels, and the coverage."""
        planes = torch.cat((self.planes[:3][channels], self.planes[3:]))
        return Layer(self.dioptres, planes, self.top, self.left)


@dataclass(frozen=True, eq=False)
class LayeredScene:
    """Scene ready for rendering: layers from near to far, in a frame padded by ``pad`` pixels.

    :param max_radius: the largest blur radius in pixels that may be rendered.
    """

    layers: tuple[Layer, ...]
    height: int
    width: int
    pad: int
    max_radius: float


def layer_scene(
    image: torch.Tensor,
    dioptres: torch.Tensor,
    *,
    layers: int = 16,
    max_radius: float,
    soft: bool = True,
) -> LayeredScene:
    """Slice an image by inverse depth and fill in hidden background.

    :param image: (3, H, W) float, linear light.
    :param dioptres: (H, W) inverse depth in 1/m, finite, on the same device.
    :param layers: number of slices, uniform in dioptres over the range of ``dioptres``; empty
        ones are skipped.
    :param max_radius: the largest circle-of-confusion radius in pixels that will be rendered.
    :param soft: split a pixel between the two slices around its depth, so that the blur of a
        slanted surface changes smoothly; otherwise the nearest slice gets all of it.
    :raises ValueError: for wrong shapes, depth that is not finite or a bad layer count.
    """
    if image.ndim != 3 or image.shape[0] != 3 or image.shape[1:] != dioptres.shape:
        raise ValueError(
            'expected an image (3, H, W) and inverse depth (H, W), '
            f'got {tuple(image.shape)} and {tuple(dioptres.shape)}'
        )
    if layers < 1 or not (math.isfinite(max_radius) and max_radius >= 0.0):
        raise ValueError(f'need layers >= 1 and max_radius >= 0, got {layers} and {max_radius}')
    if not bool(torch.isfinite(dioptres).all()):
        raise ValueError('inverse depth has values that are not finite: fill holes first')
    height, width = dioptres.shape
    pad = math.ceil(max_radius) + 4
    mode = 'reflect' if pad < min(height, width) else 'replicate'
    stacked = torch.cat((image, dioptres[None])).to(torch.float32)
    padded = functional.pad(stacked[None], (pad, pad, pad, pad), mode=mode)[0]
    colour, inverse_depth = padded[:3], padded[3]

    nearest, farthest = float(dioptres.max()), float(dioptres.min())
    step = (nearest - farthest) / max(layers - 1, 1)
    if step * layers < 1e-6:
        step, position = 0.0, torch.zeros_like(inverse_depth)
    else:
        position = ((nearest - inverse_depth) / step).clamp(0.0, layers - 1.0)
    if not soft:
        position = position.round()
    reach = math.ceil(max_radius)
    slices = []
    for index in range(layers):
        offset = position - index
        weight = (1.0 - offset.abs()).clamp_min(0.0)
        box = _bounding_box(weight > 0.0, reach)
        if box is None:
            continue
        rows, columns = box
        weight, hidden = weight[rows, columns], offset[rows, columns] <= -1.0
        planes = torch.cat((colour[:, rows, columns] * weight, weight[None]))
        if reach > 0 and bool(hidden.any()):
            extent = torch.tensor([reach], device=planes.device)
            planes = fill_hidden(planes[None], hidden[None, None], extent)[0].contiguous()
        slices.append(Layer(nearest - index * step, planes, rows.start, columns.start))
    return LayeredScene(tuple(slices), height, width, pad, max_radius)


def _bounding_box(mask: torch.Tensor, margin: int) -> tuple[slice, slice] | None:
    """Return rows and columns of the bounding box of a mask, with a margin; None if empty."""
    slices = []
    for axis in (1, 0):
        used = mask.any(dim=axis).nonzero()
        if not len(used):
            return None
        first, last = int(used[0]), int(used[-1])
        slices.append(slice(max(first - margin, 0), min(last + margin + 1, mask.shape[1 - axis])))
    return slices[0], slices[1]


def fill_hidden(planes: torch.Tensor, hidden: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
    """Replace hidden pixels by the mean of the visible ones in a square around them.

    :param planes: (B, C, H, W) premultiplied colour and coverage.
    :param hidden: (B, 1, H, W) bool.
    :param reach: (B,) integer half widths of the squares in pixels.
    :returns: (B, C, H, W); 0 where a square has no visible pixel.
    """
    sums = _box_sum(torch.cat((planes, (~hidden).to(planes.dtype)), dim=1), reach)
    total, count = sums[:, :-1], sums[:, -1:]
    # Half a pixel: differences of float sums are not exactly 0 for a square without pixels.
    mean = torch.where(count > 0.5, total / count.clamp_min(0.5), 0.0)
    return torch.where(hidden, mean, planes)


def _box_sum(planes: torch.Tensor, reach: torch.Tensor) -> torch.Tensor:
    """Return sums over squares of 2 * reach + 1 pixels, cut off at the border."""
    for axis in (3, 2):
        length = planes.shape[axis]
        total = functional.pad(planes.cumsum(axis), (1, 0) if axis == 3 else (0, 0, 1, 0))
        index = torch.arange(length, device=planes.device)[None]
        view = (-1, 1, length, 1) if axis == 2 else (-1, 1, 1, length)
        last = (index + reach[:, None] + 1).clamp_max(length).view(view).expand_as(planes)
        first = (index - reach[:, None]).clamp_min(0).view(view).expand_as(planes)
        planes = total.gather(axis, last) - total.gather(axis, first)
    return planes
