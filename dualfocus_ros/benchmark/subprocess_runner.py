# SPDX-License-Identifier: Apache-2.0
"""A method in a process of its own, as a node has one: peak memory, and frames against stacks.

Beside other networks a method finds neither its weights nor its memory where it left them, which
weighs more on a frame of sliding mode than on a whole stack.
"""

from __future__ import annotations

import json
from pathlib import Path
import subprocess
import sys
from typing import Any

RUNS = 3
MODULE = 'dualfocus_ros.benchmark.subprocess_runner'


def run_in_subprocess(
    name: str, stack: Path, device: str, precision: str, threads: int, seconds: float
) -> dict[str, Any]:
    """Run a method on a stack in a fresh process and return what was measured.

    :param name: as for ``contestants.open_timed_method``.
    :param stack: a file of ``scene.write_stack``.
    :param seconds: what the repeats of each of the two times may take.
    :returns: ``imported_bytes`` once everything is imported, ``peak_bytes`` of the process while
        it does one stack after the other, and on a GPU ``device_peak_bytes``, else None; of our
        models also ``whole_ms`` and ``sliding_ms``, percentiles of runs that took turns. Only
        ``error`` where it failed.
    """
    words = [name, str(stack), device, precision, str(threads), repr(seconds)]
    done = subprocess.run(
        [sys.executable, '-m', MODULE, *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        # Out of memory ends a process without a word.
        return {'error': lines[-1] if lines else f'ended with status {done.returncode}'}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _probe(
    name: str, stack: str, device: str, precision: str, threads: str, seconds: str
) -> dict[str, Any]:
    import cv2
    import torch

    from dualfocus_ros.benchmark import machine_info
    from dualfocus_ros.benchmark.benchmark_stacks import read_stack
    from dualfocus_ros.benchmark.timed_methods import (
        ComputeConfig,
        TimedDualFocus,
        open_timed_method,
        set_threads,
    )
    from dualfocus_ros.focal_stack import FocalStack

    def fresh() -> FocalStack:
        return read_stack(Path(stack))

    assert cv2.__version__
    imported = machine_info.peak_resident_bytes()
    place = ComputeConfig(device, precision, int(threads))
    set_threads(place)
    contestant = open_timed_method(name, place)
    for _ in range(RUNS):
        contestant.run(fresh())
    if isinstance(contestant, TimedDualFocus):
        contestant.last_plane(fresh())
    on_device = None
    if place.torch_device.type == 'cuda':
        on_device = torch.cuda.max_memory_allocated(place.torch_device)
    found = {
        'imported_bytes': imported,
        'peak_bytes': machine_info.peak_resident_bytes(),
        'device_peak_bytes': on_device,
    }
    if isinstance(contestant, TimedDualFocus):
        found |= _frames_and_stacks(name, contestant, place, fresh, float(seconds))
    return found


def _frames_and_stacks(
    name: str, ours: Any, place: Any, fresh: Any, seconds: float
) -> dict[str, Any]:
    """Return the times of whole stacks and of frames in sliding mode, which take turns."""
    from dualfocus_ros.benchmark.timed_methods import SlidingWindowTask, open_timed_method
    from dualfocus_ros.benchmark.timing import Percentiles, TimedTask, measure_interleaved

    def ignore(count: int) -> None:
        del count

    # Its own estimator: a whole stack in between would end the stream.
    stream: Any = open_timed_method(name, place)
    tasks: dict[str, TimedTask] = {
        'whole_ms': lambda: ours.run(fresh()),
        'sliding_ms': SlidingWindowTask(stream, fresh),
    }
    measured = measure_interleaved(tasks, seconds, ignore, ignore)
    return {
        key: Percentiles.of([sample.total_ms for sample in samples]).as_json()
        for key, samples in measured.items()
    }


if __name__ == '__main__':
    sys.stdout.write(json.dumps(_probe(*sys.argv[1:])))
