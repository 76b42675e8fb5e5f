# SPDX-License-Identifier: Apache-2.0
"""Generated data sets with exact truth: rendered stacks, random shapes and indoor views."""

from __future__ import annotations

import numpy as np

from dualfocus_ros.camera.lens_presets import simulated_lens
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.srgb import encode_srgb8
from dualfocus_ros.datasets.samples import Dataset, Options, RgbdSample, StackSample, count_option
from dualfocus_ros.simulation.random_stacks.random_scenes import (
    TrainingScene,
    random_indoor_scene,
    random_scene,
)
from dualfocus_ros.simulation.random_stacks.random_textures import TextureSource
from dualfocus_ros.simulation.random_stacks.stack_renderer import (
    RenderSettings,
    render_training_stack,
)
from dualfocus_ros.simulation.scenes import SCENE_NAMES, make_scene

# First part of the seeds; seeds of training have other parts.
EVALUATION_SEED = 0x5EED


def open_synthetic(seed: int, options: Options) -> Dataset:
    """Return stacks rendered as in training, from seeds disjoint from those of training.

    Lens, sweep, noise and misalignment are random; random shapes and indoor views alternate.
    Inverse depth is mapped to a random range within 0.15 and 5 dioptres.
    """
    count, size = count_option(options, 'count', 16), count_option(options, 'size', 256)
    textures = TextureSource([])

    def load(index: int) -> StackSample:
        rng = np.random.default_rng([EVALUATION_SEED, seed, index])

        def source(random: np.random.Generator) -> TrainingScene:
            if index % 2:
                return random_indoor_scene(random, size)
            return random_scene(random, textures, size)

        # Sweeps span the scene, as of a camera set up for its scenes.
        stack = render_training_stack(rng, source, RenderSettings(wide_sweeps=0.0))
        # A sweep extends at most 0.16 of the range beyond the farthest point: with these values
        # every focus stays above 0 dioptres.
        span = rng.uniform(0.8, 3.0)
        far = span * rng.uniform(0.2, 0.5)
        return StackSample(
            f'{index:04d}',
            stack.images,
            (far + span * stack.focus).astype(np.float64),
            'dioptres',
            (1.0 / (far + span * stack.position)).astype(np.float32),
        )

    contents = 'random shapes and indoor views, random lenses'
    description = f'{count} rendered stacks, seed {seed}: {contents}'
    return Dataset(_name('synthetic', seed, options), 'synthetic', description, count, load)


def open_indoor(seed: int, options: Options) -> Dataset:
    """Return images of the procedural scenes at 640x480 with exact depth."""
    count, width = count_option(options, 'count', 6), count_option(options, 'width', 640)
    height = width * 3 // 4
    camera = PinholeCamera.centred(width, height, simulated_lens(width).focal_length_px(0.0))

    def load(index: int) -> RgbdSample:
        name = SCENE_NAMES[index % len(SCENE_NAMES)]
        number = seed * 1000 + index // len(SCENE_NAMES)
        scene = make_scene(name, number, camera)
        colour = encode_srgb8(np.ascontiguousarray(scene.colour.transpose(1, 2, 0)))
        return RgbdSample(f'{name}-{number}', colour, scene.depth.astype(np.float32))

    scenes = ', '.join(SCENE_NAMES)
    description = f'{count} simulated views ({scenes}), seed {seed}, {width}x{height}'
    return Dataset(_name('indoor', seed, options), 'indoor', description, count, load)


def open_shapes(seed: int, options: Options) -> Dataset:
    """Return images of random textured shapes within 0.5 to 10 m with exact depth.

    The scenes are those of training, from disjoint seeds.
    """
    count, size = count_option(options, 'count', 12), count_option(options, 'size', 256)
    textures = TextureSource([])

    def load(index: int) -> RgbdSample:
        rng = np.random.default_rng([EVALUATION_SEED, seed, index, 1])
        scene = random_scene(rng, textures, size)
        far, near = rng.uniform(0.12, 0.5), rng.uniform(1.0, 1.9)
        dioptres = np.clip(far + (near - far) * scene.position, 0.1, 2.0)
        colour = (scene.colour * 255.0 + 0.5).astype(np.uint8)
        return RgbdSample(f'shapes-{seed}-{index}', colour, (1.0 / dioptres).astype(np.float32))

    description = f'{count} views of random shapes, 0.5 to 10 m, seed {seed}, {size}x{size}'
    return Dataset(_name('shapes', seed, options), 'shapes', description, count, load)


def _name(kind: str, seed: int, options: Options) -> str:
    """Return the text that opens the data set: unique within a report."""
    return ''.join([f'{kind}:{seed}', *(f',{key}={value}' for key, value in options.items())])
