# SPDX-License-Identifier: Apache-2.0
"""Sets that need no download: rendered stacks, random shapes and indoor views, exact truth."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.srgb import encode_srgb8
from dualfocus_ros.datasets.samples import Dataset, RgbdSample, StackSample
from dualfocus_ros.exceptions import DataError
from dualfocus_ros.simulation.random_stacks.indoor_scenes import random_indoor_scene
from dualfocus_ros.simulation.random_stacks.random_scenes import TrainingScene, random_scene
from dualfocus_ros.simulation.random_stacks.random_textures import TextureSource
from dualfocus_ros.simulation.random_stacks.stack_renderer import (
    RenderSettings,
    render_training_stack,
)
from dualfocus_ros.simulation.scenes import SCENE_NAMES, make_scene

# Distinguishes these seeds from those of training, which have two parts.
EVALUATION_SEED = 0x5EED
# Sweeps that span the scene, as a camera that is set up for its scenes takes them.
RENDER_SETTINGS = RenderSettings(wide_sweeps=0.0)
# The lens of the simulated camera: 16 mm on a sensor 7.2 mm wide.
FOCAL_LENGTH, SENSOR_WIDTH = 0.016, 7.2e-3


def open_synthetic(seed: int, options: Mapping[str, str]) -> Dataset:
    """Return stacks as in training (random lens, sweep, noise, shifts) from seeds it never saw.

    Random layered shapes and indoor views in turn. Inverse depth is mapped to a random range
    within 0.15 and 5 dioptres.
    """
    count, size = _whole(options, 'count', 16), _whole(options, 'size', 256)
    textures = TextureSource([])

    def load(index: int) -> StackSample:
        rng = np.random.default_rng([EVALUATION_SEED, seed, index])

        def source(random: np.random.Generator) -> TrainingScene:
            if index % 2:
                return random_indoor_scene(random, size)
            return random_scene(random, textures, size)

        stack = render_training_stack(rng, source, RENDER_SETTINGS)
        # A sweep reaches at most 0.16 of the range beyond the farthest point, so that all focus
        # stays this side of infinity.
        span = rng.uniform(0.8, 3.0)
        far = span * rng.uniform(0.2, 0.5)
        return StackSample(
            f'{index:04d}',
            stack.images,
            (far + span * stack.focus).astype(np.float64),
            'dioptres',
            (1.0 / (far + span * stack.position)).astype(np.float32),
        )

    about = f'{count} rendered stacks, seed {seed}: random shapes and indoor views, random lenses'
    return Dataset(_name('synthetic', seed, options), 'synthetic', about, count, load)


def open_indoor(seed: int, options: Mapping[str, str]) -> Dataset:
    """Return views of the table, the floor and the corridor at 640x480 with exact depth."""
    count, width = _whole(options, 'count', 6), _whole(options, 'width', 640)
    height = width * 3 // 4
    focal = FOCAL_LENGTH / (SENSOR_WIDTH / width)
    camera = PinholeCamera(width, height, focal, focal, (width - 1) / 2, (height - 1) / 2)

    def load(index: int) -> RgbdSample:
        name = SCENE_NAMES[index % len(SCENE_NAMES)]
        number = seed * 1000 + index // len(SCENE_NAMES)
        scene = make_scene(name, number, camera)
        colour = encode_srgb8(np.ascontiguousarray(scene.colour.transpose(1, 2, 0)))
        return RgbdSample(f'{name}-{number}', colour, scene.depth.astype(np.float32))

    about = f'{count} simulated views ({", ".join(SCENE_NAMES)}), seed {seed}, {width}x{height}'
    return Dataset(_name('indoor', seed, options), 'indoor', about, count, load)


def open_shapes(seed: int, options: Mapping[str, str]) -> Dataset:
    """Return views of random textured shapes within 0.5 to 10 m with exact depth, to be rendered.

    The scenes of training, from seeds that it never saw.
    """
    count, size = _whole(options, 'count', 12), _whole(options, 'size', 256)
    textures = TextureSource([])

    def load(index: int) -> RgbdSample:
        rng = np.random.default_rng([EVALUATION_SEED, seed, index, 1])
        scene = random_scene(rng, textures, size)
        far, near = rng.uniform(0.12, 0.5), rng.uniform(1.0, 1.9)
        dioptres = np.clip(far + (near - far) * scene.position, 0.1, 2.0)
        colour = (scene.colour * 255.0 + 0.5).astype(np.uint8)
        return RgbdSample(f'shapes-{seed}-{index}', colour, (1.0 / dioptres).astype(np.float32))

    about = f'{count} views of random shapes, 0.5 to 10 m, seed {seed}, {size}x{size}'
    return Dataset(_name('shapes', seed, options), 'shapes', about, count, load)


def _name(kind: str, seed: int, options: Mapping[str, str]) -> str:
    """Return what the set was asked for by: others of its kind may stand beside it."""
    return ''.join([f'{kind}:{seed}', *(f',{key}={value}' for key, value in options.items())])


def _whole(options: Mapping[str, str], name: str, default: int) -> int:
    text = options.get(name, str(default))
    if not text.isdigit() or int(text) < 1:
        raise DataError(f"{name} must be a whole number above 0, got '{text}'")
    return int(text)
