# SPDX-License-Identifier: Apache-2.0
"""Evaluation of methods on one data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
import time

from dualfocus_ros.datasets.samples import Dataset, RgbdSample
from dualfocus_ros.evaluation.cases import Case
from dualfocus_ros.evaluation.method_interface import Estimate, Method
from dualfocus_ros.evaluation.metric_accumulator import (
    MetricAccumulator,
    score_estimate,
    texture_strength,
)
from dualfocus_ros.evaluation.protocols import StackProtocol, make_case
from dualfocus_ros.exceptions import DataError


@dataclass(eq=False)
class DatasetResult:
    """Results of all methods on one data set.

    :param protocol: origin of the stacks, in one line.
    :param size: height and width of the images.
    :param accumulators: metrics by name of the method.
    :param example: first case with the estimate of each method, for figures.
    """

    dataset: Dataset
    protocol: str
    unit: str = 'm'
    position_unit: str = 'dioptres'
    planes: int = 0
    size: tuple[int, int] = (0, 0)
    stacks: int = 0
    accumulators: dict[str, MetricAccumulator] = field(default_factory=dict)
    example: tuple[Case, dict[str, Estimate]] | None = None


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
    result = DatasetResult(dataset, '')
    for step in range(count):
        sample = dataset[step * len(dataset) // count]
        case = make_case(sample, dataset, protocol, planes)
        if not result.protocol:
            recorded = 'stacks as recorded or rendered by the set itself, no protocol'
            rgbd = isinstance(sample, RgbdSample)
            result.protocol = protocol.describe(dataset) if rgbd else recorded
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
        if result.example is None:
            result.example = case, estimates
        result.stacks += 1
    return result
