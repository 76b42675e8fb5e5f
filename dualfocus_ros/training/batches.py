# SPDX-License-Identifier: Apache-2.0
"""Draws augmented training batches from stacks that lie on the training device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dualfocus_ros.models.layers import smooth3x3
from dualfocus_ros.simulation.random_stacks.batch_defocus import upload
from dualfocus_ros.simulation.random_stacks.stack_renderer import RenderedStack

# Share of stacks whose focus and truth run the other way round.
REVERSED_SHARE = 0.2
# The range of a scene in dioptres, and what its farthest plane or point has, before positions
# become dioptres. A network that is told nothing but ratios of positions does not care.
SPAN_DIOPTRES, BASE_DIOPTRES = (0.8, 3.0), (0.1, 1.0)
# No scene has positions below this, whichever way round.
MIN_POSITION = -0.1
_LUMA_WEIGHTS = (0.299, 0.587, 0.114)
# Fine detail is taken away (-1: all of it) or exaggerated, as cameras sharpen and smooth and as
# images that were made smaller have it: a carpet may have four times what a photograph has.
SHARPENED_SHARE, SHARPENING_RANGE = 0.6, (-1.0, 3.0)


@dataclass(frozen=True)
class BatchConfig:
    """Shape of a batch. ``planes`` is the inclusive range of planes per stack."""

    size: int = 4
    crop: int = 160
    planes: tuple[int, int] = (3, 10)


@dataclass(frozen=True, eq=False)
class TrainingStack:
    """A rendered stack on a device.

    :param images: (N, 3, H, W) uint8 sRGB.
    :param focus: (N,) float32 ascending, on the host.
    :param truth: (H, W) float32 in the unit of focus, NaN where it is not known.
    """

    images: Tensor
    focus: np.ndarray
    truth: Tensor


@dataclass(frozen=True, eq=False)
class Batch:
    """Tensors of a batch: images (B, N, 3, H, W) in [0, 1], focus (B, N) in ascending dioptres,
    truth (B, H, W) in dioptres, NaN where it is not known."""

    images: Tensor
    focus: Tensor
    truth: Tensor


def to_stack(rendered: RenderedStack, device: torch.device) -> TrainingStack:
    """Return a stack on a device."""
    images = torch.from_numpy(rendered.images).permute(0, 3, 1, 2).contiguous().to(device)
    return TrainingStack(images, rendered.focus, torch.from_numpy(rendered.position).to(device))


def draw_batch(
    rng: np.random.Generator, stacks: Sequence[TrainingStack], settings: BatchConfig
) -> Batch:
    """Draw stacks, a common number of planes, crops and photometric changes.

    All draws happen on the host and the pixels stay where they are: nothing waits for the device.
    """
    low, high = settings.planes
    # Few planes are the common case on a robot: favour the lower half of the range.
    available = len(stacks[0].focus)
    count = int(min(rng.integers(low, high + 1), rng.integers(low, high + 1) + 2, available))
    images, focus, truths, scales, mixing, tones = [], [], [], [], [], []
    for index in rng.integers(len(stacks), size=settings.size):
        stack = stacks[index]
        chosen = choose_planes(rng, len(stack.focus), count)
        # Disparity and slice lists come in either direction; tolerate the wrong one.
        backwards = bool(rng.random() < REVERSED_SHARE)
        planes, truth = _crop(rng, stack, chosen[::-1] if backwards else chosen, settings.crop)
        images.append(planes)
        truths.append(truth)
        picked = stack.focus[chosen]
        # Positions x become dioptres: base + span (x - floor), positive everywhere.
        span, base = rng.uniform(*SPAN_DIOPTRES), rng.uniform(*BASE_DIOPTRES)
        sign, start = (-1.0, 1.0) if backwards else (1.0, 0.0)
        planned = start + sign * (picked[::-1] if backwards else picked)
        floor = min(float(planned[0]), MIN_POSITION)
        focus.append(base + span * (planned - floor))
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
    mixed = (colours @ pixels.flatten(3)).view_as(pixels)
    gains, gammas, amounts = upload(np.array(tones), device).T[..., None, None, None, None]
    scale, shift = upload(np.array(scales), device).T[..., None, None]
    return Batch(
        images=(sharpen(mixed, amounts) * gains).clamp(0.0, 1.0) ** gammas,
        focus=upload(np.stack(focus).astype(np.float32), device),
        truth=torch.stack(truths) * scale + shift,
    )


def choose_planes(rng: np.random.Generator, available: int, count: int) -> np.ndarray:
    """Return sorted indices: mostly evenly spaced over the sweep, sometimes any subset."""
    if rng.random() < 0.7:
        return np.unique(np.linspace(0, available - 1, count).round().astype(int))
    return np.sort(rng.choice(available, count, replace=False))


def _crop(
    rng: np.random.Generator, stack: TrainingStack, chosen: np.ndarray, crop: int
) -> tuple[Tensor, Tensor]:
    """Return the chosen planes and the truth of a random window, flipped and turned at random."""
    height, width = stack.truth.shape
    top, left = rng.integers(height - crop + 1), rng.integers(width - crop + 1)
    rows, columns = slice(top, top + crop), slice(left, left + crop)
    # Slices, not an index: an index would have to be uploaded.
    images = torch.stack([stack.images[plane, :, rows, columns] for plane in chosen])
    truth = stack.truth[rows, columns]
    if rng.random() < 0.5:
        images, truth = images.flip(-1), truth.flip(-1)
    turns = int(rng.integers(4))
    return torch.rot90(images, turns, (-2, -1)), torch.rot90(truth, turns, (-2, -1))


def sharpen(images: Tensor, amounts: Tensor) -> Tensor:
    """Return images (B, N, 3, H, W) with a part of their fine detail added, all planes alike.

    Blur and this filter may change places: the planes stay what defocus makes of one scene.

    :param amounts: (B, 1, 1, 1, 1) shares of the detail; -1 takes all of it away.
    """
    # [1 2 1] / 4 along rows and columns.
    smooth = smooth3x3(images.flatten(0, 1), 0.5**0.5)
    detail = images - smooth.view_as(images)
    return images + amounts * detail


def _color_matrix(rng: np.random.Generator) -> np.ndarray:
    """Return the (3, 3) matrix that makes colours grey, or swaps them, or leaves them."""
    if rng.random() < 0.2:
        return np.repeat(np.array([_LUMA_WEIGHTS], np.float32), 3, axis=0)
    identity = np.eye(3, dtype=np.float32)
    return identity[rng.permutation(3)] if rng.random() < 0.5 else identity
