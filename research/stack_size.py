# SPDX-License-Identifier: Apache-2.0
"""Study of the number of planes: error against N over one focus range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
import numpy as np

from dualfocus_ros.datasets.samples import Dataset
from dualfocus_ros.evaluation.evaluation_run import evaluate_dataset
from dualfocus_ros.evaluation.method_interface import Method
from dualfocus_ros.evaluation.progress_reporting import Progress
from dualfocus_ros.evaluation.protocols import ProtocolB
from dualfocus_ros.evaluation.tables import Column, markdown_table
from dualfocus_ros.io.figures import figure_to_array, set_log_scale
from research.study import Study

SIZES = (2, 3, 4, 5, 6, 8, 10, 15, 20, 32)
MEASURES: tuple[Column, ...] = (
    ('rmse', 'RMSE, m', 3),
    ('abs_rel', 'AbsRel', 4),
    ('mae_position', 'mean error, 1/m', 4),
    ('unimodal', 'unimodal pixels, %', -2),
    ('within_1_sigma', 'errors within one σ, %', -1),
    ('seconds', 'seconds per stack', 3),
)


def run(
    data: Dataset,
    methods: Sequence[Method],
    progress: Progress,
    *,
    sizes: Sequence[int] = SIZES,
    seed: int = 0,
) -> Study:
    """Render every view with each number of planes, and evaluate all methods.

    :param data: colour with depth.
    :param sizes: numbers of planes, over the focus range of protocol B.
    """
    progress.reset(total=len(sizes) * len(data) * len(methods))
    rows: list[dict[str, Any]] = []
    for size in sizes:
        found = evaluate_dataset(
            data, methods, ProtocolB(size, seed=seed), progress=progress.update
        )
        for name, accumulator in found.accumulators.items():
            rows.append({'method': name, 'planes': size, **accumulator.means()})
    protocol = ProtocolB(sizes[0], seed=seed)
    blur = found.size[1] * protocol.focal_length**2 / (protocol.f_number * protocol.sensor_width)
    span = 1.0 / protocol.near - 1.0 / protocol.far
    text = [
        f'{data.description}. Protocol B: planes uniform in dioptres from {protocol.near:g} to '
        f'{protocol.far:g} m for every N; the circle of confusion grows by '
        f'{blur:.1f} px per dioptre, so that neighbouring planes differ by {blur * span:.0f} px '
        f'over N - 1. {len(data)} stacks per N; means over images.',
    ]
    for key, heading, digits in MEASURES:
        if not any(key in row for row in rows):
            continue
        text += ['', f'## {heading}', '', *_by_size(rows, sizes, key, digits)]
    return Study(
        'stack-size',
        'Error against the number of planes',
        text,
        {'data': data.name, 'about': data.description, 'stacks': len(data), 'rows': rows},
        _figure(rows),
    )


def _by_size(
    rows: Sequence[dict[str, Any]], sizes: Sequence[int], key: str, digits: int
) -> list[str]:
    lines = []
    for name in dict.fromkeys(row['method'] for row in rows):
        of = {row['planes']: row[key] for row in rows if row['method'] == name and key in row}
        if of:
            lines.append({'method': name, **{str(size): of.get(size) for size in sizes}})
    return markdown_table(lines, [(str(size), f'N = {size}', digits) for size in sizes])


def _figure(rows: Sequence[dict[str, Any]]) -> np.ndarray:
    figure = Figure(figsize=(10, 4.2), dpi=90, layout='constrained')
    for place, (key, heading, _) in enumerate(MEASURES[1:3]):
        axes = figure.add_subplot(1, 2, place + 1)
        for name in dict.fromkeys(row['method'] for row in rows):
            of = [(row['planes'], row[key]) for row in rows if row['method'] == name]
            axes.plot(*np.array(of).T, marker='o', markersize=4, label=name)
        ticks = sorted({row['planes'] for row in rows})
        axes.set_xscale('log')
        axes.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
        axes.set_xticks([], minor=True)
        axes.set(xlabel='planes', ylabel=heading, title=heading)
        set_log_scale(axes)
        if place == 0:
            axes.legend()
    return figure_to_array(figure)
