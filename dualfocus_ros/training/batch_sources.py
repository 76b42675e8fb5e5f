# SPDX-License-Identifier: Apache-2.0
"""Sources of batches, a function of seed, process and step.

A resumed run has the batches of an uninterrupted one without saved state.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
import time
from typing import Protocol

import numpy as np
import torch

from dualfocus_ros.simulation.random_stacks.stack_renderer import RenderedStack
from dualfocus_ros.training.batches import Batch, TrainingStack, draw_batch, to_stack
from dualfocus_ros.training.stack_generator import StackGenerator
from dualfocus_ros.training.training_config import BatchConfig

# Streams of random numbers: the third number of the seed, after seed and rank.
_BATCHES, _STACKS = 0, 1


class BatchSource(Protocol):
    """Source of the batch of any step."""

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, on the training device."""

    def prepare(self, step: int) -> None:
        """Start to render for the batch of a step, asynchronously where the device can."""

    def take_wait_seconds(self) -> float:
        """Return the seconds that training waited for data since the last call."""


class PoolSource:
    """Source of batches from a fixed pool of rendered stacks."""

    def __init__(
        self,
        pool: Sequence[RenderedStack],
        config: BatchConfig,
        seed: int,
        rank: int,
        device: torch.device,
    ) -> None:
        self._stacks = [to_stack(stack, device) for stack in pool]
        self._config, self._seed, self._rank = config, seed, rank
        self._seconds = 0.0

    def batch(self, step: int) -> Batch:
        """Return the batch of a step."""
        began = time.perf_counter()
        rng = np.random.default_rng([self._seed, self._rank, _BATCHES, step])
        batch = draw_batch(rng, self._stacks, self._config)
        self._seconds += time.perf_counter() - began
        return batch

    def prepare(self, step: int) -> None:
        """Do nothing: the pool is complete."""

    def take_wait_seconds(self) -> float:
        """Return the seconds spent on drawing batches since the last call."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


class GeneratedSource:
    """Source of batches from stacks rendered on the training device during training.

    Stacks are rendered in groups of the size of a batch. A group is in use for
    ``groups * reuse`` steps, in which each of its stacks is drawn ``reuse`` times on average.
    Every ``reuse`` steps a new group replaces the oldest.
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
        self._generator, self._config = generator, config
        self._seed, self._rank = seed, rank
        self._reuse, self._count = reuse, groups
        self._groups: dict[int, _Group] = {}
        self._seconds = 0.0
        self._stream: torch.cuda.Stream | None = None
        self._waits: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        if generator.device.type == 'cuda':
            self._stream = torch.cuda.Stream(generator.device)
            # Textures were uploaded on the training stream.
            self._stream.wait_stream(torch.cuda.current_stream(generator.device))

    def batch(self, step: int) -> Batch:
        """Return the batch of a step; render missing groups."""
        began = time.perf_counter()
        needed = self._needed(step)
        for number in [n for n in self._groups if n not in needed and n != needed.stop]:
            del self._groups[number]
        groups = [self._group(number) for number in needed]
        if self._stream is not None:
            self._wait_for(groups)
        rng = np.random.default_rng([self._seed, self._rank, _BATCHES, step])
        stacks = list(chain.from_iterable(group.stacks for group in groups))
        batch = draw_batch(rng, stacks, self._config)
        if self._stream is None:
            self._seconds += time.perf_counter() - began
        return batch

    def prepare(self, step: int) -> None:
        """Render the next group on a second stream, concurrently with training, on CUDA."""
        if self._stream is not None:
            self._group(self._needed(step).stop)

    def take_wait_seconds(self) -> float:
        """Return the seconds that the device (on a CPU: the program) waited for stacks."""
        for before, after in self._waits:
            after.synchronize()
            self._seconds += 1e-3 * before.elapsed_time(after)
        self._waits.clear()
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def _needed(self, step: int) -> range:
        """Return the numbers of the groups in use at a step."""
        first = step // self._reuse
        return range(first, first + self._count)

    def _group(self, number: int) -> _Group:
        if number not in self._groups:
            self._groups[number] = self._render(number)
        return self._groups[number]

    def _render(self, number: int) -> _Group:
        rng = np.random.default_rng([self._seed, self._rank, _STACKS, number])
        if self._stream is None:
            return _Group(self._generator.render(rng, self._config.size), None)
        training = torch.cuda.current_stream(self._generator.device)
        done = torch.cuda.Event()
        with torch.cuda.stream(self._stream):
            stacks = self._generator.render(rng, self._config.size)
            done.record(self._stream)
        for stack in stacks:  # keep the allocator from reusing memory that training still reads
            stack.images.record_stream(training)
            stack.truth.record_stream(training)
        return _Group(stacks, done)

    def _wait_for(self, groups: Sequence[_Group]) -> None:
        """Make the training stream wait for groups in rendering, and measure the time."""
        pending = [group for group in groups if group.done is not None]
        if not pending:
            return
        training = torch.cuda.current_stream(self._generator.device)
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record(training)
        for group in pending:
            assert group.done is not None
            training.wait_event(group.done)
            group.done = None
        after.record(training)
        self._waits.append((before, after))


@dataclass(eq=False)
class _Group:
    """Group of stacks.

    :param done: event at the end of rendering; None once training waited for it.
    """

    stacks: list[TrainingStack]
    done: torch.cuda.Event | None
