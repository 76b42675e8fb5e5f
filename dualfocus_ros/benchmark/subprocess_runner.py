# SPDX-License-Identifier: Apache-2.0
"""Measurement of one method in a separate process, as in a node: peak memory and sliding mode.

In a process with other networks, their turns evict the weights and memory of a method from the
caches, which slows a frame of sliding mode more than a whole stack.
"""

from __future__ import annotations

from collections.abc import Callable
import json
from pathlib import Path
import subprocess
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dualfocus_ros.benchmark.compute_config import ComputeConfig
    from dualfocus_ros.benchmark.timed_methods import TimedDualFocus
    from dualfocus_ros.focal_stack import FocalStack

RUNS = 3
MODULE = 'dualfocus_ros.benchmark.subprocess_runner'


def run_in_subprocess(
    name: str, stack: Path, device: str, precision: str, threads: int, seconds: float
) -> dict[str, Any]:
    """Run a method on a stack in a new process and return the measurements.

    :param name: as for :func:`~dualfocus_ros.benchmark.timed_methods.open_timed_method`.
    :param stack: file of :func:`~dualfocus_ros.benchmark.benchmark_stacks.write_stack`.
    :param seconds: budget of the repeats of each of the two times.
    :returns: ``imported_bytes`` after the imports, ``peak_bytes`` of the process, on a GPU
        ``device_peak_bytes`` (else None); for DualFocus networks also ``whole_ms`` and
        ``sliding_ms``, percentiles of interleaved runs. Only ``error`` after a failure.
    """
    words = [name, str(stack), device, precision, str(threads), repr(seconds)]
    done = subprocess.run(
        [sys.executable, '-m', MODULE, *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        # The kernel kills a process without memory before it can print.
        return {'error': lines[-1] if lines else f'ended with status {done.returncode}'}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure(
    name: str, stack: str, device: str, precision: str, threads: str, seconds: str
) -> dict[str, Any]:
    import cv2
    import torch

    from dualfocus_ros.benchmark import machine_info
    from dualfocus_ros.benchmark.benchmark_stacks import read_stack
    from dualfocus_ros.benchmark.compute_config import ComputeConfig
    from dualfocus_ros.benchmark.timed_methods import TimedDualFocus, open_timed_method

    def new_stack() -> FocalStack:
        return read_stack(Path(stack))

    assert cv2.__version__
    imported = machine_info.peak_resident_bytes()
    compute = ComputeConfig(device, precision, int(threads))
    compute.set_threads()
    method = open_timed_method(name, compute)
    for _ in range(RUNS):
        method.run(new_stack())
    if isinstance(method, TimedDualFocus):
        method.last_plane(new_stack())
    on_device = None
    if compute.torch_device.type == 'cuda':
        on_device = torch.cuda.max_memory_allocated(compute.torch_device)
    found = {
        'imported_bytes': imported,
        'peak_bytes': machine_info.peak_resident_bytes(),
        'device_peak_bytes': on_device,
    }
    if isinstance(method, TimedDualFocus):
        found |= _time_whole_and_sliding(name, method, compute, new_stack, float(seconds))
    return found


def _time_whole_and_sliding(
    name: str,
    method: TimedDualFocus,
    compute: ComputeConfig,
    new_stack: Callable[[], FocalStack],
    seconds: float,
) -> dict[str, Any]:
    """Return the times of whole stacks and of frames in sliding mode, interleaved."""
    from dualfocus_ros.benchmark.timed_methods import SlidingWindowTask, TimedDualFocus
    from dualfocus_ros.benchmark.timing import Percentiles, TimedTask, measure_interleaved

    def ignore(count: int) -> None:
        del count

    # A second estimator: a whole stack in between would end the stream.
    stream = TimedDualFocus(name, compute)
    tasks: dict[str, TimedTask] = {
        'whole_ms': lambda: method.run(new_stack()),
        'sliding_ms': SlidingWindowTask(stream, new_stack),
    }
    measured = measure_interleaved(tasks, seconds, ignore, ignore)
    return {
        key: Percentiles.of([sample.total_ms for sample in samples]).as_json()
        for key, samples in measured.items()
    }


if __name__ == '__main__':
    sys.stdout.write(json.dumps(_measure(*sys.argv[1:])))
