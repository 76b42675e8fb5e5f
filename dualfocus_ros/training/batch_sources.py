# SPDX-License-Identifier: Apache-2.0
"""Where batches come from: the batch of a step follows from the seed, the process and the step.

So a resumed run sees what an uninterrupted one would have seen, and no state has to be kept.
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
from dualfocus_ros.training.batches import Batch, BatchConfig, TrainingStack, draw_batch, to_stack
from dualfocus_ros.training.stack_generator import StackGenerator

# Different draws of one seed: numbers behind the seed and the rank of the process.
_BATCHES, _STACKS = 0, 1


class BatchSource(Protocol):
    """Gives the batch of any step."""

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, on the training device."""

    def prepare(self, step: int) -> None:
        """Begin to make what the batch of that step needs, while the device does other things."""

    def waited(self) -> float:
        """Return for how many seconds training has waited for data since the last call."""


class PoolSource:
    """Batches from a fixed pool of rendered stacks."""

    def __init__(
        self,
        pool: Sequence[RenderedStack],
        settings: BatchConfig,
        seed: int,
        rank: int,
        device: torch.device,
    ) -> None:
        self._stacks = [to_stack(stack, device) for stack in pool]
        self._settings, self._seed, self._rank = settings, seed, rank
        self._seconds = 0.0

    def batch(self, step: int) -> Batch:
        """Return the batch of a step."""
        began = time.perf_counter()
        rng = np.random.default_rng([self._seed, self._rank, _BATCHES, step])
        batch = draw_batch(rng, self._stacks, self._settings)
        self._seconds += time.perf_counter() - began
        return batch

    def prepare(self, step: int) -> None:
        """Do nothing: the pool is there."""

    def waited(self) -> float:
        """Return the seconds spent on drawing batches since the last call."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds


class GeneratedSource:
    """Batches from stacks that are rendered on the training device as training goes on.

    Stacks come in groups of the size of a batch. A group takes part in training for
    ``groups * reuse`` steps, in which each of its stacks is drawn ``reuse`` times on average;
    every ``reuse`` steps the next group takes the place of the oldest.
    """

    def __init__(
        self,
        generator: StackGenerator,
        settings: BatchConfig,
        seed: int,
        rank: int,
        *,
        reuse: int = 4,
        groups: int = 8,
    ) -> None:
        self._generator, self._settings = generator, settings
        self._seed, self._rank = seed, rank
        self._reuse, self._count = reuse, groups
        self._groups: dict[int, _Group] = {}
        self._seconds = 0.0
        self._stream: torch.cuda.Stream | None = None
        self._waits: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []
        if generator.device.type == 'cuda':
            self._stream = torch.cuda.Stream(generator.device)
            # Textures were uploaded on the other stream.
            self._stream.wait_stream(torch.cuda.current_stream(generator.device))

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, rendering what it lacks."""
        began = time.perf_counter()
        needed = self._needed(step)
        for group in [g for g in self._groups if g not in needed and g != needed.stop]:
            del self._groups[group]
        groups = [self._group(number) for number in needed]
        if self._stream is not None:
            self._join(groups)
        rng = np.random.default_rng([self._seed, self._rank, _BATCHES, step])
        stacks = list(chain.from_iterable(group.stacks for group in groups))
        batch = draw_batch(rng, stacks, self._settings)
        if self._stream is None:
            self._seconds += time.perf_counter() - began
        return batch

    def prepare(self, step: int) -> None:
        """Render one group ahead beside the training step, where the device can do both."""
        if self._stream is not None:
            self._group(self._needed(step).stop)

    def waited(self) -> float:
        """Return for how long the device (on a CPU: the program) has waited for stacks."""
        for before, after in self._waits:
            after.synchronize()
            self._seconds += 1e-3 * before.elapsed_time(after)
        self._waits.clear()
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def _needed(self, step: int) -> range:
        first = step // self._reuse
        return range(first, first + self._count)

    def _group(self, number: int) -> _Group:
        if number not in self._groups:
            self._groups[number] = self._render(number)
        return self._groups[number]

    def _render(self, number: int) -> _Group:
        rng = np.random.default_rng([self._seed, self._rank, _STACKS, number])
        if self._stream is None:
            return _Group(self._generator.render(rng, self._settings.size), None)
        training = torch.cuda.current_stream(self._generator.device)
        done = torch.cuda.Event()
        with torch.cuda.stream(self._stream):
            stacks = self._generator.render(rng, self._settings.size)
            done.record(self._stream)
        for stack in stacks:  # memory that training still reads must not be taken for the next
            stack.images.record_stream(training)
            stack.truth.record_stream(training)
        return _Group(stacks, done)

    def _join(self, groups: Sequence[_Group]) -> None:
        """Let training wait for groups that may still be rendered, and measure for how long."""
        fresh = [group for group in groups if group.done is not None]
        if not fresh:
            return
        training = torch.cuda.current_stream(self._generator.device)
        before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        before.record(training)
        for group in fresh:
            assert group.done is not None
            training.wait_event(group.done)
            group.done = None
        after.record(training)
        self._waits.append((before, after))


@dataclass(eq=False)
class _Group:
    """Stacks, and the event after which they are rendered; None: they are."""

    stacks: list[TrainingStack]
    done: torch.cuda.Event | None
