# SPDX-License-Identifier: Apache-2.0
"""Training batches: augmented crops of stacks, a function of seed, process and step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import time

import numpy as np
import torch
from torch import Tensor

from dualfocus_ros.models.layers import smooth3x3
from dualfocus_ros.simulation.random_stacks.batch_defocus import upload
from dualfocus_ros.simulation.random_stacks.stack_renderer import RenderedStack
from dualfocus_ros.training.stack_generator import StackGenerator, TrainingStack, to_stack
from dualfocus_ros.training.training_config import BatchConfig

# Share of stacks with reversed focus and truth.
REVERSED_SHARE = 0.2
# Ranges of the scene's depth range and of its farthest inverse depth, in dioptres, for the map of
# positions to dioptres. Networks with inputs relative to the sweep are invariant to it.
SPAN_DIOPTRES, BASE_DIOPTRES = (0.8, 3.0), (0.1, 1.0)
# Lower limit of the positions of scenes, also reversed ones.
MIN_POSITION = -0.1
_LUMA_WEIGHTS = (0.299, 0.587, 0.114)
# Share of stacks with changed fine detail, and range of the change, as of cameras; -1 removes it.
SHARPENED_SHARE, SHARPENING_RANGE = 0.6, (-1.0, 3.0)
# Streams of random numbers: the third number of the seed, after seed and rank.
_BATCHES, _STACKS = 0, 1


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


def draw_batch(
    rng: np.random.Generator, stacks: Sequence[TrainingStack], config: BatchConfig
) -> Batch:
    """Draw stacks, number of planes, crops and photometric changes, without synchronisation."""
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
        sharpened = rng.random() < SHARPENED_SHARE
        tones.append((gain, gamma, rng.uniform(*SHARPENING_RANGE) if sharpened else 0.0))
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

    :param amounts: (B, 1, 1, 1, 1) shares of the detail to add; -1 removes all of it.
    """
    # [1 2 1] / 4 along rows and columns.
    smooth = smooth3x3(images.flatten(0, 1), 0.5**0.5).view_as(images)
    return images + amounts * (images - smooth)


def _color_matrix(rng: np.random.Generator) -> np.ndarray:
    """Return a random (3, 3) colour transform: grey, a permutation of channels, or identity."""
    if rng.random() < 0.2:
        return np.repeat(np.array([_LUMA_WEIGHTS], np.float32), 3, axis=0)
    identity = np.eye(3, dtype=np.float32)
    return identity[rng.permutation(3)] if rng.random() < 0.5 else identity


class BatchSource:
    """Source of the batch of any step, on the training device."""

    def __init__(self, config: BatchConfig, seed: int, rank: int) -> None:
        self._config, self._seed, self._rank = config, seed, rank
        self._seconds = 0.0

    def _stacks_at(self, step: int) -> Sequence[TrainingStack]:
        raise NotImplementedError

    def batch(self, step: int) -> Batch:
        """Return the batch of a step."""
        began = time.perf_counter()
        batch = draw_batch(self._rng(_BATCHES, step), self._stacks_at(step), self._config)
        self._seconds += time.perf_counter() - began
        return batch

    def prepare(self, step: int) -> None:
        """Start to render for the batch of a step, asynchronously where the device can."""

    def take_wait_seconds(self) -> float:
        """Return the seconds that training waited for data since the last call."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def _rng(self, stream: int, number: int) -> np.random.Generator:
        return np.random.default_rng([self._seed, self._rank, stream, number])


class PoolSource(BatchSource):
    """Source of batches from a fixed pool of rendered stacks."""

    def __init__(
        self,
        pool: Sequence[RenderedStack],
        config: BatchConfig,
        seed: int,
        rank: int,
        device: torch.device,
    ) -> None:
        super().__init__(config, seed, rank)
        self._stacks = [to_stack(stack, device) for stack in pool]

    def _stacks_at(self, step: int) -> Sequence[TrainingStack]:
        return self._stacks


@dataclass(eq=False)
class _Group:
    """Stacks, and the event at the end of rendering; None once training waited for it."""

    stacks: list[TrainingStack]
    done: torch.cuda.Event | None = None


class GeneratedSource(BatchSource):
    """Source of batches from stacks rendered on the training device during training.

    Stacks are rendered in groups of the size of a batch. Every ``reuse`` steps a new group
    replaces the oldest of ``groups``, so each stack is drawn ``reuse`` times on average. On CUDA a
    second stream renders the next group concurrently with training.
    """

    def __init__(
        self,
        generator: StackGenerator,
        config: BatchConfig,
        seed: int,
        rank: int,
        *,
        reuse: int = 4,
        groups: int = 8,
    ) -> None:
        super().__init__(config, seed, rank)
        self._generator, self._reuse, self._count = generator, reuse, groups
        self._groups: dict[int, _Group] = {}
        self._stream: torch.cuda.Stream | None = None
        self._waits: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        if generator.device.type == 'cuda':
            self._stream = torch.cuda.Stream(generator.device)
            # Textures were uploaded on the training stream.
            self._stream.wait_stream(torch.cuda.current_stream(generator.device))

    def _stacks_at(self, step: int) -> Sequence[TrainingStack]:
        needed = self._needed(step)
        self._groups = {n: g for n, g in self._groups.items() if n in needed or n == needed.stop}
        groups = [self._group(number) for number in needed]
        if self._stream is not None:
            self._wait_for(groups)
        return [stack for group in groups for stack in group.stacks]

    def prepare(self, step: int) -> None:
        if self._stream is not None:
            self._group(self._needed(step).stop)

    def take_wait_seconds(self) -> float:
        """Return the seconds that the device (on a CPU: the program) waited for stacks."""
        if self._stream is None:
            return super().take_wait_seconds()
        if self._waits:
            self._waits[-1][1].synchronize()
        seconds = sum(1e-3 * before.elapsed_time(after) for before, after in self._waits)
        self._waits.clear()
        return seconds

    def _needed(self, step: int) -> range:
        first = step // self._reuse
        return range(first, first + self._count)

    def _group(self, number: int) -> _Group:
        if number not in self._groups:
            rng = self._rng(_STACKS, number)
            if self._stream is None:
                group = _Group(self._generator.render(rng, self._config.size))
            else:
                group = self._render_on(self._stream, rng)
            self._groups[number] = group
        return self._groups[number]

    def _render_on(self, stream: torch.cuda.Stream, rng: np.random.Generator) -> _Group:
        training = torch.cuda.current_stream(self._generator.device)
        done = torch.cuda.Event()
        with torch.cuda.stream(stream):
            stacks = self._generator.render(rng, self._config.size)
            done.record(stream)
        for stack in stacks:  # keep the allocator from reusing memory that training still reads
            stack.images.record_stream(training)
            stack.truth.record_stream(training)
        return _Group(stacks, done)

    def _wait_for(self, groups: Sequence[_Group]) -> None:
        """Make the training stream wait for groups in rendering, and measure the time."""
        pending = [group.done for group in groups if group.done is not None]
        if not pending:
            return
        training = torch.cuda.current_stream(self._generator.device)
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record(training)
        for event in pending:
            training.wait_event(event)
        after.record(training)
        for group in groups:
            group.done = None
        self._waits.append((before, after))
