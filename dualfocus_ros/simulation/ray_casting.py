# SPDX-License-Identifier: Apache-2.0
"""Ray casting of analytic solids: colour in linear light and exact depth along z."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.simulation.solids import Solid, Vector, dot

_SHADOW_SAMPLES = 4
_COARSE_ABOVE = 100_000


@dataclass(frozen=True)
class Pose:
    """Camera pose in the world (x right, y forward, z up).

    :param position: pinhole position in metres.
    :param pitch: radians downwards.
    :param yaw: radians to the left.
    :param roll: radians clockwise, as seen by the camera.
    """

    position: Vector
    pitch: float = 0.0
    yaw: float = 0.0
    roll: float = 0.0

    def rotation(self) -> np.ndarray:
        """Return the (3, 3) rotation matrix from the optical frame to the world."""
        upright = np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], float)
        cp, sp = math.cos(self.pitch), math.sin(self.pitch)
        cy, sy = math.cos(self.yaw), math.sin(self.yaw)
        cr, sr = math.cos(self.roll), math.sin(self.roll)
        pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
        yaw = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1]])
        roll = np.array([[cr, -sr, 0], [sr, cr, 0], [0, 0, 1]])
        return yaw @ pitch @ upright @ roll


@dataclass(frozen=True)
class Light:
    """Spherical lamp.

    :param position: world position in metres.
    :param power: irradiance at 1 m, per colour.
    :param radius: radius in metres; larger lamps have softer shadows.
    """

    position: Vector
    power: Vector
    radius: float = 0.1


@dataclass(frozen=True, eq=False)
class Scene:
    """Solids and their lighting.

    :param ambient: ambient light, per colour.
    :param contact: range of the ambient occlusion between solids, in metres.
    """

    solids: tuple[Solid, ...]
    lights: tuple[Light, ...]
    ambient: Vector = (0.35, 0.35, 0.35)
    contact: float = 0.06


@dataclass(frozen=True, eq=False)
class SceneImage:
    """Sharp image of a scene through a pinhole camera.

    :param colour: (3, H, W) float32 linear light, about 0 to 1.
    :param depth: (H, W) float32 metres along the optical axis, NaN where unknown.
    :param camera: intrinsics.
    """

    colour: np.ndarray
    depth: np.ndarray
    camera: PinholeCamera


def cast_rays(scene: Scene, camera: PinholeCamera, pose: Pose) -> SceneImage:
    """Return the image of one ray through each pixel centre.

    Ray directions have z = 1: the ray parameter t is the depth.

    :raises ValueError: for rays that hit no solid.
    """
    rotation = pose.rotation().astype(np.float32)
    origin = np.asarray(pose.position, np.float32)
    x = (np.arange(camera.width) - camera.cx) / camera.fx
    y = (np.arange(camera.height) - camera.cy) / camera.fy
    plane = np.stack(np.broadcast_arrays(x[None, :], y[:, None], 1.0), axis=-1)
    rays = plane.astype(np.float32) @ rotation.T
    depth = np.full(rays.shape[:2], np.inf, np.float32)
    owner = np.full(rays.shape[:2], -1, np.int16)
    for index, solid in enumerate(scene.solids):
        window = _window(solid, camera, rotation, origin)
        if window is None:
            continue
        t = solid.intersect(origin, rays[window])
        nearer = t < depth[window]
        depth[window] = np.where(nearer, t, depth[window])
        owner[window] = np.where(nearer, np.int16(index), owner[window])
    if (owner < 0).any():
        raise ValueError('the scene is open, some rays hit no solid: add a wall or a floor')
    colour = _shade(scene, camera, origin, rays, depth, owner)
    return SceneImage(np.ascontiguousarray(colour.transpose(2, 0, 1)), depth, camera)


def _window(
    solid: Solid, camera: PinholeCamera, rotation: np.ndarray, origin: np.ndarray
) -> tuple[slice, slice] | None:
    """Return the rows and columns that may show the solid, None if it is out of view."""
    radius = solid.bounding_radius()
    x, y, z = (float(value) for value in -solid.offset(origin) @ rotation)
    if z + radius <= 0.0:
        return None
    if z <= 1.5 * radius:
        return slice(0, camera.height), slice(0, camera.width)
    spans = []
    for offset, focal, middle, size in (
        (y, camera.fy, camera.cy, camera.height),
        (x, camera.fx, camera.cx, camera.width),
    ):
        ends = (offset - radius, offset + radius)
        limits = [end / (z + deep * radius) for end in ends for deep in (-1, 1)]
        first = max(math.floor(middle + focal * min(limits)) - 1, 0)
        last = min(math.ceil(middle + focal * max(limits)) + 2, size)
        if last <= first:
            return None
        spans.append(slice(first, last))
    return spans[0], spans[1]


def _shade(
    scene: Scene,
    camera: PinholeCamera,
    origin: np.ndarray,
    rays: np.ndarray,
    depth: np.ndarray,
    owner: np.ndarray,
) -> np.ndarray:
    points = origin + rays * depth[..., None]
    normals = np.empty_like(points)
    albedo = np.empty_like(points)
    gloss = np.zeros_like(depth)
    glow = np.zeros_like(depth)
    for index in np.unique(owner):
        mask = owner == index
        solid = scene.solids[index]
        normal, u, v = solid.normals_and_uv(points[mask])
        way = rays[mask]
        cosine = np.abs(dot(normal, way)) / np.sqrt(dot(way, way))
        # Geometric mean of the two axes of the footprint of a pixel on the slanted surface.
        width = depth[mask] / camera.fx / np.sqrt(np.maximum(cosine, 0.05))
        albedo[mask] = solid.material.albedo(u, v, width, solid.texture_scale())
        normals[mask] = normal
        gloss[mask] = solid.material.gloss
        glow[mask] = solid.material.emission
    up = 0.75 + 0.25 * normals[..., 2]
    openness = _openness(scene, points, owner) * up
    light = openness[..., None] * np.asarray(scene.ambient, np.float32)
    shine = np.zeros_like(depth)
    view = rays / np.sqrt(dot(rays, rays))[..., None]
    mirror = view - 2.0 * dot(view, normals)[..., None] * normals
    for lamp in scene.lights:
        towards = np.asarray(lamp.position, np.float32) - points
        squared = dot(towards, towards)
        towards /= np.sqrt(squared)[..., None]
        cosine = np.maximum(dot(towards, normals), 0.0)
        lit = _visibility(scene.solids, points, normals, owner, lamp)
        received = lit / np.maximum(squared, 0.05)
        light += (cosine * received)[..., None] * np.asarray(lamp.power, np.float32)
        peak = np.maximum(dot(mirror, towards), 0.0) ** 24
        shine += gloss * peak * received * float(np.mean(lamp.power))
    return albedo * (light + glow[..., None]) + shine[..., None]


def _openness(scene: Scene, points: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Return the ambient occlusion factor of each point: smaller close to other solids."""
    openness = np.ones(owner.shape, np.float32)
    for index, solid in enumerate(scene.solids):
        radius, near = solid.bounding_radius(), owner != index
        reach, strength = 3.0 * scene.contact, 0.35
        if math.isfinite(radius):
            reach, strength = scene.contact, 0.5
            offset = solid.offset(points)
            near &= dot(offset, offset) < (radius + 3.0 * reach) ** 2
        if near.any():
            gap = solid.distance(points[near])
            openness[near] *= 1.0 - strength * np.exp(-gap / reach)
    return openness


def _visibility(
    solids: Sequence[Solid],
    points: np.ndarray,
    normals: np.ndarray,
    owner: np.ndarray,
    lamp: Light,
) -> np.ndarray:
    """Return the visible share of the lamp, 0 to 1; on a coarse grid where it is smooth."""
    if owner.size <= _COARSE_ABOVE:
        return _visible_share(solids, points, normals, lamp)
    rows = np.arange(0, owner.shape[0], 2)
    columns = np.arange(0, owner.shape[1], 2)
    grid = np.ix_(rows, columns)
    coarse = _visible_share(solids, points[grid], normals[grid], lamp)
    y = np.arange(owner.shape[0]) // 2
    x = np.arange(owner.shape[1]) // 2
    y1, x1 = np.minimum(y + 1, len(rows) - 1), np.minimum(x + 1, len(columns) - 1)
    fy = (np.arange(owner.shape[0]) % 2 * 0.5).astype(np.float32)[:, None]
    fx = (np.arange(owner.shape[1]) % 2 * 0.5).astype(np.float32)[None, :]
    corners = [np.ix_(*corner) for corner in ((y, x), (y, x1), (y1, x), (y1, x1))]
    values = [coarse[corner] for corner in corners]
    upper = values[0] * (1 - fx) + values[1] * fx
    lower = values[2] * (1 - fx) + values[3] * fx
    result = upper * (1 - fy) + lower * fy
    mixed = np.any([owner[grid][corner] != owner for corner in corners], axis=0)
    result[mixed] = _visible_share(solids, points[mixed], normals[mixed], lamp)
    return result


def _visible_share(
    solids: Sequence[Solid], points: np.ndarray, normals: np.ndarray, lamp: Light
) -> np.ndarray:
    """Return (…) the visible share of the lamp at points (…, 3), by shadow rays."""
    start = points.reshape(-1, 3) + 2e-3 * normals.reshape(-1, 3)
    angles = 2.0 * math.pi * (np.arange(_SHADOW_SAMPLES) + 0.5) / _SHADOW_SAMPLES
    blocked = np.zeros((_SHADOW_SAMPLES, len(start)), bool)
    middle = np.asarray(lamp.position, np.float32)
    way = middle - start
    squared = dot(way, way)
    for solid in solids:
        radius = solid.bounding_radius()
        if math.isinf(radius):
            continue
        offset = -solid.offset(start)
        along = np.clip(dot(offset, way) / squared, 0.0, 1.0)
        gap = offset - along[:, None] * way
        maybe = (dot(gap, gap) < (radius + lamp.radius) ** 2).nonzero()[0]
        if not len(maybe):
            continue
        for sample, angle in enumerate(angles):
            shift = np.array([math.cos(angle), math.sin(angle), 0.4 * math.sin(2.3 * angle)])
            target = middle + (lamp.radius * shift).astype(np.float32)
            hit = solid.intersect(start[maybe], target - start[maybe]) < 1.0
            blocked[sample, maybe] |= hit
    return (1.0 - blocked.mean(axis=0, dtype=np.float32)).reshape(points.shape[:-1])
