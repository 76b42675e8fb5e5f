# SPDX-License-Identifier: Apache-2.0
"""Random scenes for training, with exact truth: layers of textured shapes, or indoor views.

The functions ``draw_…`` draw random parameters on the host. :func:`random_scene` computes the
pixels of one scene on the CPU; :func:`random_scene_batch` those of many scenes on a device,
without synchronization.
"""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.srgb import encode_srgb8, linear_to_srgb
from dualfocus_ros.simulation.random_stacks.batch_defocus import upload
from dualfocus_ros.simulation.random_stacks.random_textures import BatchTextures, TextureSource
from dualfocus_ros.simulation.ray_casting import SceneImage
from dualfocus_ros.simulation.scenes import SCENE_NAMES, make_scene

# Shapes per scene; the upper end is exclusive.
SHAPE_COUNTS = (4, 26)
# Nodes along each side of the grid of bumps.
BUMP_GRID = 6
# First seed of indoor scenes: the demo, the examples and the tests use smaller ones.
FIRST_SEED = 1_000_000
# Limits of the position: the range of the scene, 0 to 1, and a margin.
POSITION_RANGE = (-0.1, 1.1)
RECTANGLE, ELLIPSE, STAR = range(3)


@dataclass(frozen=True, eq=False)
class TrainingScene:
    """Sharp image with normalized inverse depth.

    :param colour: (H, W, 3) float32 sRGB in [0, 1].
    :param position: (H, W) float32 inverse depth, 0 at the far and 1 at the near end of the
        range; finite everywhere.
    :param known: (H, W) bool mask of the true positions, the others being filled in; None: all
        are true.
    """

    colour: np.ndarray
    position: np.ndarray
    known: np.ndarray | None = None


class Shape(NamedTuple):
    """Outline in image coordinates from -1 to 1; numbers, or tensors (B, 1, 1) of a batch.

    :param kind: ``RECTANGLE``, ``ELLIPSE`` or ``STAR``.
    :param angle: rotation in radians.
    :param half_u: half length of the first axis, and ``half_v`` of the second one.
    :param lobes: number of lobes of a star, and their ``phase`` in radians.
    """

    kind: Any
    x: Any
    y: Any
    angle: Any
    half_u: Any
    half_v: Any
    lobes: Any = 0
    phase: Any = 0.0


class Surface(NamedTuple):
    """Depth of a plane, affine in inverse depth.

    :param centre: position in the centre of the image.
    :param slope: change of the position from the centre to the border.
    :param angle: direction of the slope in radians.
    """

    centre: Any
    slope: Any
    angle: Any


class Bulge(NamedTuple):
    """Bulge of a shape towards the camera: a sphere or a cylinder; height 0 for none."""

    height: Any = 0.0
    sphere: Any = False


class Shading(NamedTuple):
    """Linear brightness gradient: direction in radians, change from the centre to the border."""

    angle: Any
    strength: Any


# Smooth bumps of a surface, (``BUMP_GRID``, ``BUMP_GRID``), and the factor on them.
Bumps = tuple[np.ndarray, float]


def draw_background(rng: np.random.Generator) -> tuple[Surface, Bumps | None]:
    """Draw the slanted background."""
    return _draw_surface(rng, centre=rng.uniform(0.0, 0.5), slope=rng.uniform(0.0, 0.6))


def draw_object_surface(rng: np.random.Generator) -> tuple[Surface, Bumps | None]:
    """Draw the surface of a shape: mostly parallel to the image, sometimes slanted."""
    return _draw_surface(rng, rng.uniform(0.0, 1.0), rng.choice([0.0, 0.1, 0.5]) * rng.random())


def _draw_surface(
    rng: np.random.Generator, centre: float, slope: float
) -> tuple[Surface, Bumps | None]:
    surface = Surface(centre, slope, rng.uniform(0.0, 2.0 * np.pi))
    if rng.random() >= 0.3:
        return surface, None
    bumps = rng.normal(0.0, 1.0, (BUMP_GRID, BUMP_GRID)).astype(np.float32)
    return surface, (bumps, rng.uniform(0.01, 0.08))


def draw_bulge(rng: np.random.Generator) -> Bulge:
    """Draw the bulge of a shape; most shapes are flat."""
    if rng.random() >= 0.35:
        return Bulge()
    sphere = bool(rng.random() < 0.5)
    return Bulge(rng.uniform(0.05, 0.3), sphere)


def draw_shading(rng: np.random.Generator) -> Shading:
    """Draw a brightness gradient."""
    return Shading(rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.0, 0.3))


def draw_shape(rng: np.random.Generator) -> Shape:
    """Draw an outline; one in four is a thin bar or wire, which coarse decoders lose."""
    cx, cy = rng.uniform(-1.0, 1.0, 2)
    angle = rng.uniform(0.0, np.pi)
    share = rng.random()
    if share < 0.25:
        u, v = rng.uniform(0.3, 1.5), rng.uniform(0.008, 0.05)
    else:
        u, v = np.exp(rng.uniform(np.log(0.06), np.log(0.8), 2))
    if share < 0.85:
        return Shape(RECTANGLE if share < 0.6 else ELLIPSE, cx, cy, angle, u, v)
    return Shape(STAR, cx, cy, angle, u, v, int(rng.integers(3, 9)), rng.uniform(0, 6.28))


def random_scene(rng: np.random.Generator, textures: TextureSource, size: int) -> TrainingScene:
    """Return a scene of a slanted background and 4 to 25 overlapping textured shapes.

    :param size: side of the image in pixels.
    """
    grid = np.linspace(-1.0, 1.0, size, dtype=np.float32)
    x, y = np.meshgrid(grid, grid)
    position = _surface(*draw_background(rng), x, y)
    colour = textures.draw(rng, size) * _shading(draw_shading(rng), x, y)
    for _ in range(rng.integers(*SHAPE_COUNTS)):
        mask, u, v = _outline(draw_shape(rng), x, y)
        if not mask.any():
            continue
        surface = _surface(*draw_object_surface(rng), x, y)
        bulge = draw_bulge(rng)
        if bulge.height > 0.0:
            profile = np.sqrt(np.clip(1.0 - u * u - (v * v if bulge.sphere else 0), 0, 1))
            surface = surface + bulge.height * profile
        visible = mask & (surface > position)
        if not visible.any():
            continue
        patch = textures.draw(rng, size) * _shading(draw_shading(rng), x, y)
        colour = np.where(visible[..., None], patch, colour)
        position = np.where(visible, surface, position)
    position = np.clip(position, *POSITION_RANGE).astype(np.float32)
    return TrainingScene(np.clip(colour, 0.0, 1.0).astype(np.float32), position)


def _surface(surface: Surface, bumps: Bumps | None, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    ramp = np.cos(surface.angle) * x + np.sin(surface.angle) * y
    result = surface.centre + surface.slope * ramp
    if bumps is not None:
        grid, height = bumps
        result = result + height * cv2.resize(grid, x.shape[::-1], interpolation=cv2.INTER_CUBIC)
    return result


def _shading(shading: Shading, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    direction = np.cos(shading.angle) * x + np.sin(shading.angle) * y
    return (1.0 + shading.strength * direction)[..., None].astype(np.float32)


def _outline(
    shape: Shape, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the mask of a shape and its object coordinates u, v, -1 to 1 inside."""
    dx, dy = x - shape.x, y - shape.y
    u = (np.cos(shape.angle) * dx + np.sin(shape.angle) * dy) / shape.half_u
    v = (-np.sin(shape.angle) * dx + np.cos(shape.angle) * dy) / shape.half_v
    if shape.kind == RECTANGLE:
        mask = (np.abs(u) < 1.0) & (np.abs(v) < 1.0)
    elif shape.kind == ELLIPSE:
        mask = u * u + v * v < 1.0
    else:  # star
        theta = np.arctan2(v, u)
        radius = 0.75 + 0.25 * np.sin(shape.lobes * theta + shape.phase)
        mask = u * u + v * v < radius * radius
    return mask, u, v


# Further kinds of shape: the background, and the padding of scenes with fewer shapes.
_BACKGROUND, _PADDING = -1, -2


_WHOLE_IMAGE = Shape(_BACKGROUND, 0.0, 0.0, 0.0, 1.0, 1.0)
_NO_SHAPE = Shape(_PADDING, 0.0, 0.0, 0.0, 1.0, 1.0)


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
    values = np.zeros((most, count, 15))
    values[..., : len(_NO_SHAPE)] = _NO_SHAPE
    bumps = np.zeros((most, count, BUMP_GRID, BUMP_GRID), np.float32)
    for scene, shape_count in enumerate(shape_counts):
        for index in range(shape_count):
            shape, bulge = _WHOLE_IMAGE, Bulge()
            if index == 0:
                surface, bump = draw_background(rng)
            else:
                shape = draw_shape(rng)
                surface, bump = draw_object_surface(rng)
                bulge = draw_bulge(rng)
            values[index, scene] = (*shape, *surface, *bulge, *draw_shading(rng))
            if bump is not None:
                bumps[index, scene] = bump[1] * bump[0]
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
        drawn = parameters[index].T[..., None, None]
        shape, surface = Shape(*drawn[:8]), Surface(*drawn[8:11])
        bulge, shading = Bulge(*drawn[11:13]), Shading(*drawn[13:])
        mask, u, v = _outlines(shape, x, y)
        ramp = torch.cos(surface.angle) * x + torch.sin(surface.angle) * y
        surface_at = surface.centre + surface.slope * ramp
        surface_at = surface_at + functional.interpolate(
            heights[index][:, None], (size, size), mode='bicubic', align_corners=False
        ).squeeze(1)
        profile = (1.0 - u.square() - bulge.sphere * v.square()).clamp(0.0, 1.0).sqrt()
        surface_at = surface_at + bulge.height * profile
        visible = mask & (surface_at > position)
        ramp = torch.cos(shading.angle) * x + torch.sin(shading.angle) * y
        shade = 1.0 + shading.strength * ramp
        patch = patches[patch_index[index]] * shade[:, None]
        colour = torch.where(visible[:, None], patch, colour)
        position = torch.where(visible, surface_at, position)
    return colour.clamp_(0.0, 1.0), position.clamp_(*POSITION_RANGE)


def _outlines(shape: Shape, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
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


def random_indoor_scene(rng: np.random.Generator, size: int) -> TrainingScene:
    """Return a random crop, ``size`` x ``size``, of a random indoor scene and lens."""
    scene = _random_view(rng, size)
    height, width = scene.depth.shape
    top, left = rng.integers(height - size + 1), rng.integers(width - size + 1)
    window = np.s_[top : top + size, left : left + size]
    dioptres = 1.0 / scene.depth[window]
    low, high = float(dioptres.min()), float(dioptres.max())
    position = (dioptres - low) / max(high - low, 1e-3)
    colour = linear_to_srgb(torch.from_numpy(scene.colour[:, window[0], window[1]].copy()))
    pixels = colour.permute(1, 2, 0).contiguous().numpy().astype(np.float32)
    return TrainingScene(pixels, position.astype(np.float32))


def random_indoor_image(rng: np.random.Generator, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a whole random view, from which crops of ``size`` pixels can be taken.

    :returns: colour (H, W, 3) uint8 sRGB and depth (H, W) float32 in metres; H = 1.2 ``size``,
        W = 1.6 ``size``.
    """
    scene = _random_view(rng, size)
    colour = encode_srgb8(np.ascontiguousarray(scene.colour.transpose(1, 2, 0)))
    return colour, scene.depth.astype(np.float32)


def _random_view(rng: np.random.Generator, size: int) -> SceneImage:
    width, height = int(1.6 * size), int(1.2 * size)
    field_of_view = math.radians(rng.uniform(18.0, 65.0))
    camera = PinholeCamera.centred(width, height, 0.5 * width / math.tan(0.5 * field_of_view))
    name = SCENE_NAMES[rng.integers(len(SCENE_NAMES))]
    return make_scene(name, FIRST_SEED + int(rng.integers(2**31)), camera)
