# SPDX-License-Identifier: Apache-2.0
"""Batches of random layered scenes computed on a device, without device synchronization.

The distributions are those of :mod:`dualfocus_ros.simulation.random_stacks.random_scenes`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dualfocus_ros.simulation.random_stacks.batch_defocus import upload
from dualfocus_ros.simulation.random_stacks.batch_textures import BatchTextures
from dualfocus_ros.simulation.random_stacks.random_scenes import (
    BUMP_GRID,
    ELLIPSE,
    POSITION_RANGE,
    RECTANGLE,
    SHAPE_COUNTS,
    Bulge,
    Shading,
    Shape,
    Surface,
    draw_background,
    draw_bulge,
    draw_object_surface,
    draw_shading,
    draw_shape,
)

# Further kinds of shape: the background, and the padding of scenes with fewer shapes.
_BACKGROUND, _PADDING = -1, -2


class _ShapeParameters(NamedTuple):
    """Parameters of a shape: numbers on the host, tensors (B, 1, 1) on the device."""

    kind: Any
    x: Any
    y: Any
    angle: Any
    half_u: Any
    half_v: Any
    lobes: Any
    phase: Any
    centre: Any
    slope: Any
    slope_angle: Any
    bulge_height: Any
    bulge_is_sphere: Any
    shading_angle: Any
    shading_strength: Any


_WHOLE_IMAGE = Shape(_BACKGROUND, (0.0, 0.0), 0.0, (1.0, 1.0), 0, 0.0)
_PADDING_PARAMETERS = _ShapeParameters(_PADDING, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def random_scene_batch(
    rng: np.random.Generator,
    generator: torch.Generator,
    textures: BatchTextures,
    count: int,
    size: int,
) -> tuple[Tensor, Tensor]:
    """Return scenes of a slanted background and 4 to 25 overlapping textured shapes.

    :param rng: source of all parameters, on the host.
    :param generator: generator of the device of the textures, for noise.
    :returns: colour (count, 3, size, size) sRGB in [0, 1], position (count, size, size).
    """
    device = textures.device
    shape_counts = [1 + int(rng.integers(*SHAPE_COUNTS)) for _ in range(count)]
    most, total = max(shape_counts), sum(shape_counts)
    values = np.zeros((most, count, len(_ShapeParameters._fields)))
    values[:] = _PADDING_PARAMETERS
    bumps = np.zeros((most, count, BUMP_GRID, BUMP_GRID), np.float32)
    for scene, shape_count in enumerate(shape_counts):
        for index in range(shape_count):
            if index == 0:
                outline, surface, bulge = _WHOLE_IMAGE, draw_background(rng), Bulge(0.0, False)
            else:
                outline, surface = draw_shape(rng), draw_object_surface(rng)
                bulge = draw_bulge(rng)
            values[index, scene] = _parameters(outline, surface, bulge, draw_shading(rng))
            if surface.bumps is not None:
                bumps[index, scene] = surface.bump_height * surface.bumps
    patches = textures.draw(rng, generator, total, size)
    # Padding takes any patch: it covers no pixel.
    patch_numbers = np.zeros((most, count), np.int64)
    patch_numbers[values[..., 0] != _PADDING] = np.arange(total)

    parameters, heights = upload(values, device), upload(bumps, device)
    patch_index = upload(patch_numbers, device)
    grid = torch.linspace(-1.0, 1.0, size, device=device)
    x, y = grid[None, None, :], grid[None, :, None]
    colour = torch.zeros((count, 3, size, size), device=device)
    position = torch.full((count, size, size), -torch.inf, device=device)
    for index in range(most):
        shape = _ShapeParameters(*parameters[index].T[..., None, None])
        mask, u, v = _outline(shape, x, y)
        ramp = torch.cos(shape.slope_angle) * x + torch.sin(shape.slope_angle) * y
        surface_at = shape.centre + shape.slope * ramp
        surface_at = surface_at + functional.interpolate(
            heights[index][:, None], (size, size), mode='bicubic', align_corners=False
        ).squeeze(1)
        profile = (1.0 - u.square() - shape.bulge_is_sphere * v.square()).clamp(0.0, 1.0).sqrt()
        surface_at = surface_at + shape.bulge_height * profile
        visible = mask & (surface_at > position)
        ramp = torch.cos(shape.shading_angle) * x + torch.sin(shape.shading_angle) * y
        shade = 1.0 + shape.shading_strength * ramp
        patch = patches[patch_index[index]] * shade[:, None]
        colour = torch.where(visible[:, None], patch, colour)
        position = torch.where(visible, surface_at, position)
    return colour.clamp_(0.0, 1.0), position.clamp_(*POSITION_RANGE)


def _parameters(
    outline: Shape, surface: Surface, bulge: Bulge, shading: Shading
) -> _ShapeParameters:
    return _ShapeParameters(
        outline.kind,
        *outline.centre,
        outline.angle,
        *outline.half,
        outline.lobes,
        outline.phase,
        surface.centre,
        surface.slope,
        surface.angle,
        bulge.height,
        bulge.sphere,
        shading.angle,
        shading.strength,
    )


def _outline(shape: _ShapeParameters, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return masks (B, H, W) and object coordinates u, v of the shapes, -1 to 1 inside."""
    dx, dy = x - shape.x, y - shape.y
    cosine, sine = torch.cos(shape.angle), torch.sin(shape.angle)
    u = (cosine * dx + sine * dy) / shape.half_u
    v = (cosine * dy - sine * dx) / shape.half_v
    square = u.square() + v.square()
    radius = 0.75 + 0.25 * torch.sin(shape.lobes * torch.atan2(v, u) + shape.phase)
    kind = shape.kind
    mask = square < torch.where(kind == ELLIPSE, torch.ones_like(square), radius.square())
    mask = torch.where(kind == RECTANGLE, (u.abs() < 1.0) & (v.abs() < 1.0), mask)
    return (mask | (kind == _BACKGROUND)) & (kind != _PADDING), u, v
