# SPDX-License-Identifier: Apache-2.0
"""Builder of procedural scenes: materials, everyday objects, layout and lights."""

from __future__ import annotations

import math

import numpy as np

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.simulation.ray_casting import Light, Pose, Scene
from dualfocus_ros.simulation.solids import Box, Cylinder, Material, Solid, Sphere, Vector
from dualfocus_ros.simulation.textures import Texture, TextureGenerator

# Images wider than this, in pixels, take textures of twice the size.
_LARGE_IMAGE = 400


class SceneBuilder:
    """Builder of a scene for the field of view of one camera.

    :param rng: source of all random choices.
    :param camera: camera whose field of view determines pose, positions and sizes.
    """

    def __init__(self, rng: np.random.Generator, camera: PinholeCamera) -> None:
        self.rng = rng
        self.camera = camera
        large = camera.width > _LARGE_IMAGE
        self.large_textures = textures = TextureGenerator(rng, 512 if large else 256)
        self.small_textures = TextureGenerator(rng, 256 if large else 128)
        grain = np.clip(1.0 + 0.5 * textures.noise(1.0) + 0.35 * textures.noise(0.0), 0, 3)
        self.grain = Texture(np.repeat(grain[..., None], 3, axis=2))
        self.solids: list[Solid] = []
        self.add = self.solids.append
        self.tangent_x = 0.5 * camera.width / camera.fx
        self.tangent_y = 0.5 * camera.height / camera.fy

    def uniform(self, low: float, high: float) -> float:
        """Return a uniform random number."""
        return float(self.rng.uniform(low, high))

    def integer(self, low: int, high: int) -> int:
        """Return a random integer from ``low`` to ``high`` - 1."""
        return int(self.rng.integers(low, high))

    def chance(self, probability: float) -> bool:
        """Return True with the given probability."""
        return bool(self.rng.random() < probability)

    def large_material(self, extent: float, *kinds: str, roughness: float = 0.14) -> Material:
        """Return the material of a large surface, with the texture repeated.

        :param extent: width of one repetition in metres.
        :param kinds: kinds of texture to draw from, see :class:`TextureGenerator`.
        :param roughness: strength of the grain.
        """
        texture = Texture(self.large_textures.random_texture(kinds), extent)
        return Material(texture, 0.0, 0.0, self.grain, roughness)

    def object_material(self, *kinds: str, gloss: float = 0.0, extent: float = 0.0) -> Material:
        """Return the material of an object.

        :param kinds: kinds of texture to draw from.
        :param extent: width of one repetition in metres; 0 stretches the texture over each face.
        """
        texture = Texture(self.small_textures.random_texture(kinds), extent)
        return Material(texture, gloss, 0.0, self.grain, 0.07)

    def plain_material(self, low: float, high: float, gloss: float = 0.1) -> Material:
        """Return a material of one random colour between two levels of reflectance."""
        colour = self.small_textures.colour(low, high, 0.9)
        albedo = np.broadcast_to(colour, (16, 16, 3)).astype(np.float32)
        return Material(Texture(albedo, 0.1), gloss, 0.0, self.grain, 0.06)

    def lamp_material(self) -> Material:
        """Return the material of a ceiling light."""
        return Material(Texture(np.full((16, 16, 3), 0.9, np.float32), 1.0), 0.0, 1.6)

    def pose_over_floor(self, near: float, far: float, far_row: float) -> Pose:
        """Return a pose above the floor z = 0 with given floor depths in two rows.

        From depth = height / (sin pitch + y cos pitch) for the image ordinate y.

        :param near: floor depth in the bottom row, metres.
        :param far: floor depth in ``far_row``, metres.
        :param far_row: a row, from -1 (top) to 1 (bottom).
        """
        ratio = far / near
        y_near, y_far = self.tangent_y, far_row * self.tangent_y
        pitch = math.atan((y_near - ratio * y_far) / (ratio - 1.0))
        height = near * (math.sin(pitch) + y_near * math.cos(pitch))
        return Pose((0.0, 0.0, height), pitch=pitch, roll=self.uniform(-0.03, 0.03))

    def floor_point(self, pose: Pose, column: float, depth: float) -> tuple[float, float]:
        """Return x, y of the floor point at a depth and column, -1 (left) to 1 (right)."""
        sine, cosine = math.sin(pose.pitch), math.cos(pose.pitch)
        ordinate = (pose.position[2] / depth - sine) / cosine
        forward = depth * (cosine - ordinate * sine)
        return pose.position[0] + column * self.tangent_x * depth, pose.position[1] + forward

    def parcel(self, x: float, y: float, z: float, width: float, height: float) -> None:
        """Add a box of cardboard or printed packaging."""
        size = (width, width * self.uniform(0.5, 1.1), height)
        material = self.object_material('cardboard', 'print', 'print', 'fabric')
        self._box(x, y, z, size, material, self.uniform(-0.8, 0.8))

    def books(self, x: float, y: float, z: float, width: float) -> None:
        """Add a stack of books."""
        for _ in range(self.integer(2, 5)):
            thick = width * self.uniform(0.1, 0.22)
            size = (width * self.uniform(0.85, 1.1), width * self.uniform(0.65, 0.8), thick)
            cover = self.object_material('print', 'fabric')
            self._box(x, y, z, size, cover, self.uniform(-0.5, 0.5))
            z += thick

    def can(self, x: float, y: float, z: float, width: float) -> None:
        """Add a can with a printed label and bare rims."""
        radius, height = width / 2, width * self.uniform(0.9, 1.7)
        rim = 0.05 * height
        label = self.object_material('print', gloss=0.15)
        self._cylinder(x, y, z + rim, radius, height - 2 * rim, label)
        metal = self.plain_material(0.45, 0.65, 0.4)
        for base in (z, z + height - rim):
            self._cylinder(x, y, base, 1.03 * radius, rim, metal)

    def bottle(self, x: float, y: float, z: float, width: float) -> None:
        """Add a bottle: body, shoulder, neck and cap."""
        radius, height = width / 2, width * self.uniform(1.7, 2.4)
        glass = self.plain_material(0.1, 0.5, 0.5)
        self._cylinder(x, y, z, radius, height, self.object_material('print', gloss=0.3))
        self.add(Sphere((x, y, z + height), radius, glass))
        self._cylinder(x, y, z + height + 0.6 * radius, 0.36 * radius, 0.9 * width, glass)
        cap = self.plain_material(0.1, 0.8)
        self._cylinder(x, y, z + height + 2.2 * radius, 0.42 * radius, 0.25 * width, cap)

    def mug(self, x: float, y: float, z: float, width: float) -> None:
        """Add a mug with coffee and a handle."""
        radius, height = width / 2, width * self.uniform(1.0, 1.3)
        material = self.object_material('speckle', 'print', gloss=0.25)
        self._cylinder(x, y, z, radius, height, material)
        coffee = self.plain_material(0.02, 0.06, 0.3)
        self._cylinder(x, y, z + height - 1e-3, 0.9 * radius, 2e-3, coffee)
        angle = self.uniform(-0.9, 0.9) + (math.pi if self.chance(0.5) else 0.0)
        # Distance from the axis, level, length and height of the parts of the handle.
        for away, level, long, tall in (
            (1.2, 0.3, 0.6, 0.1),
            (1.2, 0.7, 0.6, 0.1),
            (1.5, 0.3, 0.2, 0.5),
        ):
            self._box(
                x + away * radius * math.cos(angle),
                y + away * radius * math.sin(angle),
                z + level * height,
                (long * radius, 0.22 * radius, tall * height),
                material,
                angle,
            )

    def ball(self, x: float, y: float, z: float, width: float) -> None:
        """Add an orange or a ball."""
        material = self.object_material('speckle', 'fabric', gloss=0.15)
        self.add(Sphere((x, y, z + width / 2), width / 2, material))

    def bin(self, x: float, y: float, z: float, width: float) -> None:
        """Add a waste bin: a cylinder with a dark top."""
        radius, height = width / 2, width * self.uniform(1.1, 1.6)
        side = self.object_material('concrete', 'fabric', 'speckle', gloss=0.1)
        self._cylinder(x, y, z, radius, height, side)
        inside = self.plain_material(0.01, 0.04, 0.0)
        self._cylinder(x, y, z + height - 1e-3, 0.92 * radius, 2e-3, inside)

    def scatter(
        self,
        pose: Pose,
        depths: tuple[float, float],
        count: int,
        kinds: tuple[str, ...],
        sizes: tuple[float, float],
    ) -> None:
        """Add objects on the floor at random, without collisions.

        :param depths: nearest and farthest depth in metres.
        :param kinds: names of the methods that add one object.
        :param sizes: limits of the width in metres; within them 9 to 24 % of the image width.
        """
        taken: list[tuple[float, float, float]] = []
        for attempt in range(8 * count):
            if len(taken) >= count:
                break
            # Uniform in dioptres: otherwise the near half of the range would be nearly empty.
            place = self.rng.random()
            if attempt < count:
                place = (len(taken) + place) / count
            depth = 1.0 / (1.0 / depths[0] + place * (1.0 / depths[1] - 1.0 / depths[0]))
            width = 2.0 * self.tangent_x * depth * self.uniform(0.09, 0.24)
            width = float(np.clip(width, *sizes))
            x, y = self.floor_point(pose, self.uniform(-0.9, 0.9), depth)
            y += 0.6 * width
            if any(math.hypot(x - a, y - b) < 0.72 * (width + c) for a, b, c in taken):
                continue
            taken.append((x, y, width))
            self.place(str(self.rng.choice(kinds)), x, y, width, (0.5, 1.5))

    def place(
        self, kind: str, x: float, y: float, width: float, heights: tuple[float, float]
    ) -> None:
        """Add an object on the floor; limits of the height of a parcel, relative to its width."""
        if kind == 'parcel':
            self.parcel(x, y, 0.0, width, width * self.uniform(*heights))
        else:
            getattr(self, kind)(x, y, 0.0, width)

    def lights(self, area: tuple[float, float, float], spread: float) -> tuple[Light, ...]:
        """Return one or two lamps around a point, at a distance of about ``spread`` metres."""
        lamps = []
        for _ in range(self.integer(1, 3)):
            warm = self.uniform(0.75, 1.0)
            distance = self.uniform(0.6, 1.4) * spread
            angle = self.uniform(0.0, 2.0 * math.pi)
            position = (
                area[0] + distance * math.cos(angle) * 0.7,
                area[1] - abs(distance * math.sin(angle)) * 0.5,
                area[2] + spread * self.uniform(0.8, 1.4),
            )
            power = spread**2 * self.uniform(0.9, 1.8)
            colour = (power, power * (0.5 + 0.5 * warm), power * warm)
            lamps.append(Light(position, colour, self.uniform(0.04, 0.12) * spread))
        return tuple(lamps)

    def build(self, lights: tuple[Light, ...], contact: float) -> Scene:
        """Return the finished scene."""
        level = self.uniform(0.25, 0.55)
        return Scene(tuple(self.solids), lights, (0.95 * level, level, 1.05 * level), contact)

    def _box(
        self,
        x: float,
        y: float,
        z: float,
        size: Vector,
        material: Material,
        yaw: float,
    ) -> None:
        self.add(Box((x, y, z + size[2] / 2), size, material, yaw))

    def _cylinder(
        self, x: float, y: float, z: float, radius: float, height: float, material: Material
    ) -> None:
        self.add(Cylinder((x, y, z + height / 2), radius, height, material))
