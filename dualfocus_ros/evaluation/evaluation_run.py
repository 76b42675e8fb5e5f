# SPDX-License-Identifier: Apache-2.0
"""Evaluation of methods on several data sets, from a configuration to a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
import time
from typing import Literal

import torch

from dualfocus_ros.datasets.registry import open_dataset
from dualfocus_ros.datasets.samples import Dataset, RgbdSample
from dualfocus_ros.evaluation.evaluation_report import EvaluationReport
from dualfocus_ros.evaluation.method_interface import Estimate, Method
from dualfocus_ros.evaluation.methods import open_methods
from dualfocus_ros.evaluation.metric_accumulator import (
    DatasetResult,
    MetricAccumulator,
    score_estimate,
    texture_strength,
)
from dualfocus_ros.evaluation.progress_reporting import NoProgress, Progress
from dualfocus_ros.evaluation.protocols import StackProtocol, make_case, make_protocol
from dualfocus_ros.evaluation.run_info import collect_run_info
from dualfocus_ros.exceptions import ConfigError, DataError
from dualfocus_ros.inference.device import default_threads, resolve_device

DEFAULT_DATA = ('synthetic:0', 'indoor:0')


@dataclass(frozen=True)
class EvaluationConfig:
    """Settings of an evaluation.

    :param data: data sets as ``KIND:PLACE``, see :mod:`dualfocus_ros.datasets.registry`.
    :param methods: names, see :mod:`dualfocus_ros.evaluation.methods`; empty for the default.
    :param baseline: method to whose errors those of the others are set in relation.
    :param protocol: ``A`` or ``B``; renders stacks from RGB-D sets.
    :param planes: planes per stack; 0 for 5 (A), 10 (B), or all of recorded stacks.
    :param limit: stacks per data set, 0 for all.
    :param seed: of the noise of protocol B.
    :param device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    :param threads: of a CPU; 0 for all processors but one.
    :raises ConfigError: for values out of range.
    """

    data: tuple[str, ...] = DEFAULT_DATA
    methods: tuple[str, ...] = ()
    baseline: str | None = None
    protocol: Literal['A', 'B'] = 'B'
    planes: int = 0
    limit: int = 0
    seed: int = 0
    device: str = 'auto'
    threads: int = 0

    def __post_init__(self) -> None:
        if self.planes == 1 or self.planes < 0:
            raise ConfigError(f'planes must be 0 (default) or at least 2, got {self.planes}')
        if self.limit < 0:
            raise ConfigError(f'limit must not be negative, got {self.limit}')


def run_evaluation(config: EvaluationConfig, progress: Progress | None = None) -> EvaluationReport:
    """Evaluate the methods on the data sets; open all of them first, so that wrong names fail.

    :param progress: counts one step per stack and method.
    :raises ValueError: for unknown data, methods or devices.
    :raises ConfigError: for a baseline that is not among the methods.
    """
    progress = NoProgress() if progress is None else progress
    device = resolve_device(config.device)
    torch.set_num_threads(config.threads or default_threads())
    datasets = [open_dataset(text) for text in config.data]
    protocol = make_protocol(config.protocol, config.planes, config.seed)
    methods = open_methods(config.methods, device, protocol)
    check_baseline(config.baseline, [method.name for method in methods])
    stacks = sum(min(config.limit or len(data), len(data)) for data in datasets)
    progress.reset(total=stacks * len(methods))
    results, options = [], {'planes': config.planes, 'limit': config.limit}
    for data in datasets:
        progress.set_description(data.name)
        result = evaluate_dataset(data, methods, protocol, **options, progress=progress.update)
        results.append(result)
    facts = collect_run_info(device, config.seed)
    return EvaluationReport(facts, methods, results, config.baseline)


def check_baseline(baseline: str | None, names: list[str]) -> None:
    """Raise ConfigError unless a baseline is one of the methods."""
    if baseline is not None and baseline not in names:
        raise ConfigError(f"baseline '{baseline}' is none of the methods: {', '.join(names)}")


def evaluate_dataset(
    dataset: Dataset,
    methods: Sequence[Method],
    protocol: StackProtocol,
    *,
    planes: int = 0,
    limit: int = 0,
    progress: Callable[[], object] = lambda: None,
) -> DatasetResult:
    """Run every method on every sample of a data set.

    :param methods: with distinct names.
    :param planes: planes of recorded stacks to use, 0 for all.
    :param limit: samples to use, evenly spread over the set; 0 for all.
    :param progress: called once per sample and method.
    :raises DataError: if the set is empty.
    """
    if not len(dataset):
        raise DataError(f'{dataset.name}: no samples')
    count = min(limit, len(dataset)) if limit else len(dataset)
    result = DatasetResult(dataset)
    for step in range(count):
        sample = dataset[step * len(dataset) // count]
        case = make_case(sample, dataset, protocol, planes)
        if not result.stacks:
            if isinstance(sample, RgbdSample):
                result.protocol = protocol.describe(dataset)
            result.unit, result.position_unit = case.unit, case.position_unit
            result.planes, result.size = len(case.focus), case.images.shape[1:3]
        texture = texture_strength(case)
        estimates: dict[str, Estimate] = {}
        for method in methods:
            accumulator = result.accumulators.setdefault(method.name, MetricAccumulator())
            start = time.perf_counter()
            estimate = method.estimate(case)
            seconds = time.perf_counter() - start
            metrics = score_estimate(case, estimate, texture, accumulator)
            # The first sample warms up, unless it is the only one.
            if step or count == 1:
                metrics['seconds'] = seconds
            estimates[method.name] = estimate
            progress()
        result.example = result.example or (case, estimates)
        result.stacks += 1
    return result
