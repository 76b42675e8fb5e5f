# SPDX-License-Identifier: Apache-2.0
"""Augmented training batches, drawn from stacks on the training device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dualfocus_ros.models.layers import smooth3x3
from dualfocus_ros.simulation.random_stacks.batch_defocus import upload
from dualfocus_ros.simulation.random_stacks.stack_renderer import RenderedStack
from dualfocus_ros.training.training_config import BatchConfig

# Share of stacks with reversed focus and truth.
REVERSED_SHARE = 0.2
# Ranges of the scene's depth range and of its farthest inverse depth, in dioptres, for the map of
# positions to dioptres. Networks with inputs relative to the sweep are invariant to it.
SPAN_DIOPTRES, BASE_DIOPTRES = (0.8, 3.0), (0.1, 1.0)
# Lower limit of the positions of scenes, also reversed ones.
MIN_POSITION = -0.1
_LUMA_WEIGHTS = (0.299, 0.587, 0.114)
# Share of stacks with changed fine detail, and range of the change; -1 removes all of it. Cameras
# sharpen or smooth, and downscaled images of a carpet have four times the detail of a photograph.
SHARPENED_SHARE, SHARPENING_RANGE = 0.6, (-1.0, 3.0)


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


@dataclass(frozen=True, eq=False)
class Batch:
    """Batch of stacks.

    :param images: (B, N, 3, H, W) in [0, 1].
    :param focus: (B, N) dioptres, ascending.
    :param truth: (B, H, W) dioptres, NaN where unknown.
    """

    images: Tensor
    focus: Tensor
    truth: Tensor


def to_stack(rendered: RenderedStack, device: torch.device) -> TrainingStack:
    """Upload a rendered stack."""
    images = torch.from_numpy(rendered.images).permute(0, 3, 1, 2).contiguous().to(device)
    return TrainingStack(images, rendered.focus, torch.from_numpy(rendered.position).to(device))


def draw_batch(
    rng: np.random.Generator, stacks: Sequence[TrainingStack], config: BatchConfig
) -> Batch:
    """Draw stacks, a common number of planes, crops and photometric changes.

    Random numbers come from the host, pixels stay on the device: no synchronisation.
    """
    low, high = config.planes
    # Few planes are common on robots: favour the lower half of the range.
    available = len(stacks[0].focus)
    count = int(min(rng.integers(low, high + 1), rng.integers(low, high + 1) + 2, available))
    images, focus, truths, scales, mixing, tones = [], [], [], [], [], []
    for index in rng.integers(len(stacks), size=config.size):
        stack = stacks[index]
        chosen = choose_planes(rng, len(stack.focus), count)
        # Reverse some stacks, since focus lists of either direction occur in practice.
        reverse = bool(rng.random() < REVERSED_SHARE)
        planes, truth = _crop(rng, stack, chosen[::-1] if reverse else chosen, config.crop)
        images.append(planes)
        truths.append(truth)
        picked = stack.focus[chosen]
        # Positions x become dioptres: base + span (x - floor), positive everywhere.
        span, base = rng.uniform(*SPAN_DIOPTRES), rng.uniform(*BASE_DIOPTRES)
        sign, start = (-1.0, 1.0) if reverse else (1.0, 0.0)
        positions = start + sign * (picked[::-1] if reverse else picked)
        floor = min(float(positions[0]), MIN_POSITION)
        focus.append(base + span * (positions - floor))
        scales.append((sign * span, base + span * (start - floor)))
        mixing.append(_color_matrix(rng))
        gain, gamma = rng.uniform(0.6, 1.2), rng.uniform(0.75, 1.35)
        tones.append(
            (
                gain,
                gamma,
                rng.uniform(*SHARPENING_RANGE) if rng.random() < SHARPENED_SHARE else 0.0,
            )
        )
    device = stacks[0].images.device
    pixels = torch.stack(images).float() / 255.0
    colours = upload(np.stack(mixing), device)[:, None]
    images_rgb = (colours @ pixels.flatten(3)).view_as(pixels)
    gains, gammas, amounts = upload(np.array(tones), device).T[..., None, None, None, None]
    scale, shift = upload(np.array(scales), device).T[..., None, None]
    return Batch(
        images=(sharpen(images_rgb, amounts) * gains).clamp(0.0, 1.0) ** gammas,
        focus=upload(np.stack(focus).astype(np.float32), device),
        truth=torch.stack(truths) * scale + shift,
    )


def choose_planes(rng: np.random.Generator, available: int, count: int) -> np.ndarray:
    """Return sorted indices of planes: evenly spaced in 70 % of the draws, else any subset."""
    if rng.random() < 0.7:
        return np.unique(np.linspace(0, available - 1, count).round().astype(int))
    return np.sort(rng.choice(available, count, replace=False))


def _crop(
    rng: np.random.Generator, stack: TrainingStack, chosen: np.ndarray, crop: int
) -> tuple[Tensor, Tensor]:
    """Return planes and truth of a random window, randomly flipped and rotated."""
    height, width = stack.truth.shape
    top, left = rng.integers(height - crop + 1), rng.integers(width - crop + 1)
    rows, columns = slice(top, top + crop), slice(left, left + crop)
    # Slices instead of an index, which would have to be uploaded.
    images = torch.stack([stack.images[plane, :, rows, columns] for plane in chosen])
    truth = stack.truth[rows, columns]
    if rng.random() < 0.5:
        images, truth = images.flip(-1), truth.flip(-1)
    turns = int(rng.integers(4))
    return torch.rot90(images, turns, (-2, -1)), torch.rot90(truth, turns, (-2, -1))


def sharpen(images: Tensor, amounts: Tensor) -> Tensor:
    """Change the fine detail of images (B, N, 3, H, W), by one filter for all planes of a stack.

    The filter commutes with blur: the planes stay consistent with defocus of one scene.

    :param amounts: (B, 1, 1, 1, 1) shares of the detail to add; -1 removes all of it.
    """
    # [1 2 1] / 4 along rows and columns.
    smooth = smooth3x3(images.flatten(0, 1), 0.5**0.5)
    detail = images - smooth.view_as(images)
    return images + amounts * detail


def _color_matrix(rng: np.random.Generator) -> np.ndarray:
    """Return a random (3, 3) colour transform: grey, a permutation of channels, or identity."""
    if rng.random() < 0.2:
        return np.repeat(np.array([_LUMA_WEIGHTS], np.float32), 3, axis=0)
    identity = np.eye(3, dtype=np.float32)
    return identity[rng.permutation(3)] if rng.random() < 0.5 else identity
