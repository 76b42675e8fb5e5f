# SPDX-License-Identifier: Apache-2.0
"""An image with known depth cut into layers of constant depth, ready for defocus.

Where a nearer layer hides a layer, its colour is continued from what is visible around: that is
the background that shows through the blurred rim of a near object. Everything is in linear light.
"""

from __future__ import annotations

from dataclasses import dataclass, field
import math

import torch
from torch.nn import functional


@dataclass(frozen=True, eq=False)
class Layer:
    """One slice of the scene, cropped to where it has content.

    :param dioptres: inverse depth of the slice.
    :param planes: (4, h, w) premultiplied linear RGB, or part of it, and coverage.
    :param top: row of the crop in the padded frame.
    :param left: column of the crop in the padded frame.
    """

    dioptres: float
    planes: torch.Tensor
    top: int
    left: int
    spectra: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict, repr=False)

    def spectrum(self, shape: tuple[int, int]) -> torch.Tensor:
        """Return the real 2-D Fourier transform, zero-padded to ``shape``; computed once."""
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
        """Return some of the colour channels, with the coverage."""
        planes = torch.cat((self.planes[:3][channels], self.planes[3:]))
        return Layer(self.dioptres, planes, self.top, self.left)


@dataclass(frozen=True, eq=False)
class LayeredScene:
    """A scene ready for rendering: layers from near to far, with the frame padded by ``pad``."""

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
    """Cut an image into layers of inverse depth, with hidden background filled in.

    :param image: (3, H, W) float, linear light.
    :param dioptres: (H, W) inverse depth in 1/m, finite, on the same device.
    :param layers: number of slices, uniform in dioptres over the range of ``dioptres``; empty
        ones cost nothing.
    :param max_radius: the largest circle-of-confusion radius in pixels that will be rendered.
    :param soft: share a pixel between the two slices around its depth, so that the blur of a
        slanted surface changes steadily; otherwise the nearest slice takes all of it.
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
    found = []
    for index in range(layers):
        offset = position - index
        weight = (1.0 - offset.abs()).clamp_min(0.0)
        box = _bounding_box(weight > 0.0, reach)
        if box is None:
            continue
        rows, columns = box
        planes = _layer_planes(
            colour[:, rows, columns], weight[rows, columns], offset[rows, columns] <= -1.0, reach
        )
        found.append(Layer(nearest - index * step, planes, rows.start, columns.start))
    return LayeredScene(tuple(found), height, width, pad, max_radius)


def _bounding_box(mask: torch.Tensor, margin: int) -> tuple[slice, slice] | None:
    """Return the rows and columns that hold the mask and ``margin`` around it."""
    slices = []
    for axis in (1, 0):
        used = mask.any(dim=axis).nonzero()
        if not len(used):
            return None
        first, last = int(used[0]), int(used[-1])
        slices.append(slice(max(first - margin, 0), min(last + margin + 1, mask.shape[1 - axis])))
    return slices[0], slices[1]


def _layer_planes(
    colour: torch.Tensor, weight: torch.Tensor, hidden: torch.Tensor, reach: int
) -> torch.Tensor:
    """Return premultiplied colour and coverage, continued under nearer layers."""
    own = torch.cat((colour * weight, weight[None]))
    if reach < 1 or not bool(hidden.any()):
        return own
    visible = (~hidden).to(own.dtype)[None]
    sums = _box_sum(torch.cat((own, visible)), reach)
    # Half a pixel: sums of float differences leave traces where the box saw nothing.
    continued = torch.where(sums[4:] > 0.5, sums[:4] / sums[4:].clamp_min(0.5), 0.0)
    return torch.where(hidden, continued, own).contiguous()


def _box_sum(planes: torch.Tensor, reach: int) -> torch.Tensor:
    """Return sums over squares of 2 * reach + 1 pixels, cut off at the border."""
    for axis in (-1, -2):
        length = planes.shape[axis]
        total = functional.pad(planes.cumsum(axis), (1, 0) if axis == -1 else (0, 0, 1, 0))
        index = torch.arange(length, device=planes.device)
        last = (index + reach + 1).clamp_max(length)
        first = (index - reach).clamp_min(0)
        planes = total.index_select(axis, last) - total.index_select(axis, first)
    return planes
