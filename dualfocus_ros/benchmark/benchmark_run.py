# SPDX-License-Identifier: Apache-2.0
"""Benchmark of methods, from a configuration to a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timezone
import os
from pathlib import Path
import tempfile
from typing import Any

import numpy as np
import torch

from dualfocus_ros import __version__
from dualfocus_ros.benchmark import machine_info
from dualfocus_ros.benchmark.benchmark_stacks import RenderedSweep, StackShape, write_stack
from dualfocus_ros.benchmark.method_timing import (
    BenchmarkMethod,
    ComputeConfig,
    TimedDualFocus,
    method_names,
    open_timed_method,
    sliding_window_task,
)
from dualfocus_ros.benchmark.ratios import derive_ratios
from dualfocus_ros.benchmark.subprocess_runner import run_in_subprocess
from dualfocus_ros.benchmark.timing import TimedTask, TimingSample, measure_interleaved, summarize
from dualfocus_ros.evaluation.methods import open_unique
from dualfocus_ros.evaluation.progress_reporting import NoProgress, Progress
from dualfocus_ros.evaluation.run_info import source_commit
from dualfocus_ros.exceptions import ConfigError
from dualfocus_ros.focal_stack import MAX_PLANES, MIN_PLANES, FocalStack
from dualfocus_ros.inference.device import describe_device
from dualfocus_ros.models.weights import resolve_model

PLANES = (2, 5, 10, 20)
SIZES = ((320, 240), (640, 480), (960, 720), (1280, 960))
QUICK_PLANES, QUICK_SIZES = (2, 5), ((160, 120), (320, 240))
STANDARD_PLANES, STANDARD_SIZE = 5, (640, 480)
BUSY_SHARE = 0.25  # of the processors; more load makes a measurement unreliable
LAST_PLANE, SLIDING = 'last plane', 'sliding'
# Timed runs by shape and name of the task.
Samples = dict[tuple[StackShape, str], list[TimingSample]]


@dataclass(frozen=True)
class BenchmarkConfig:
    """Settings of a benchmark.

    :param methods: names, see :mod:`dualfocus_ros.evaluation.methods`, also configurations;
        ``auto`` is the default model of the device.
    :param planes: numbers of planes, measured at the base size.
    :param sizes: widths and heights, measured with the base number of planes.
    :param seconds: budget of the repeats of one method at one shape.
    :raises ConfigError: for values out of range.
    """

    methods: Sequence[str] = field(default_factory=method_names)
    planes: Sequence[int] = PLANES
    sizes: Sequence[tuple[int, int]] = SIZES
    seconds: float = 5.0
    compute: ComputeConfig = field(default_factory=ComputeConfig)

    def __post_init__(self) -> None:
        text = f'planes: a stack has {MIN_PLANES} to {MAX_PLANES} planes, got'
        for count in self.planes:
            if not MIN_PLANES <= count <= MAX_PLANES:
                raise ConfigError(f'{text} {count}')
        if not self.seconds > 0.0:
            raise ConfigError(f'seconds must be positive, got {self.seconds:g}')

    @property
    def base(self) -> StackShape:
        """Shape at which everything is measured: 5 planes of 640 x 480, or the middle ones."""
        planes, sizes = sorted(set(self.planes)), sorted(set(self.sizes), key=_area)
        count = STANDARD_PLANES if STANDARD_PLANES in planes else planes[len(planes) // 2]
        size = STANDARD_SIZE if STANDARD_SIZE in sizes else sizes[len(sizes) // 2]
        return StackShape(count, *size)

    @property
    def shapes(self) -> list[StackShape]:
        """Base shape, then the other numbers of planes, then the other sizes."""
        base = self.base
        found = [base]
        found += [replace(base, planes=n) for n in sorted(set(self.planes))]
        found += [StackShape(base.planes, *size) for size in sorted(set(self.sizes), key=_area)]
        return list(dict.fromkeys(found))


def run_benchmark(
    config: BenchmarkConfig,
    progress: Progress | None = None,
    stacks: RenderedSweep | None = None,
) -> dict[str, Any]:
    """Measure all methods and return the report, ready for JSON.

    :param progress: counts runs.
    :param stacks: default a rendered sweep.
    :raises ValueError: for unknown methods or devices, or two methods of one name.
    """
    progress = NoProgress() if progress is None else progress
    config.compute.set_threads()
    # First, because the source may change during a long run.
    report = _run_info(config, machine_info.busy_processors())
    progress.set_description('rendering')
    stacks = stacks or RenderedSweep(max(config.planes))
    progress.set_description('loading')
    methods = open_unique(config.methods, lambda name: open_timed_method(name, config.compute))
    default = _default_model(methods)
    precisions = _other_precisions(config, default)
    # First runs and subprocesses; repeats are added when their number is known.
    networks = sum(isinstance(method, TimedDualFocus) for method in methods.values())
    runs = (len(config.shapes) + 1) * len(methods) + len(precisions) + 2 * networks
    progress.reset(total=float(runs))
    progress.set_description('measuring')
    samples = _measure(config, methods, precisions, stacks, progress)
    report['default_model'] = default.name if default is not None else None
    report['methods'] = [_method_report(m, config, samples) for m in methods.values()]
    stack = stacks.stack(config.base)
    report['precisions'] = _compare_precisions(default, precisions, samples, config.base, stack)
    progress.set_description('alone')
    with tempfile.TemporaryDirectory(prefix='dualfocus-benchmark-') as folder:
        file = Path(folder) / 'stack.npz'
        write_stack(file, stack)
        for method, name in zip(report['methods'], methods, strict=True):
            method['alone'] = run_in_subprocess(name, file, config.compute, config.seconds)
            progress.update(1)
    report['ratios'] = [ratio.as_json() for ratio in derive_ratios(report)]
    return report


def add_node_results(report: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report with measurements over DDS and their ratios."""
    extended = {**report, 'node': dict(node)}
    extended['ratios'] = [ratio.as_json() for ratio in derive_ratios(extended)]
    return extended


def _default_model(methods: Mapping[str, BenchmarkMethod]) -> TimedDualFocus | None:
    """Return the model that ``auto`` loads, if it is measured."""
    networks = [method for method in methods.values() if isinstance(method, TimedDualFocus)]
    name = resolve_model('auto')[1] if networks else ''
    return next((network for network in networks if network.name == name), None)


def _other_precisions(
    config: BenchmarkConfig, default: TimedDualFocus | None
) -> dict[str, TimedDualFocus]:
    """Return the default model in the other number formats of the device."""
    if default is None:
        return {}
    on_gpu = config.compute.torch_device.type == 'cuda'
    return {
        precision: TimedDualFocus('auto', replace(config.compute, precision=precision))
        for precision in (('fp32', 'fp16', 'bf16') if on_gpu else ('fp32', 'bf16'))
        if precision != default.precision
    }


def _measure(
    config: BenchmarkConfig,
    methods: Mapping[str, BenchmarkMethod],
    precisions: Mapping[str, TimedDualFocus],
    stacks: RenderedSweep,
    progress: Progress,
) -> Samples:
    """Time all tasks by shape and name; shapes take turns too, because they are compared."""
    base = config.base

    def task(shape: StackShape, run: Callable[[FocalStack], TimingSample]) -> TimedTask:
        return lambda: run(stacks.stack(shape))

    tasks: dict[tuple[StackShape, str], TimedTask] = {}
    for shape in config.shapes:
        for method in methods.values():
            tasks[shape, method.name] = task(shape, method.run)
    for name, method in methods.items():
        if isinstance(method, TimedDualFocus):
            tasks[base, f'{method.name}, {LAST_PLANE}'] = task(base, method.last_plane)
            tasks[base, f'{method.name}, {SLIDING}'] = sliding_window_task(
                name, config.compute, lambda: stacks.stack(base)
            )
    for precision, network in precisions.items():
        tasks[base, f'{network.name}, {precision}'] = task(base, network.run)

    def announce(more: int) -> None:
        progress.total = (progress.total or 0.0) + more
        progress.refresh()

    return measure_interleaved(tasks, config.seconds, announce, progress.update)


def _method_report(
    method: BenchmarkMethod, config: BenchmarkConfig, samples: Samples
) -> dict[str, Any]:
    found: dict[str, Any] = {
        'name': method.name,
        'weights': method.weights,
        'about': method.about,
        'precision': method.precision,
        'parameters': method.parameters,
        'ours': isinstance(method, TimedDualFocus),
        'cells': [
            {**asdict(shape), **summarize(samples[shape, method.name])}
            for shape in sorted(config.shapes)
        ],
    }
    for key, variant in (('last_plane', LAST_PLANE), ('sliding', SLIDING)):
        runs = samples.get((config.base, f'{method.name}, {variant}'))
        found[key] = None if runs is None else summarize(runs)
    return found


def _compare_precisions(
    default: TimedDualFocus | None,
    precisions: Mapping[str, TimedDualFocus],
    samples: Samples,
    base: StackShape,
    stack: FocalStack,
) -> list[dict[str, Any]]:
    """Return time and depth of the default model in each number format relative to fp32."""
    if default is None:
        return []
    times = {default.precision: summarize(samples[base, default.name])['total_ms']}
    depths = {default.precision: default.estimator.estimate(stack).depth}
    for precision, network in precisions.items():
        task = base, f'{network.name}, {precision}'
        times[precision] = summarize(samples[task])['total_ms']
        depths[precision] = network.estimator.estimate(stack).depth
    return [
        {
            'precision': precision,
            'against': 'fp32',
            'time_ratio': times[precision]['p50'] / times['fp32']['p50'],
            'total_ms': times[precision],
            **inverse_depth_change(depths[precision], depths['fp32']),
        }
        for precision in times
        if precision != 'fp32'
    ]


def inverse_depth_change(depth: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Return the differences in dioptres of two depth maps in metres, where both are finite."""
    both = np.isfinite(depth) & np.isfinite(reference)
    change = np.abs(1.0 / depth[both] - 1.0 / reference[both])
    if not change.size:
        change = np.array([np.nan])
    return {
        'median_dioptres': float(np.median(change)),
        'p99_dioptres': float(np.percentile(change, 99)),
        'max_dioptres': float(change.max()),
        'validity_changed': float(np.mean(np.isfinite(depth) != np.isfinite(reference))),
    }


def _run_info(config: BenchmarkConfig, load: float | None) -> dict[str, Any]:
    device = config.compute.torch_device
    return {
        'version': __version__,
        'commit': source_commit(Path(__file__)),
        'date': datetime.now(timezone.utc).strftime('%Y-%m-%d %H:%M UTC'),
        'machine': machine_info.describe_machine(),
        'fast_bf16': machine_info.has_fast_bf16(),
        'load_before': load,
        'busy': None if load is None else load > BUSY_SHARE * len(os.sched_getaffinity(0)),
        'torch': torch.__version__,
        'device': describe_device(device),
        'device_kind': device.type,
        'threads': torch.get_num_threads(),
        'precision': config.compute.precision,
        'seconds': config.seconds,
        'base': asdict(config.base),
    }


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
