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
from dualfocus_ros.benchmark.ratios import derive
from dualfocus_ros.benchmark.stacks import Setting, Sweep, write_stack
from dualfocus_ros.benchmark.subprocess_runner import run_alone
from dualfocus_ros.benchmark.timed_methods import (
    Contestant,
    Ours,
    Place,
    Sliding,
    is_ours,
    open_contestant,
    set_threads,
)
from dualfocus_ros.benchmark.timing import Sample, Spread, Task, measure, spreads
from dualfocus_ros.evaluation.evaluation_report import commit_of
from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.inference.device import describe

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


class Stacks(Protocol):
    """Where stacks come from."""

    def stack(self, setting: Setting) -> FocalStack:
        """Return a stack of new images."""


@dataclass(frozen=True)
class Plan:
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
    place: Place

    @property
    def base(self) -> Setting:
        """The setting at which everything is measured: 5 planes of 640 x 480, or the middle."""
        planes, sizes = sorted(set(self.planes)), sorted(set(self.sizes), key=_area)
        count = STANDARD_PLANES if STANDARD_PLANES in planes else planes[len(planes) // 2]
        size = STANDARD_SIZE if STANDARD_SIZE in sizes else sizes[len(sizes) // 2]
        return Setting(count, *size)

    @property
    def settings(self) -> list[Setting]:
        """The base first, then the other numbers of planes, then the other sizes."""
        base = self.base
        found = [base]
        found += [replace(base, planes=n) for n in sorted(set(self.planes))]
        found += [Setting(base.planes, *size) for size in sorted(set(self.sizes), key=_area)]
        return list(dict.fromkeys(found))


def run(plan: Plan, progress: Progress, stacks: Stacks | None = None) -> dict[str, Any]:
    """Measure everything that the plan asks for and return it, ready for JSON."""
    set_threads(plan.place)
    # Before anything is measured: the source may change under a long run.
    report = _facts(plan, machine_info.load())
    progress.set_description('rendering')
    stacks = stacks or Sweep(max(plan.planes))
    progress.set_description('loading')
    contestants = _open(plan)
    default = _default_of(contestants, plan)
    others = _other_formats(plan, default)
    # Warm-up and processes of their own; repeats are added once it is known how many there are.
    progress.total = float(
        (len(plan.settings) + 1) * len(contestants)
        + len(others)
        + 2 * sum(isinstance(c, Ours) for c in contestants.values())
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
    timed: dict[Setting, dict[str, list[Sample]]] = {setting: {} for setting in plan.settings}
    measured = measure(tasks, plan.seconds, announce, progress.update)
    for (setting, name), samples in measured.items():
        timed[setting][name] = samples
    report['default_model'] = default.name if default is not None else None
    report['methods'] = [_method(c, plan, timed) for c in contestants.values()]
    report['precisions'] = _compare_formats(default, others, timed[plan.base], plan, stacks)
    progress.set_description('alone')
    with tempfile.TemporaryDirectory(prefix='dualfocus-benchmark-') as folder:
        file = Path(folder) / 'stack.npz'
        write_stack(file, stacks.stack(plan.base))
        for method, name in zip(report['methods'], contestants, strict=True):
            place = plan.place
            method['alone'] = run_alone(
                name, file, place.device, place.precision, place.threads, plan.seconds
            )
            progress.update(1)
    report['ratios'] = [ratio.as_json() for ratio in derive(report)]
    return report


def with_node(report: dict[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    """Return a report with what was measured over DDS, and the ratios that this allows."""
    report = {**report, 'node': dict(node)}
    report['ratios'] = [ratio.as_json() for ratio in derive(report)]
    return report


def _open(plan: Plan) -> dict[str, Contestant]:
    """Return the contestants by the names that they were asked for; each model once."""
    found: dict[str, Contestant] = {}
    for name in dict.fromkeys(plan.methods):
        contestant = open_contestant(name, plan.place)
        if contestant.name not in {other.name for other in found.values()}:
            found[name] = contestant
    return found


def _default_of(contestants: Mapping[str, Contestant], plan: Plan) -> Ours | None:
    """Return the model that ``auto`` loads on this device, if it takes part."""
    if not any(is_ours(name) for name in contestants):
        return None
    name = Ours('auto', plan.place).name
    for contestant in contestants.values():
        if isinstance(contestant, Ours) and contestant.name == name:
            return contestant
    return None


def _other_formats(plan: Plan, default: Ours | None) -> dict[str, Ours]:
    """Return the default model in the number formats that it was not asked to run in."""
    if default is None:
        return {}
    on_gpu = plan.place.torch_device.type == 'cuda'
    formats = ('fp32', 'fp16', 'bf16') if on_gpu else ('fp32', 'bf16')
    return {
        form: Ours('auto', replace(plan.place, precision=form))
        for form in formats
        if form != default.precision
    }


def _tasks(
    plan: Plan,
    setting: Setting,
    contestants: Mapping[str, Contestant],
    formats: Mapping[str, Ours],
    stacks: Stacks,
) -> dict[str, Task]:
    """Return what is run at a setting; at the base also planes on arrival and number formats."""

    def fresh() -> FocalStack:
        return stacks.stack(setting)

    def of(function: Any) -> Task:
        return partial(lambda run: run(fresh()), function)

    tasks: dict[str, Task] = {c.name: of(c.run) for c in contestants.values()}
    if setting != plan.base:
        return tasks
    for name, contestant in contestants.items():
        if not isinstance(contestant, Ours):
            continue
        tasks[_key(contestant.name, LAST_PLANE)] = of(contestant.last_plane)
        # Its own estimator: a whole stack in between would end the stream.
        stream = open_contestant(name, plan.place)
        assert isinstance(stream, Ours)
        tasks[_key(contestant.name, SLIDING)] = Sliding(stream, fresh)
    for form, ours in formats.items():
        tasks[_key(ours.name, form)] = of(ours.run)
    return tasks


def _key(name: str, what: str) -> str:
    return f'{name}, {what}'


def _method(
    contestant: Contestant, plan: Plan, timed: Mapping[Setting, Mapping[str, list[Sample]]]
) -> dict[str, Any]:
    found: dict[str, Any] = {
        'name': contestant.name,
        'weights': contestant.weights,
        'about': contestant.about,
        'precision': contestant.precision,
        'parameters': contestant.parameters,
        'ours': isinstance(contestant, Ours),
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
        samples = base.get(_key(contestant.name, what))
        found[key] = None if samples is None else _cell(samples)
    return found


def _cell(samples: Sequence[Sample]) -> dict[str, Any]:
    total, stages = spreads(samples)
    return {
        'total_ms': total.as_json(),
        'stages': {name: spread.as_json() for name, spread in stages.items()},
    }


def _compare_formats(
    default: Ours | None,
    formats: Mapping[str, Ours],
    samples: Mapping[str, list[Sample]],
    plan: Plan,
    stacks: Stacks,
) -> list[dict[str, Any]]:
    """Return time and depth of the default model in each number format against fp32."""
    if default is None:
        return []
    every = {default.precision: default, **formats}
    times = {
        form: Spread.of(
            [
                sample.total_ms
                for sample in samples[ours.name if ours is default else _key(ours.name, form)]
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
            **depth_change(depths[form], depths['fp32']),
        }
        for form in every
        if form != 'fp32'
    ]


def depth_change(depth: np.ndarray, reference: np.ndarray) -> dict[str, float]:
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


def _facts(plan: Plan, load: float | None) -> dict[str, Any]:
    device, base = plan.place.torch_device, plan.base
    count = machine_info.processors()
    return {
        'version': __version__,
        'commit': commit_of(Path(__file__)),
        'date': datetime.now(timezone.utc).strftime('%Y-%m-%d %H:%M UTC'),
        'machine': machine_info.in_words(),
        'fast_bf16': machine_info.has_fast_bf16(),
        'load_before': load,
        'busy': None if load is None else load > machine_info.BUSY * count,
        'torch': torch.__version__,
        'device': describe(device),
        'device_kind': device.type,
        'threads': torch.get_num_threads(),
        'precision': plan.place.precision,
        'seconds': plan.seconds,
        'base': {'planes': base.planes, 'width': base.width, 'height': base.height},
    }


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]
