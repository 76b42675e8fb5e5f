# SPDX-License-Identifier: Apache-2.0
"""Check of exported ONNX graphs: differences to PyTorch on random and on rendered images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dualfocus_ros.models.onnx_export import ExportShape, OutputDifference, compare_with_pytorch
from dualfocus_ros.models.weights import LoadedModel
from dualfocus_ros.simulation.random_stacks.random_scenes import random_scene
from dualfocus_ros.simulation.random_stacks.random_textures import TextureSource
from dualfocus_ros.simulation.random_stacks.stack_renderer import (
    RenderSettings,
    render_training_stack,
)

# Largest difference of a correct export, as a share of the sweep; thousands of rounding errors.
MAX_DIFFERENCE = 1e-3
# Side of rendered images in pixels, larger than the receptive field; they are mirrored beyond it.
PATCH_SIZE = 128


@dataclass(frozen=True)
class StackDifferences:
    """Differences of all outputs on one stack with ``random`` or ``rendered`` images."""

    images: str
    outputs: Sequence[OutputDifference]

    @property
    def is_small(self) -> bool:
        """Whether no difference is above :data:`MAX_DIFFERENCE` or NaN."""
        return all(output.largest <= MAX_DIFFERENCE for output in self.outputs)


def check_onnx(
    model: LoadedModel,
    paths: list[Path],
    size: ExportShape,
    progress: Callable[[], object] = lambda: None,
) -> list[StackDifferences]:
    """Compare ONNX graphs with PyTorch on a random and a rendered stack.

    :param paths: the whole graph, or encoder and decoder.
    :param progress: called after each stack.
    :raises ExportError: if onnxruntime is not installed.
    """
    differences = []
    for name, make in {'random': random_stack, 'rendered': rendered_stack}.items():
        outputs = compare_with_pytorch(model, paths, *make(size))
        differences.append(StackDifferences(name, outputs))
        progress()
    return differences


def random_stack(size: ExportShape) -> tuple[np.ndarray, np.ndarray]:
    """Return noise images (1, N, 3, H, W) in [0, 1] and focus (1, N) in 1/m."""
    rng = np.random.default_rng(0)
    images = rng.random((1, size.planes, 3, size.height, size.width), dtype=np.float32)
    # Other focus and spacing than the graph was traced with.
    return images, np.geomspace(0.4, 5.0, size.planes, dtype=np.float32)[None]


def rendered_stack(size: ExportShape) -> tuple[np.ndarray, np.ndarray]:
    """Return images of a random scene (1, N, 3, H, W) in [0, 1] and focus (1, N) in 1/m."""
    textures = TextureSource([])
    settings = RenderSettings(planes=size.planes, max_shift=0.0, wide_sweeps=0.0)
    stack = render_training_stack(
        np.random.default_rng(0), lambda rng: random_scene(rng, textures, PATCH_SIZE), settings
    )
    padding = [(0, max(side - PATCH_SIZE, 0)) for side in (size.height, size.width)]
    images = np.pad(stack.images, [(0, 0), *padding, (0, 0)], mode='symmetric')
    images = images[:, : size.height, : size.width].transpose(0, 3, 1, 2)
    pixels = np.ascontiguousarray(images, dtype=np.float32)[None] / np.float32(255.0)
    # Map positions 0 to 1 to depths of 2 m to 0.4 m.
    return pixels, (0.5 + 2.0 * stack.focus[None]).astype(np.float32)
