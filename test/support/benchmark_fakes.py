# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for stacks, methods, progress and reports of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from dualfocus_ros.benchmark import benchmark_run
from dualfocus_ros.benchmark.benchmark_stacks import StackShape
from dualfocus_ros.benchmark.timing import TimingSample
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.focal_stack import FocalStack, Plane


class RandomStacks:
    """Source of stacks with random images."""

    def __init__(self, max_planes: int = 0) -> None:
        self._rng = np.random.default_rng(max_planes)

    def stack(self, shape: StackShape) -> FocalStack:
        """Return a stack of new images."""
        width, height = shape.width, shape.height
        camera = PinholeCamera(width, height, 100.0, 100.0, 0.5 * width, 0.5 * height)
        images = self._rng.integers(0, 255, (shape.planes, height, width, 3), np.uint8)
        return FocalStack(
            tuple(
                Plane(image.copy(), 0.5 + 0.25 * n, 10**8 * n, camera)
                for n, image in enumerate(images)
            )
        )


class CountingProgress:
    """Progress that only counts."""

    total: float | None = 0.0
    n = 0.0

    def reset(self, total: float | None = None) -> None:
        """Restart."""
        self.n, self.total = 0.0, total

    def update(self, n: float | None = 1) -> bool | None:
        """Count."""
        self.n += n or 0.0
        return None

    def refresh(self) -> object:
        """Do nothing."""
        return None

    def set_description(self, desc: str | None = None) -> None:
        """Do nothing."""


class FakeMethod:
    """Method with a known time: ``ms`` for each plane and kilopixel."""

    weights, precision, about, parameters = 'none', 'fp32', '', 0

    def __init__(self, name: str, ms: float) -> None:
        self.name = name
        self.ms = ms

    def run(self, stack: FocalStack) -> TimingSample:
        """Return the known time."""
        height, width = stack.size
        return TimingSample(
            self.ms * len(stack.planes) * height * width / 1e3, {'decode': self.ms}
        )


def use_fake_methods(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every name open a method with a known time, and skip subprocesses."""
    monkeypatch.setattr(
        benchmark_run, 'open_timed_method', lambda name, _: FakeMethod(name, 1.0 + len(name))
    )
    measured = {
        'imported_bytes': 10**8,
        'peak_bytes': 3 * 10**8,
        'device_peak_bytes': None,
    }
    monkeypatch.setattr(benchmark_run, 'run_in_subprocess', lambda *_: dict(measured))


def cell(
    total: float,
    stages: Mapping[str, float] | None = None,
    planes: int = 5,
    width: int = 640,
    height: int = 480,
) -> dict[str, Any]:
    """Return a cell of a report whose percentiles are all equal."""

    def spread(value: float) -> dict[str, float]:
        return {'p10': value, 'p50': value, 'p90': value, 'repeats': 3}

    return {
        'planes': planes,
        'width': width,
        'height': height,
        'total_ms': spread(total),
        'stages': {name: spread(value) for name, value in (stages or {}).items()},
    }


def model_report(**changes: Any) -> dict[str, Any]:
    """Return the report of a method: 100 ms of network in a whole of 120."""
    values: dict[str, Any] = {
        'name': 'ours',
        'weights': 'shipped',
        'about': '',
        'precision': 'fp32',
        'parameters': 10,
        'ours': True,
        'alone': {
            'imported_bytes': 3 * 10**8,
            'peak_bytes': 6 * 10**8,
            'device_peak_bytes': None,
            'whole_ms': {'p50': 110.0},
            'sliding_ms': {'p50': 55.0},
        },
        'cells': [
            cell(50, planes=2),
            cell(120, {'encode': 60, 'decode': 40}),
            cell(220, planes=10),
        ],
        'last_plane': cell(60, {'encode': 12, 'decode': 38, 'pack': 3, 'serialise': 2}),
        'sliding': cell(54, {'encode': 12, 'decode': 38}),
    }
    return {**values, **changes}


def make_report(**changes: Any) -> dict[str, Any]:
    """Return a report of a DualFocus model and DFV."""
    dfv = model_report(
        name='dfv',
        ours=False,
        weights='random',
        last_plane=None,
        sliding=None,
        alone={},
        cells=[cell(480, {'network': 470})],
    )
    values: dict[str, Any] = {
        'date': 'today',
        'version': '1',
        'commit': 'abc',
        'torch': '2',
        'machine': 'a machine',
        'device': 'cpu (1 threads)',
        'device_kind': 'cpu',
        'fast_bf16': True,
        'busy': False,
        'load_before': 0.0,
        'base': {'planes': 5, 'width': 640, 'height': 480},
        'default_model': 'ours',
        'methods': [model_report(), dfv],
        'precisions': [],
        'ratios': [],
    }
    return {**values, **changes}
