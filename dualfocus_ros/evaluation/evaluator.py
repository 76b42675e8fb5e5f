# SPDX-License-Identifier: Apache-2.0
"""Runs methods over data sets and collects what they did."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
import time

from dualfocus_ros.datasets.samples import Dataset, RgbdSample
from dualfocus_ros.evaluation.cases import Case
from dualfocus_ros.evaluation.methods import Estimate, Method
from dualfocus_ros.evaluation.metric_accumulator import (
    MetricAccumulator,
    score_estimate,
    texture_strength,
)
from dualfocus_ros.evaluation.protocols import Protocol, make_case
from dualfocus_ros.exceptions import DataError


@dataclass(eq=False)
class DatasetResult:
    """What all methods did on one data set.

    :param protocol: one line: how the stacks were made.
    :param example: the first case with each method's estimate, for pictures.
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


def evaluate(
    dataset: Dataset,
    methods: Sequence[Method],
    protocol: Protocol,
    *,
    planes: int = 0,
    limit: int = 0,
    progress: Callable[[], object] | None = None,
) -> DatasetResult:
    """Run every method on every sample of a data set.

    :param planes: planes to use of recorded stacks, 0 for all.
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
        estimates = {}
        for method in methods:
            tally = result.accumulators.setdefault(method.name, MetricAccumulator())
            began = time.perf_counter()
            estimate = method.estimate(case)
            seconds = time.perf_counter() - began
            measures = score_estimate(case, estimate, texture, tally)
            # The first one warms up, unless it is the only one.
            if step or count == 1:
                measures['seconds'] = seconds
            if result.example is None:
                estimates[method.name] = estimate
            if progress is not None:
                progress()
        if result.example is None:
            result.example = case, estimates
        result.stacks += 1
    return result
