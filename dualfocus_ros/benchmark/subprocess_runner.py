# SPDX-License-Identifier: Apache-2.0
"""Measurement of one method in a separate process, as in a node: peak memory and sliding mode.

In a process with other networks, their turns evict the weights and memory of a method from the
caches, which slows a frame of sliding mode more than a whole stack.
"""

from __future__ import annotations

from dataclasses import astuple
import json
from pathlib import Path
import subprocess
import sys
from typing import Any

import torch

from dualfocus_ros.benchmark import machine_info
from dualfocus_ros.benchmark.benchmark_stacks import read_stack
from dualfocus_ros.benchmark.method_timing import (
    ComputeConfig,
    TimedDualFocus,
    open_timed_method,
    sliding_window_task,
)
from dualfocus_ros.benchmark.timing import measure_interleaved, summarize
from dualfocus_ros.focal_stack import FocalStack

RUNS = 3
MODULE = 'dualfocus_ros.benchmark.subprocess_runner'


def run_in_subprocess(
    name: str, stack: Path, compute: ComputeConfig, seconds: float
) -> dict[str, Any]:
    """Run a method on a stack in a new process and return the measurements.

    :param name: as for :func:`~dualfocus_ros.benchmark.method_timing.open_timed_method`.
    :param stack: file of :func:`~dualfocus_ros.benchmark.benchmark_stacks.write_stack`.
    :param seconds: budget of the repeats of each of the two times.
    :returns: ``imported_bytes`` after the imports, ``peak_bytes`` of the process, on a GPU
        ``device_peak_bytes`` (else None); for DualFocus networks also ``whole_ms`` and
        ``sliding_ms``, percentiles of interleaved runs. Only ``error`` after a failure.
    """
    words = [name, str(stack), *map(str, astuple(compute)), repr(seconds)]
    done = subprocess.run(
        [sys.executable, '-m', MODULE, *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        # The kernel kills a process without memory before it can print.
        return {'error': lines[-1] if lines else f'ended with status {done.returncode}'}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _measure(name: str, stack: str, compute: ComputeConfig, seconds: float) -> dict[str, Any]:
    def new_stack() -> FocalStack:
        return read_stack(Path(stack))

    found: dict[str, Any] = {'imported_bytes': machine_info.peak_resident_bytes()}
    compute.set_threads()
    method = open_timed_method(name, compute)
    for _ in range(RUNS):
        method.run(new_stack())
    if isinstance(method, TimedDualFocus):
        method.last_plane(new_stack())
    device = compute.torch_device
    on_gpu = device.type == 'cuda'
    found['peak_bytes'] = machine_info.peak_resident_bytes()
    found['device_peak_bytes'] = torch.cuda.max_memory_allocated(device) if on_gpu else None
    if isinstance(method, TimedDualFocus):
        tasks = {
            'whole_ms': lambda: method.run(new_stack()),
            'sliding_ms': sliding_window_task(name, compute, new_stack),
        }
        measured = measure_interleaved(tasks, seconds)
        found |= {key: summarize(samples)['total_ms'] for key, samples in measured.items()}
    return found


if __name__ == '__main__':
    _name, _stack, _device, _precision, _threads, _seconds = sys.argv[1:]
    _compute = ComputeConfig(_device, _precision, int(_threads))
    sys.stdout.write(json.dumps(_measure(_name, _stack, _compute, float(_seconds))))
