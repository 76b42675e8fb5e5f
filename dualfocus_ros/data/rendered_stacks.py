# SPDX-License-Identifier: Apache-2.0
"""Focal stacks rendered for training: random lens, random sweep, sensor noise, misalignment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch

from dualfocus_ros.data.random_scenes import TrainingScene
from dualfocus_ros.optics.colour import linear_to_srgb, srgb_to_linear
from dualfocus_ros.optics.psf import Aperture
from dualfocus_ros.optics.renderer import layer_scene, render_stack

SceneSource = Callable[[np.random.Generator], TrainingScene]


@dataclass(frozen=True)
class RenderSettings:
    """Ranges that the random lens and sweep are drawn from.

    :param planes: planes rendered per stack; training draws subsets of them.
    :param blur_range: diameter in pixels of the circle of confusion of the nearest point when
        the lens is focused at the farthest, log-uniform. It stands for kappa times the range.
    """

    planes: int = 10
    blur_range: tuple[float, float] = (3.0, 34.0)
    layers: int = 14
    max_shift: float = 0.6
    max_noise: float = 0.02


@dataclass(frozen=True, eq=False)
class RenderedStack:
    """A stack with its truth, compact enough to keep thousands of in memory.

    :param images: (N, H, W, 3) uint8 sRGB.
    :param focus: (N,) float32 focus of the planes, in the unit of ``position``.
    :param position: (H, W) float32 inverse depth; 0 to 1 spans the scene's range.
    """

    images: np.ndarray
    focus: np.ndarray
    position: np.ndarray


def render_training_stack(
    rng: np.random.Generator, source: SceneSource, settings: RenderSettings
) -> RenderedStack:
    """Draw a scene, a lens and a sweep, and render the stack (method: layered, linear light)."""
    scene = source(rng)
    low, high = settings.blur_range
    kappa = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    focus = _random_sweep(rng, settings.planes)
    colour = torch.from_numpy(scene.colour).permute(2, 0, 1).contiguous()
    aperture = Aperture(
        shape=str(rng.choice(['disc', 'gaussian', 'polygon'], p=[0.6, 0.2, 0.2])),
        softness=rng.uniform(0.3, 0.8),
        blades=int(rng.integers(5, 9)),
        rotation=rng.uniform(0.0, np.pi),
    )
    with torch.inference_mode():
        layered = layer_scene(
            srgb_to_linear(colour),
            torch.from_numpy(scene.position),
            layers=settings.layers,
            max_radius=0.5 * kappa * 1.3,
        )
        linear = render_stack(layered, kappa, torch.from_numpy(focus), aperture=aperture)
        # Exposure differs a little between planes, as the effective aperture does.
        gain = 1.0 + 0.02 * torch.from_numpy(rng.normal(size=(len(focus), 1, 1, 1))).float()
        noise = _noise(rng, linear.shape, settings.max_noise, linear)
        images = linear_to_srgb((linear * gain + noise).clamp(0.0, 1.0))
    stack = (images.permute(0, 2, 3, 1).numpy() * 255.0 + 0.5).astype(np.uint8)
    if rng.random() < 0.5:
        stack = _misalign(rng, stack, settings.max_shift)
    return RenderedStack(stack, focus, scene.position)


def _random_sweep(rng: np.random.Generator, planes: int) -> np.ndarray:
    """Return ascending focus positions, uniform with jitter, mostly spanning the scene."""
    start, stop = rng.uniform(-0.12, 0.05), rng.uniform(0.95, 1.12)
    step = (stop - start) / (planes - 1)
    jitter = rng.uniform(-0.3, 0.3, planes) * step * rng.choice([0.0, 1.0])
    return (start + step * np.arange(planes) + jitter).astype(np.float32)


def _noise(
    rng: np.random.Generator, shape: torch.Size, largest: float, linear: torch.Tensor
) -> torch.Tensor:
    """Shot and read noise in linear light, independent per plane."""
    level = largest * rng.random() ** 2
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    white = torch.randn(shape, generator=generator)
    return white * level * torch.sqrt(linear.clamp_min(0.0) + 0.02)


def _misalign(rng: np.random.Generator, stack: np.ndarray, largest: float) -> np.ndarray:
    """Leave what an imperfect alignment leaves: fractions of a pixel of shift and scale."""
    height, width = stack.shape[1:3]
    size = largest * rng.random()
    planes = []
    for image in stack:
        scale = 1.0 + rng.normal() * size / width
        shift = rng.normal(size=2) * size * 0.5
        warp = np.array(
            [
                [scale, 0.0, shift[0] + 0.5 * width * (1.0 - scale)],
                [0.0, scale, shift[1] + 0.5 * height * (1.0 - scale)],
            ]
        )
        planes.append(
            cv2.warpAffine(
                image, warp, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
            )
        )
    return np.stack(planes)
