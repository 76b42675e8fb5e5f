# SPDX-License-Identifier: Apache-2.0
"""Peak memory of a method, in a process of its own: nothing else has been in there before."""

from __future__ import annotations

import json
from pathlib import Path
import subprocess
import sys
from typing import Any

RUNS = 3
MODULE = 'dualfocus_ros.benchmark.memory'


def peak_memory(
    name: str, stack: Path, device: str, precision: str, threads: int
) -> dict[str, Any]:
    """Run a method a few times on a stack in a fresh process and return its peak in bytes.

    :param name: as for ``contestants.open_contestant``.
    :param stack: a file of ``scene.write_stack``.
    :returns: ``imported_bytes`` once everything is imported, ``peak_bytes`` of the process, and
        on a GPU ``device_peak_bytes``, else None; ``error`` instead where it failed.
    """
    words = [name, str(stack), device, precision, str(threads)]
    done = subprocess.run(
        [sys.executable, '-m', MODULE, *words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        # Out of memory ends a process without a word.
        return {'error': lines[-1] if lines else f'ended with status {done.returncode}'}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _probe(name: str, stack: str, device: str, precision: str, threads: str) -> dict[str, Any]:
    import cv2
    import torch

    from dualfocus_ros.benchmark import machine
    from dualfocus_ros.benchmark.contestants import Ours, Place, open_contestant, set_threads
    from dualfocus_ros.benchmark.scene import read_stack

    assert cv2.__version__
    imported = machine.resident()
    place = Place(device, precision, int(threads))
    set_threads(place)
    contestant = open_contestant(name, place)
    for _ in range(RUNS):
        contestant.run(read_stack(Path(stack)))
    if isinstance(contestant, Ours):
        contestant.last_plane(read_stack(Path(stack)))
    on_device = None
    if place.torch_device.type == 'cuda':
        on_device = torch.cuda.max_memory_allocated(place.torch_device)
    return {
        'imported_bytes': imported, 'peak_bytes': machine.resident(),
        'device_peak_bytes': on_device,
    }


if __name__ == '__main__':
    sys.stdout.write(json.dumps(_probe(*sys.argv[1:])))
