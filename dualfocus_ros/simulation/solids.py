# SPDX-License-Identifier: Apache-2.0
"""Analytic solids for ray casting: boxes, cylinders, spheres and planes.

World frame: x right, y forward, z up, metres. Rays are ``origin + t * direction`` with (n, 3)
float32 arrays; ``intersect`` returns (n,) distances t, infinite where a ray misses.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
import math

import numpy as np

from dualfocus_ros.simulation.textures import Texture

Vector = tuple[float, float, float]
_NEAR = 1e-4


@dataclass(frozen=True, eq=False)
class Material:
    """Optical properties of a surface.

    :param texture: albedo.
    :param gloss: strength of the highlight, 0 for matt.
    :param emission: emitted light, in units of albedo.
    :param grain: fine noise of mean 1 that multiplies the albedo: detail for close-ups.
    :param roughness: strength of the grain.
    """

    texture: Texture
    gloss: float = 0.0
    emission: float = 0.0
    grain: Texture | None = None
    roughness: float = 0.0

    def albedo(
        self, u: np.ndarray, v: np.ndarray, footprint: np.ndarray, scale: float
    ) -> np.ndarray:
        """Return (n, 3) albedo.

        :param u, v: texture coordinates in repetitions.
        :param footprint: width of a pixel on the surface in metres.
        :param scale: width in metres of one repetition.
        """
        colour = self.texture.sample(u, v, footprint / scale)
        if self.grain is not None and self.roughness > 0.0:
            # Grain of about one pixel at the closest point for any field of view, in powers of
            # two: small camera motion leaves it unchanged.
            fine = float(np.quantile(footprint[::7], 0.05)) * self.grain.albedo.shape[0] * 1.5
            fine = 2.0 ** round(math.log2(fine))
            repeat = scale / fine
            gain = self.grain.sample(u * repeat, v * repeat, footprint / fine)
            colour *= 1.0 + self.roughness * (gain - 1.0)
        return colour


class Solid(ABC):
    """Solid or plane that rays can hit; centre of a bounding sphere, and surface material."""

    centre: Vector
    material: Material

    @abstractmethod
    def intersect(self, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
        """Return the smallest t > 0 of each ray, infinite for a miss."""

    @abstractmethod
    def normals_and_uv(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return normals (n, 3) and texture coordinates u, v in repetitions, at surface points."""

    @abstractmethod
    def texture_scale(self) -> float:
        """Return the width in metres of one repetition of the texture."""

    @abstractmethod
    def distance(self, points: np.ndarray) -> np.ndarray:
        """Return (n,) distances of points outside; about 0 or less inside."""

    @abstractmethod
    def bounding_radius(self) -> float:
        """Return the radius of the bounding sphere, infinite if unbounded."""

    def offset(self, points: np.ndarray) -> np.ndarray:
        """Return the vectors from the centre to points."""
        return points - np.asarray(self.centre, np.float32)


def dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return dot products over the last axis; much faster than the sum of a product."""
    return np.einsum('...i,...i->...', a, b)


def _nearest_root(near: np.ndarray, far: np.ndarray, hit: np.ndarray) -> np.ndarray:
    t = np.where(near > _NEAR, near, far)
    return np.where(hit & (t > _NEAR), t, np.inf).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Box(Solid):
    """Upright box, rotated by ``yaw`` radians about the vertical."""

    centre: Vector
    size: Vector
    material: Material
    yaw: float = 0.0

    def _rotate(self, vectors: np.ndarray) -> np.ndarray:
        c, s = np.float32(math.cos(self.yaw)), np.float32(math.sin(self.yaw))
        x, y = vectors[..., 0], vectors[..., 1]
        return np.stack((c * x + s * y, c * y - s * x, vectors[..., 2]), axis=-1)

    def intersect(self, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
        start, way = self._rotate(self.offset(origin)), self._rotate(direction)
        half = np.asarray(self.size, np.float32) / 2
        with np.errstate(divide='ignore', invalid='ignore'):
            inverse = 1.0 / np.where(np.abs(way) < 1e-9, np.float32(1e-9), way)
        entry = np.full(direction.shape[:-1], -np.inf, np.float32)
        leave = np.full(direction.shape[:-1], np.inf, np.float32)
        for axis in range(3):
            middle = -start[..., axis] * inverse[..., axis]
            width = half[axis] * np.abs(inverse[..., axis])
            entry = np.maximum(entry, middle - width)
            leave = np.minimum(leave, middle + width)
        return _nearest_root(entry, leave, leave >= entry)

    def normals_and_uv(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # One texture per face, upright on the sides.
        local = self._rotate(self.offset(points))
        half = np.asarray(self.size, np.float32) / 2
        rows = np.arange(len(local))
        axis = np.argmax(np.abs(local) / half - 1.0 + np.array([0, 0, 1e-6]), axis=1)
        flat = np.zeros_like(local)
        flat[rows, axis] = np.sign(local[rows, axis])
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        normal = np.stack(
            (c * flat[:, 0] - s * flat[:, 1], s * flat[:, 0] + c * flat[:, 1], flat[:, 2]), axis=1
        )
        across, upward = np.where(axis == 0, 1, 0), np.where(axis == 2, 1, 2)
        extent = self.material.texture.extent
        scale = np.asarray((extent,) * 3 if extent > 0.0 else self.size, np.float32)
        u = (local[rows, across] + half[across]) / scale[across] + 0.37 * axis
        v = (half[upward] - local[rows, upward]) / scale[upward] + 0.21 * axis
        if extent <= 0.0:
            u, v = u - 0.37 * axis, v - 0.21 * axis
        return normal, u, v

    def texture_scale(self) -> float:
        return self.material.texture.extent or float(np.median(self.size))

    def distance(self, points: np.ndarray) -> np.ndarray:
        outside = np.abs(self._rotate(self.offset(points))) - np.asarray(self.size, np.float32) / 2
        outside = np.maximum(outside, 0.0)
        return np.sqrt(dot(outside, outside))

    def bounding_radius(self) -> float:
        return 0.5 * float(np.linalg.norm(self.size))


@dataclass(frozen=True, eq=False)
class Cylinder(Solid):
    """Capped cylinder along a world axis (0 x, 1 y, 2 z)."""

    centre: Vector
    radius: float
    length: float
    material: Material
    axis: int = 2

    def _split(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        first, second = (self.axis + 1) % 3, (self.axis + 2) % 3
        return vectors[..., first], vectors[..., second], vectors[..., self.axis]

    def intersect(self, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
        px, py, pz = self._split(self.offset(origin))
        dx, dy, dz = self._split(direction)
        a = np.maximum(dx * dx + dy * dy, 1e-12)
        b = px * dx + py * dy
        root = b * b - a * (px * px + py * py - self.radius**2)
        hit = root > 0.0
        root = np.sqrt(np.maximum(root, 0.0))
        # Capped cylinder: intersection of an infinite cylinder and the slab between the caps.
        slope = np.where(np.abs(dz) < 1e-9, np.float32(1e-9), dz)
        width = 0.5 * self.length / np.abs(slope)
        entry = np.maximum((-b - root) / a, -pz / slope - width)
        leave = np.minimum((-b + root) / a, -pz / slope + width)
        return _nearest_root(entry, leave, hit & (leave >= entry))

    def normals_and_uv(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        # The texture is wrapped around the side, and flat on the caps.
        local = self.offset(points)
        x, y, z = self._split(local)
        radial = np.hypot(x, y)
        cap = np.abs(z) / (0.5 * self.length) > radial / self.radius
        side = 1.0 / np.maximum(radial, 1e-9)
        sides = [np.where(cap, 0.0, part * side) for part in (x, y)]
        # World axes follow each other cyclically: x and y of the cylinder, then its axis.
        normal = np.roll((*sides, np.where(cap, np.sign(z), 0.0)), self.axis + 1, axis=0)
        scale = self.texture_scale()
        around = np.arctan2(y, x) * self.radius / scale
        if self.material.texture.extent <= 0.0:
            around = np.arctan2(y, x) / np.pi
        u = np.where(cap, 0.5 + x / scale, around)
        v = np.where(cap, 0.5 + y / scale, -z / scale)
        return normal.T, u, v

    def texture_scale(self) -> float:
        return self.material.texture.extent or math.pi * self.radius

    def distance(self, points: np.ndarray) -> np.ndarray:
        x, y, z = self._split(self.offset(points))
        outward = np.maximum(np.hypot(x, y) - self.radius, 0.0)
        return np.hypot(outward, np.maximum(np.abs(z) - 0.5 * self.length, 0.0))

    def bounding_radius(self) -> float:
        return math.hypot(self.radius, 0.5 * self.length)


@dataclass(frozen=True, eq=False)
class Sphere(Solid):
    """Sphere."""

    centre: Vector
    radius: float
    material: Material

    def intersect(self, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
        start = self.offset(origin)
        a = dot(direction, direction)
        b = dot(start, direction)
        root = b * b - a * (dot(start, start) - self.radius**2)
        hit = root > 0.0
        root = np.sqrt(np.maximum(root, 0.0))
        return _nearest_root((-b - root) / a, (-b + root) / a, hit)

    def normals_and_uv(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        normal = (self.offset(points)) / self.radius
        longitude = np.arctan2(normal[:, 1], normal[:, 0])
        latitude = np.arcsin(np.clip(normal[:, 2], -1.0, 1.0))
        return normal, longitude / np.pi, latitude / np.pi

    def texture_scale(self) -> float:
        return math.pi * self.radius

    def distance(self, points: np.ndarray) -> np.ndarray:
        offset = self.offset(points)
        return np.maximum(np.sqrt(dot(offset, offset)) - self.radius, 0.0)

    def bounding_radius(self) -> float:
        return self.radius


@dataclass(frozen=True, eq=False)
class InfinitePlane(Solid):
    """Unbounded plane; ``normal`` is a unit vector towards the visible side."""

    centre: Vector
    normal: Vector
    material: Material

    def _axes(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        normal = np.asarray(self.normal, np.float32)
        upright = abs(float(normal[2])) < 0.7
        guide = np.array([0, 0, 1] if upright else [0, 1, 0], np.float32)
        right = np.cross(guide, normal)
        right /= np.linalg.norm(right)
        return normal, right, np.cross(normal, right)

    def intersect(self, origin: np.ndarray, direction: np.ndarray) -> np.ndarray:
        normal = np.asarray(self.normal, np.float32)
        height = (self.offset(origin)) @ normal
        speed = -(direction @ normal)
        t = height / np.maximum(speed, 1e-9)
        return np.where((speed > 1e-6) & (t > _NEAR), t, np.inf).astype(np.float32)

    def normals_and_uv(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        normal, right, up = self._axes()
        local = self.offset(points)
        scale = self.texture_scale()
        return np.broadcast_to(normal, points.shape), local @ right / scale, -(local @ up) / scale

    def texture_scale(self) -> float:
        return self.material.texture.extent or 1.0

    def distance(self, points: np.ndarray) -> np.ndarray:
        local = self.offset(points)
        return np.maximum(local @ np.asarray(self.normal, np.float32), 0.0)

    def bounding_radius(self) -> float:
        return math.inf
