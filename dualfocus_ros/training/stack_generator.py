# SPDX-License-Identifier: Apache-2.0
"""Training stacks, uploaded or rendered on the training device.

Random parameters are drawn on the host as in ``stack_renderer.render_training_stack``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dualfocus_ros.camera.srgb import srgb_to_linear
from dualfocus_ros.datasets.rgbd_crops import random_rgbd_crop
from dualfocus_ros.datasets.samples import RgbdSample
from dualfocus_ros.simulation.defocus import layer_scene, render_stack
from dualfocus_ros.simulation.random_stacks.batch_defocus import render_batch, upload
from dualfocus_ros.simulation.random_stacks.random_scenes import POSITION_RANGE, random_scene_batch
from dualfocus_ros.simulation.random_stacks.random_textures import BatchTextures
from dualfocus_ros.simulation.random_stacks.stack_renderer import (
    CaptureParameters,
    RenderedStack,
    RenderSettings,
    draw_capture,
    draw_kind,
    expose,
)

# Scenes rendered at once: enough to use a GPU fully.
RENDER_CHUNK = 8
# Scenes composed at once, with all their textures in memory.
MAX_SCENES = 32


@dataclass(frozen=True, eq=False)
class TrainingStack:
    """Rendered stack on a device.

    :param images: (N, 3, H, W) uint8 sRGB.
    :param focus: (N,) float32 positions of the planes, ascending, on the host.
    :param truth: (H, W) float32 positions, NaN where unknown.
    """

    images: Tensor
    focus: np.ndarray
    truth: Tensor


def to_stack(rendered: RenderedStack, device: torch.device) -> TrainingStack:
    """Upload a rendered stack."""
    images = torch.from_numpy(rendered.images).permute(0, 3, 1, 2).contiguous().to(device)
    return TrainingStack(images, rendered.focus, torch.from_numpy(rendered.position).to(device))


class StackGenerator:
    """Renderer of stacks of square images on a device.

    :param size: side of the images in pixels.
    :param textures: (H, W, 3) uint8 images to texture shapes with.
    :param indoor: views of procedural scenes; ``rgbd``: with measured depth.
    """

    def __init__(
        self,
        settings: RenderSettings,
        size: int,
        device: torch.device,
        *,
        textures: Sequence[np.ndarray] = (),
        indoor: Sequence[RgbdSample] = (),
        rgbd: Sequence[RgbdSample] = (),
    ) -> None:
        self.settings, self.size, self.device = settings, size, device
        self._textures = BatchTextures(textures, device, settings.textureless)
        self._indoor, self._rgbd = indoor, rgbd

    def render(self, rng: np.random.Generator, count: int) -> list[TrainingStack]:
        """Render ``count`` stacks, a function of the state of ``rng``."""
        if count > MAX_SCENES:
            return [*self.render(rng, MAX_SCENES), *self.render(rng, count - MAX_SCENES)]
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        with torch.no_grad():
            colour, position, known = self._scenes(rng, generator, count)
            linear = srgb_to_linear(colour)
            captures = [draw_capture(rng, self.settings, self.size) for _ in range(count)]
            # Sort by blur, so that scenes rendered together have kernels of similar size.
            radii = [capture.max_radius(*POSITION_RANGE) for capture in captures]
            order = np.argsort(radii, kind='stable')
            uniform = [int(i) for i in order if captures[i].is_uniform]
            rendered: dict[int, Tensor] = {}
            for begin in range(0, len(uniform), RENDER_CHUNK):
                chosen = uniform[begin : begin + RENDER_CHUNK]
                index, some = upload(chosen, self.device), [captures[i] for i in chosen]
                images = render_batch(
                    linear[index],
                    position[index],
                    np.array([capture.kappa for capture in some]),
                    np.stack([capture.focus for capture in some]),
                    [capture.aperture for capture in some],
                    np.array([radii[i] for i in chosen]),
                    layers=self.settings.layers,
                )
                rendered |= dict(zip(chosen, images, strict=True))
            for i in set(range(count)) - set(uniform):
                # The blur varies over the image.
                capture, layers = captures[i], self.settings.layers
                scene = layer_scene(linear[i], position[i], layers=layers, max_radius=radii[i])
                aberrations: dict[str, Any] = {
                    'aperture': capture.aperture,
                    'field': capture.field,
                }
                focus = torch.from_numpy(capture.focus)
                rendered[i] = render_stack(scene, capture.kappa, focus, **aberrations)
            for i, mask in known.items():
                position[i] = torch.where(mask, position[i], torch.nan)
            finished = zip(captures, (rendered[i] for i in range(count)), position, strict=True)
            return [self._finish(*parts, generator) for parts in finished]

    def _scenes(
        self, rng: np.random.Generator, generator: torch.Generator, count: int
    ) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
        """Return colour (B, 3, S, S), position (B, S, S) and masks of known position."""
        views = {}
        for index in range(count):
            kind = draw_kind(rng, self.settings, bool(self._rgbd))
            bank = self._rgbd if kind == 'rgbd' else self._indoor
            if kind != 'shapes' and bank:
                views[index] = random_rgbd_crop(rng, bank[int(rng.integers(len(bank)))], self.size)
        drawn = [index for index in range(count) if index not in views]
        colour = torch.empty((count, 3, self.size, self.size), device=self.device)
        position = torch.empty((count, self.size, self.size), device=self.device)
        known = {}
        if drawn:
            at = upload(drawn, self.device)
            colour[at], position[at] = random_scene_batch(
                rng, generator, self._textures, len(drawn), self.size
            )
        for index, scene in views.items():
            colour[index] = upload(scene.colour, self.device).permute(2, 0, 1)
            position[index] = upload(scene.position, self.device)
            if scene.known is not None:
                known[index] = upload(scene.known, self.device)
        return colour, position, known

    def _finish(
        self, capture: CaptureParameters, linear: Tensor, truth: Tensor, generator: torch.Generator
    ) -> TrainingStack:
        """Apply exposure, noise and misalignment; quantise."""
        white = torch.randn(linear.shape, generator=generator, device=self.device)
        images = expose(linear, upload(capture.gain, self.device), white * capture.noise)
        if capture.warps is not None:
            images = _misalign(images, capture.warps)
        return TrainingStack((images * 255.0 + 0.5).to(torch.uint8), capture.focus, truth.clone())


def _misalign(images: Tensor, warps: np.ndarray) -> Tensor:
    """Scale and shift each plane (N, 3, H, W) by fractions of a pixel."""
    height, width = images.shape[-2:]
    scale, right, down = warps.T
    theta = np.zeros((len(warps), 2, 3))
    theta[:, 0, 0] = theta[:, 1, 1] = 1.0 / scale
    theta[:, 0, 2] = -2.0 * right / (width * scale)
    theta[:, 1, 2] = -2.0 * down / (height * scale)
    theta_device = upload(theta, images.device)
    grid = functional.affine_grid(theta_device, list(images.shape), align_corners=False)
    return functional.grid_sample(
        images, grid, mode='bicubic', padding_mode='reflection', align_corners=False
    ).clamp(0.0, 1.0)
