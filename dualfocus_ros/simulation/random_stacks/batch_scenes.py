# SPDX-License-Identifier: Apache-2.0
"""Random layered scenes composed on the training device, many at once.

The ranges are those of :mod:`dualfocus_ros.simulation.random_stacks.random_scenes`; nothing waits for the device.
"""

from __future__ import annotations

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

# The background has no outline, and what a scene lacks is nowhere.
_EVERYWHERE, _NOWHERE = -1, -2
_FIELDS = 16


def random_scene_batch(
    rng: np.random.Generator,
    generator: torch.Generator,
    textures: BatchTextures,
    count: int,
    size: int,
) -> tuple[Tensor, Tensor]:
    """Draw scenes of a slanted background and 4 to 25 overlapping textured shapes.

    :param rng: draws all parameters, on the host.
    :param generator: of the device of the textures, for noise.
    :returns: colour (count, 3, size, size) sRGB in [0, 1], position (count, size, size).
    """
    device = textures.device
    depths = [1 + int(rng.integers(*SHAPE_COUNTS)) for _ in range(count)]
    values = np.zeros((max(depths), count, _FIELDS))
    values[..., 0], values[..., 4:6] = _NOWHERE, 1.0
    bumps = np.zeros((max(depths), count, BUMP_GRID, BUMP_GRID), np.float32)
    for scene, depth in enumerate(depths):
        for level in range(depth):
            if level == 0:
                outline, surface, bulge = None, draw_background(rng), Bulge(0.0, False)
            else:
                outline, surface = draw_shape(rng), draw_object_surface(rng)
                bulge = draw_bulge(rng)
            values[level, scene] = _numbers(outline, surface, bulge, draw_shading(rng))
            if surface.bumps is not None:
                bumps[level, scene] = surface.bump_height * surface.bumps
    patches = textures.draw(rng, generator, sum(depths), size)
    # Levels that a scene lacks take any patch: they cover nothing.
    numbering = np.zeros((max(depths), count), np.int64)
    numbering[values[..., 0] != _NOWHERE] = np.arange(sum(depths))

    numbers, heights = upload(values, device), upload(bumps, device)
    patch_of = upload(numbering, device)
    grid = torch.linspace(-1.0, 1.0, size, device=device)
    x, y = grid[None, None, :], grid[None, :, None]
    colour = torch.zeros((count, 3, size, size), device=device)
    position = torch.full((count, size, size), -torch.inf, device=device)
    for level in range(max(depths)):
        n = numbers[level].T[..., None, None]
        mask, u, v = _outline(n, x, y)
        surface_at = n[8] + n[9] * (torch.cos(n[10]) * x + torch.sin(n[10]) * y)
        surface_at = surface_at + functional.interpolate(
            heights[level][:, None], (size, size), mode='bicubic', align_corners=False
        ).squeeze(1)
        profile = (1.0 - u.square() - n[12] * v.square()).clamp(0.0, 1.0).sqrt()
        surface_at = surface_at + n[11] * profile
        visible = mask & (surface_at > position)
        shade = 1.0 + n[14] * (torch.cos(n[13]) * x + torch.sin(n[13]) * y)
        patch = patches[patch_of[level]] * shade[:, None]
        colour = torch.where(visible[:, None], patch, colour)
        position = torch.where(visible, surface_at, position)
    return colour.clamp_(0.0, 1.0), position.clamp_(*POSITION_RANGE)


def _numbers(
    outline: Shape | None, surface: Surface, bulge: Bulge, shading: Shading
) -> tuple[float, ...]:
    if outline is None:
        shape: tuple[float, ...] = (_EVERYWHERE, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0)
    else:
        shape = (
            outline.kind,
            *outline.centre,
            outline.angle,
            *outline.half,
            outline.lobes,
            outline.phase,
        )
    plane = (surface.centre, surface.slope, surface.angle)
    return (*shape, *plane, bulge.height, bulge.sphere, shading.angle, shading.strength, 0.0)


def _outline(n: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return masks (B, H, W) and the shapes' own coordinates u, v, -1 to 1 inside."""
    kind, dx, dy = n[0], x - n[1], y - n[2]
    u = (torch.cos(n[3]) * dx + torch.sin(n[3]) * dy) / n[4]
    v = (torch.cos(n[3]) * dy - torch.sin(n[3]) * dx) / n[5]
    square = u.square() + v.square()
    radius = 0.75 + 0.25 * torch.sin(n[6] * torch.atan2(v, u) + n[7])
    mask = square < torch.where(kind == ELLIPSE, torch.ones_like(square), radius.square())
    mask = torch.where(kind == RECTANGLE, (u.abs() < 1.0) & (v.abs() < 1.0), mask)
    return (mask | (kind == _EVERYWHERE)) & (kind != _NOWHERE), u, v
