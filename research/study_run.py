# SPDX-License-Identifier: Apache-2.0
"""Studies by name, from a configuration to a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from dualfocus_ros.datasets.registry import open_dataset
from dualfocus_ros.datasets.samples import Dataset, RgbdSample
from dualfocus_ros.evaluation.evaluation_run import check_baseline
from dualfocus_ros.evaluation.method_interface import Method
from dualfocus_ros.evaluation.methods import default_methods, open_methods
from dualfocus_ros.evaluation.progress_reporting import NoProgress, Progress
from dualfocus_ros.evaluation.run_info import collect_run_info
from dualfocus_ros.exceptions import ConfigError, DataError
from dualfocus_ros.focal_stack import MAX_PLANES, MIN_PLANES
from dualfocus_ros.inference.device import default_threads, resolve_device
from research import asymmetry, equal_budget, stack_size, transfer
from research.study import Study, StudyReport

NAMES = ('stack-size', 'asymmetry', 'transfer', 'equal-budget', 'ablation')
GENERATED_VIEWS = ('shapes:0,count=6,size=256', 'indoor:0,count=6,width=320')


@dataclass(frozen=True)
class StudyConfig:
    """Settings of a study.

    :param name: one of :data:`NAMES`.
    :param methods: names, see :mod:`dualfocus_ros.evaluation.methods`; empty for the default.
    :param data: RGB-D data sets as ``KIND:PLACE``, empty for generated views; for ``transfer``
        the folder of the recorded stacks.
    :param baseline: method of the ratios of ``equal-budget``; None for DFV.
    :param planes: planes per stack; 0 for 10, for ``transfer`` all.
    :param sizes: numbers of planes of ``stack-size``; empty for the default.
    :param sweeps: aberrations of ``asymmetry``, of ``asymmetry.NAMES``; empty for all.
    :param limit: views of each data set to use, 0 for all.
    :param seed: of the noise.
    :param device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    :param threads: of a CPU; 0 for all processors but one.
    :raises ConfigError: for values out of range.
    """

    name: str
    methods: Sequence[str] = ()
    data: Sequence[str] = ()
    baseline: str | None = None
    planes: int = 0
    sizes: Sequence[int] = ()
    sweeps: Sequence[str] = ()
    limit: int = 0
    seed: int = 0
    device: str = 'auto'
    threads: int = 0

    def __post_init__(self) -> None:
        if self.name not in NAMES:
            raise ConfigError(f"name must be one of {', '.join(NAMES)}, got '{self.name}'")
        for field, counts in (('planes', [self.planes or 10]), ('sizes', self.sizes)):
            for count in counts:
                if not MIN_PLANES <= count <= MAX_PLANES:
                    raise ConfigError(
                        f'{field}: a stack has {MIN_PLANES} to {MAX_PLANES} planes, got {count}'
                    )
        for sweep in self.sweeps:
            if sweep not in asymmetry.NAMES:
                raise ConfigError(
                    f"sweeps: expected some of {', '.join(asymmetry.NAMES)}, got '{sweep}'"
                )
        if self.limit < 0:
            raise ConfigError(f'limit must not be negative, got {self.limit}')
        if self.name == 'transfer' and len(self.data) != 1:
            raise ConfigError(
                f'data FOLDER of recorded stacks is needed once for transfer, got {len(self.data)}'
            )


def run_study(config: StudyConfig, progress: Progress | None = None) -> StudyReport:
    """Run a study and return its report.

    :param progress: counts one step per stack and method.
    :raises ValueError: for unknown data, methods or devices.
    :raises ConfigError: for data or a baseline that do not fit the study.
    """
    device = resolve_device(config.device)
    torch.set_num_threads(config.threads or default_threads())
    methods = open_methods(config.methods, device)
    study = _prepare(config, methods)(NoProgress() if progress is None else progress)
    return StudyReport(study, collect_run_info(device, config.seed), methods)


def _prepare(config: StudyConfig, methods: list[Method]) -> Callable[[Progress], Study]:
    """Open the data, so that a wrong name fails at once, and return the study to run."""
    planes, seed = config.planes or 10, config.seed
    if config.name == 'transfer':
        folder = Path(config.data[0]).expanduser()
        return lambda progress: transfer.run(folder, methods, progress, planes=config.planes)
    datasets = [_open_views(text) for text in config.data or GENERATED_VIEWS]
    if config.name in equal_budget.TITLES:
        check_baseline(config.baseline, [method.name for method in methods])
        names = list(dict.fromkeys(config.methods or default_methods()))
        return lambda progress: equal_budget.run(
            [join_datasets([data], config.limit) for data in datasets],
            methods,
            names,
            progress,
            planes=planes,
            baseline=config.baseline,
            seed=seed,
            name=config.name,
        )
    views = join_datasets(datasets, config.limit)
    if config.name == 'stack-size':
        sizes = sorted(set(config.sizes or stack_size.SIZES))
        return lambda progress: stack_size.run(views, methods, progress, sizes=sizes, seed=seed)
    sweeps = config.sweeps or asymmetry.NAMES
    return lambda progress: asymmetry.run(
        views, methods, progress, sweeps=sweeps, planes=planes, seed=seed
    )


def _open_views(text: str) -> Dataset:
    """Open an RGB-D data set, from which stacks can be rendered."""
    data = open_dataset(text)
    if len(data) and not isinstance(data[0], RgbdSample):
        raise ConfigError(
            f"data '{text}' has recorded stacks; this study renders stacks from colour with depth "
            '(shapes:, indoor:, nyu:, arkitscenes:, rgbd:)'
        )
    return data


def join_datasets(datasets: Sequence[Dataset], limit: int = 0) -> Dataset:
    """Return several data sets as one.

    :param limit: samples of each to use, evenly spread; 0 for all.
    :raises DataError: if there are no samples.
    """
    places = [
        (data, step * len(data) // count)
        for data in datasets
        for count in [min(limit, len(data)) if limit else len(data)]
        for step in range(count)
    ]
    if not places:
        raise DataError('no samples in ' + ', '.join(data.name for data in datasets))
    about = '; '.join(data.description for data in datasets)
    if len(datasets) == 1:
        return replace(datasets[0], length=len(places), load=lambda i: datasets[0][places[i][1]])
    return Dataset(
        ' + '.join(data.name for data in datasets),
        'joined',
        about,
        len(places),
        lambda index: places[index][0][places[index][1]],
    )
