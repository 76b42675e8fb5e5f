# SPDX-License-Identifier: Apache-2.0
"""Draws augmented training batches from a pool of rendered stacks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dualfocus_ros.data.rendered_stacks import RenderedStack


@dataclass(frozen=True)
class BatchSettings:
    """Shape of a batch. ``planes`` is the inclusive range of planes per stack."""

    size: int = 4
    crop: int = 160
    planes: tuple[int, int] = (3, 10)


@dataclass(frozen=True, eq=False)
class Batch:
    """Tensors of a batch: images (B, N, 3, H, W) in [0, 1], focus (B, N) ascending,
    truth (B, H, W) in the unit of focus."""

    images: Tensor
    focus: Tensor
    truth: Tensor


def draw_batch(
    rng: np.random.Generator, pool: list[RenderedStack], settings: BatchSettings
) -> Batch:
    """Draw stacks, a common number of planes, crops and photometric changes."""
    available = len(pool[0].focus)
    low, high = settings.planes
    # Few planes are the common case on a robot: favour the lower half of the range.
    count = int(min(rng.integers(low, high + 1), rng.integers(low, high + 1) + 2, available))
    images, focus, truth = [], [], []
    for index in rng.integers(len(pool), size=settings.size):
        sample = _augmented(rng, pool[index], count, settings.crop)
        images.append(sample[0])
        focus.append(sample[1])
        truth.append(sample[2])
    return Batch(
        torch.from_numpy(np.stack(images)).permute(0, 1, 4, 2, 3).contiguous(),
        torch.from_numpy(np.stack(focus)),
        torch.from_numpy(np.stack(truth)),
    )


def choose_planes(rng: np.random.Generator, available: int, count: int) -> np.ndarray:
    """Return sorted indices: mostly evenly spaced over the sweep, sometimes any subset."""
    if rng.random() < 0.7:
        return np.unique(np.linspace(0, available - 1, count).round().astype(int))
    return np.sort(rng.choice(available, count, replace=False))


def _augmented(
    rng: np.random.Generator, stack: RenderedStack, count: int, crop: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    chosen = choose_planes(rng, len(stack.focus), count)
    height, width = stack.position.shape
    top, left = rng.integers(height - crop + 1), rng.integers(width - crop + 1)
    window = np.s_[top : top + crop, left : left + crop]
    images = stack.images[chosen][:, window[0], window[1]].astype(np.float32) / 255.0
    truth = stack.position[window]
    focus = stack.focus[chosen]

    if rng.random() < 0.5:
        images, truth = images[:, :, ::-1], truth[:, ::-1]
    turns = int(rng.integers(4))
    images, truth = np.rot90(images, turns, (1, 2)), np.rot90(truth, turns, (0, 1))
    if rng.random() < 0.1:
        # Disparity and slice lists come in either direction; tolerate the wrong one.
        images, focus, truth = images[::-1], 1.0 - focus[::-1], 1.0 - truth
    if rng.random() < 0.2:
        images = np.repeat(images @ np.array([[0.299], [0.587], [0.114]], np.float32), 3, axis=-1)
    elif rng.random() < 0.5:
        images = images[..., rng.permutation(3)]
    gain, gamma = rng.uniform(0.6, 1.2), rng.uniform(0.75, 1.35)
    images = np.clip(images * gain, 0.0, 1.0) ** np.float32(gamma)
    return (
        np.ascontiguousarray(images, dtype=np.float32),
        np.ascontiguousarray(focus, dtype=np.float32),
        np.ascontiguousarray(truth, dtype=np.float32),
    )
