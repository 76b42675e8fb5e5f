# SPDX-License-Identifier: Apache-2.0
"""One run of the benchmark, from opening the methods to the figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
import tempfile
from typing import Any, Protocol

import numpy as np
import torch

from dualfocus_ros import __version__
from dualfocus_ros.benchmark import machine_info
from dualfocus_ros.benchmark.benchmark_stacks import RenderedSweep, StackShape, write_stack
from dualfocus_ros.benchmark.ratios import derive_ratios
from dualfocus_ros.benchmark.subprocess_runner import run_in_subprocess
from dualfocus_ros.benchmark.timed_methods import (
    BenchmarkMethod,
    ComputeConfig,
    SlidingWindowTask,
    TimedDualFocus,
    is_dualfocus,
    open_timed_method,
    set_threads,
)
from dualfocus_ros.benchmark.timing import (
    Percentiles,
    TimedTask,
    TimingSample,
    measure_interleaved,
    stage_percentiles,
)
from dualfocus_ros.evaluation.evaluation_report import source_commit
from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.inference.device import describe_device

STANDARD_PLANES, STANDARD_SIZE = 5, (640, 480)
LAST_PLANE, SLIDING = 'last plane', 'sliding'


class Progress(Protocol):
    """What is told how far it is; a tqdm bar is one."""

    total: float | None

    def update(self, n: float | None = 1) -> bool | None:
        """Count ``n`` more runs."""

    def refresh(self) -> object:
        """Show a new total."""

    def set_description(self, desc: str | None = None) -> None:
        """Say what is being done."""


class StackSource(Protocol):
    """Where stacks come from."""

    def stack(self, setting: StackShape) -> FocalStack:
        """Return a stack of new images."""


@dataclass(frozen=True)
class BenchmarkConfig:
    """What is to be measured.

    :param methods: names; ``auto`` is the default model of the device.
    :param planes: numbers of planes, at the base size.
    :param sizes: widths and heights, with the base number of planes.
    :param seconds: what the repeats of one method at one setting may take.
    """

    methods: Sequence[str]
    planes: Sequence[int]
    sizes: Sequence[tuple[int, int]]
    seconds: float
    place: ComputeConfig

    @property
    def base(self) -> StackShape:
        """The setting at which everything is measured: 5 planes of 640 x 480, or the middle."""
        planes, sizes = sorted(set(self.planes)), sorted(set(self.sizes), key=_area)
        count = STANDARD_PLANES if STANDARD_PLANES in planes else planes[len(planes) // 2]
        size = STANDARD_SIZE if STANDARD_SIZE in sizes else sizes[len(sizes) // 2]
        return StackShape(count, *size)

    @property
    def settings(self) -> list[StackShape]:
        """The base first, then the other numbers of planes, then the other sizes."""
        base = self.base
        found = [base]
        found += [replace(base, planes=n) for n in sorted(set(self.planes))]
        found += [StackShape(base.planes, *size) for size in sorted(set(self.sizes), key=_area)]
        return list(dict.fromkeys(found))


def run(
    plan: BenchmarkConfig, progress: Progress, stacks: StackSource | None = None
) -> dict[str, Any]:
    """Measure everything that the plan asks for and return it, ready for JSON."""
    set_threads(plan.place)
    # Before anything is measured: the source may change under a long run.
    report = _run_info(plan, machine_info.busy_processors())
    progress.set_description('rendering')
    stacks = stacks or RenderedSweep(max(plan.planes))
    progress.set_description('loading')
    contestants = _open_methods(plan)
    default = _default_model(contestants, plan)
    others = _other_precisions(plan, default)
    # Warm-up and processes of their own; repeats are added once it is known how many there are.
    progress.total = float(
        (len(plan.settings) + 1) * len(contestants)
        + len(others)
        + 2 * sum(isinstance(c, TimedDualFocus) for c in contestants.values())
    )
    progress.set_description('measuring')
    tasks = {
        (setting, name): task
        for setting in plan.settings
        for name, task in _tasks(plan, setting, contestants, others, stacks).items()
    }

    def announce(more: int) -> None:
        progress.total = (progress.total or 0.0) + more
        progress.refresh()

    # Settings take turns too: what comes of their times is compared.
    timed: dict[StackShape, dict[str, list[TimingSample]]] = {
        setting: {} for setting in plan.settings
    }
    measured = measure_interleaved(tasks, plan.seconds, announce, progress.update)
    for (setting, name), samples in measured.items():
        timed[setting][name] = samples
    report['default_model'] = default.name if default is not None else None
    report['methods'] = [_method(c, plan, timed) for c in contestants.values()]
    report['precisions'] = _compare_precisions(default, others, timed[plan.base], plan, stacks)
    progress.set_description('alone')
    with tempfile.TemporaryDirectory(prefix='dualfocus-benchmark-') as folder:
        file = Path(folder) / 'stack.npz'
        write_stack(file, stacks.stack(plan.base))
        for method, name in zip(report['methods'], contestants, strict=True):
            place = plan.place
            method['alone'] = run_in_subprocess(
                name, file, place.device, place.precision, place.threads, plan.seconds
            )
            progress.update(1)
    report['ratios'] = [ratio.as_json() for ratio in derive_ratios(report)]
    return report


def add_node_results(report: dict[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report with what was measured over DDS, and the ratios that this allows."""
    report = {**report, 'node': dict(node)}
    report['ratios'] = [ratio.as_json() for ratio in derive_ratios(report)]
    return report


def _open_methods(plan: BenchmarkConfig) -> dict[str, BenchmarkMethod]:
    """Return the contestants by the names that they were asked for; each model once."""
    found: dict[str, BenchmarkMethod] = {}
    for name in dict.fromkeys(plan.methods):
        contestant = open_timed_method(name, plan.place)
        if contestant.name not in {other.name for other in found.values()}:
            found[name] = contestant
    return found


def _default_model(
    contestants: Mapping[str, BenchmarkMethod], plan: BenchmarkConfig
) -> TimedDualFocus | None:
    """Return the model that ``auto`` loads on this device, if it takes part."""
    if not any(is_dualfocus(name) for name in contestants):
        return None
    name = TimedDualFocus('auto', plan.place).name
    for contestant in contestants.values():
        if isinstance(contestant, TimedDualFocus) and contestant.name == name:
            return contestant
    return None


def _other_precisions(
    plan: BenchmarkConfig, default: TimedDualFocus | None
) -> dict[str, TimedDualFocus]:
    """Return the default model in the number formats that it was not asked to run in."""
    if default is None:
        return {}
    on_gpu = plan.place.torch_device.type == 'cuda'
    formats = ('fp32', 'fp16', 'bf16') if on_gpu else ('fp32', 'bf16')
    return {
        form: TimedDualFocus('auto', replace(plan.place, precision=form))
        for form in formats
        if form != default.precision
    }


def _tasks(
    plan: BenchmarkConfig,
    setting: StackShape,
    contestants: Mapping[str, BenchmarkMethod],
    formats: Mapping[str, TimedDualFocus],
    stacks: StackSource,
) -> dict[str, TimedTask]:
    """Return what is run at a setting; at the base also planes on arrival and number formats."""

    def fresh() -> FocalStack:
        return stacks.stack(setting)

    def of(function: Any) -> TimedTask:
        return partial(lambda run: run(fresh()), function)

    tasks: dict[str, TimedTask] = {c.name: of(c.run) for c in contestants.values()}
    if setting != plan.base:
        return tasks
    for name, contestant in contestants.items():
        if not isinstance(contestant, TimedDualFocus):
            continue
        tasks[_task_name(contestant.name, LAST_PLANE)] = of(contestant.last_plane)
        # Its own estimator: a whole stack in between would end the stream.
        stream = open_timed_method(name, plan.place)
        assert isinstance(stream, TimedDualFocus)
        tasks[_task_name(contestant.name, SLIDING)] = SlidingWindowTask(stream, fresh)
    for form, ours in formats.items():
        tasks[_task_name(ours.name, form)] = of(ours.run)
    return tasks


def _task_name(name: str, what: str) -> str:
    return f'{name}, {what}'


def _method(
    contestant: BenchmarkMethod,
    plan: BenchmarkConfig,
    timed: Mapping[StackShape, Mapping[str, list[TimingSample]]],
) -> dict[str, Any]:
    found: dict[str, Any] = {
        'name': contestant.name,
        'weights': contestant.weights,
        'about': contestant.about,
        'precision': contestant.precision,
        'parameters': contestant.parameters,
        'ours': isinstance(contestant, TimedDualFocus),
        'cells': [
            {
                'planes': s.planes,
                'width': s.width,
                'height': s.height,
                **_cell(samples[contestant.name]),
            }
            for s, samples in sorted(timed.items())
        ],
    }
    base = timed[plan.base]
    for key, what in (('last_plane', LAST_PLANE), ('sliding', SLIDING)):
        samples = base.get(_task_name(contestant.name, what))
        found[key] = None if samples is None else _cell(samples)
    return found


def _cell(samples: Sequence[TimingSample]) -> dict[str, Any]:
    total, stages = stage_percentiles(samples)
    return {
        'total_ms': total.as_json(),
        'stages': {name: spread.as_json() for name, spread in stages.items()},
    }


def _compare_precisions(
    default: TimedDualFocus | None,
    formats: Mapping[str, TimedDualFocus],
    samples: Mapping[str, list[TimingSample]],
    plan: BenchmarkConfig,
    stacks: StackSource,
) -> list[dict[str, Any]]:
    """Return time and depth of the default model in each number format against fp32."""
    if default is None:
        return []
    every = {default.precision: default, **formats}
    times = {
        form: Percentiles.of(
            [
                sample.total_ms
                for sample in samples[
                    ours.name if ours is default else _task_name(ours.name, form)
                ]
            ]
        )
        for form, ours in every.items()
    }
    stack = stacks.stack(plan.base)
    depths = {form: ours.estimator.estimate(stack).depth for form, ours in every.items()}
    return [
        {
            'precision': form,
            'against': 'fp32',
            'time_ratio': times[form].p50 / times['fp32'].p50,
            'total_ms': times[form].as_json(),
            **inverse_depth_change(depths[form], depths['fp32']),
        }
        for form in every
        if form != 'fp32'
    ]


def inverse_depth_change(depth: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Return how far depths in metres are apart in dioptres, where both are finite."""
    both = np.isfinite(depth) & np.isfinite(reference)
    apart = np.abs(1.0 / depth[both] - 1.0 / reference[both])
    if not apart.size:
        apart = np.array([np.nan])
    return {
        'median_dioptres': float(np.median(apart)),
        'p99_dioptres': float(np.percentile(apart, 99)),
        'max_dioptres': float(apart.max()),
        'validity_changed': float(np.mean(np.isfinite(depth) != np.isfinite(reference))),
    }


def _run_info(plan: BenchmarkConfig, load: float | None) -> dict[str, Any]:
    device, base = plan.place.torch_device, plan.base
    count = machine_info.processor_count()
    return {
        'version': __version__,
        'commit': source_commit(Path(__file__)),
        'date': datetime.now(timezone.utc).strftime('%Y-%m-%d %H:%M UTC'),
        'machine': machine_info.describe_machine(),
        'fast_bf16': machine_info.has_fast_bf16(),
        'load_before': load,
        'busy': None if load is None else load > machine_info.BUSY_SHARE * count,
        'torch': torch.__version__,
        'device': describe_device(device),
        'device_kind': device.type,
        'threads': torch.get_num_threads(),
        'precision': plan.place.precision,
        'seconds': plan.seconds,
        'base': {'planes': base.planes, 'width': base.width, 'height': base.height},
    }


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
