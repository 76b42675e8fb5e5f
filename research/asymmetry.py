# SPDX-License-Identifier: Apache-2.0
"""Does blur that differs before and beyond the focus harm? Error against each aberration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.figure import Figure
import numpy as np

from dualfocus_ros.datasets.samples import Dataset
from dualfocus_ros.evaluation.evaluator import evaluate_dataset
from dualfocus_ros.evaluation.method_interface import Method
from dualfocus_ros.evaluation.metric_accumulator import SIDE_LABELS, MetricAccumulator
from dualfocus_ros.evaluation.progress_reporting import Progress
from dualfocus_ros.evaluation.protocols import ProtocolB
from dualfocus_ros.evaluation.tables import markdown_table
from dualfocus_ros.io.figures import figure_to_array, set_log_scale
from dualfocus_ros.simulation.aberrations import FieldAberrations
from dualfocus_ros.simulation.psf import Aperture
from research.study import Study

Change = Callable[[float], dict[str, Any]]
# Name, axis, values, and what they change of protocol B.
ABERRATIONS: tuple[tuple[str, str, tuple[float, ...], Change], ...] = (
    (
        'spherical',
        'spherical aberration a',
        (-0.8, -0.4, 0.0, 0.4, 0.8),
        lambda v: {'aperture': Aperture(spherical=v)},
    ),
    (
        'cat-eye',
        "cat's eye τ",
        (0.0, 0.25, 0.5, 0.7),
        lambda v: {'field': FieldAberrations(cat_eye=v)},
    ),
    (
        'astigmatism',
        'astigmatism in the corners',
        (-0.6, -0.3, 0.0, 0.3, 0.6),
        lambda v: {'field': FieldAberrations(astigmatism=v)},
    ),
    (
        'chromatic',
        'radius of red and blue, ±',
        (-0.05, -0.025, 0.0, 0.025, 0.05),
        lambda v: {'aperture': Aperture(chromatic=v)},
    ),
    ('tilt', 'tilt c2', (0.0, 0.05, 0.1), lambda v: {'field': FieldAberrations(tilt=v)}),
    (
        'curvature',
        'field curvature c1',
        (-0.1, -0.05, 0.0, 0.05, 0.1),
        lambda v: {'field': FieldAberrations(curvature=v)},
    ),
)
NAMES = tuple(sweep[0] for sweep in ABERRATIONS)
TEXT = """Every view is rendered by protocol B through a lens with one aberration at a time.
Spherical aberration gives the blur spot the weight 1 + a (2ρ² − 1) beyond the focus and 1 − a (2ρ²
− 1) before it; the cat's eye cuts it with a second disc that moves by τ times the place in the
image; astigmatism makes it an ellipse, radial beyond the focus and tangential before it, narrower
by the given share in the corners; red is blurred more and blue less beyond the focus, the other
way round before it; tilt and curvature move the focus distance to s (1 + c1 ρ² + c2 x), of which
the focus list says nothing, so that no method could undo them. Errors are means in dioptres over
the pixels that lie nearer, or farther, than the plane closest to them."""


def run(
    data: Dataset,
    methods: Sequence[Method],
    progress: Progress,
    *,
    sweeps: Sequence[str] = NAMES,
    planes: int = 10,
    seed: int = 0,
) -> Study:
    """Render every view through lenses with each aberration, and measure all methods.

    :param data: colour with depth.
    :param sweeps: which of :data:`NAMES`.
    """
    chosen = [sweep for sweep in ABERRATIONS if sweep[0] in sweeps]
    aberrant = sum(value != 0.0 for _, _, values, _ in chosen for value in values)
    progress.reset(total=(1 + aberrant) * len(data) * len(methods))

    def measured(change: dict[str, Any]) -> dict[str, dict[str, float]]:
        protocol = ProtocolB(planes, seed=seed, **change)
        found = evaluate_dataset(data, methods, protocol, progress=progress.update)
        return {
            name: _errors_by_side(accumulator) for name, accumulator in found.accumulators.items()
        }

    plain = measured({})
    rows: list[dict[str, Any]] = []
    text = [TEXT, '', f'{data.description}; {planes} planes; {len(data)} stacks per value.']
    for name, axis, values, change in chosen:
        for value in values:
            for method, errors in (measured(change(value)) if value else plain).items():
                rows.append({'method': method, 'sweep': name, 'value': value, **errors})
        text += ['', f'## {axis[0].upper()}{axis[1:]}', '', *_by_value(rows, name, values)]
    text += ['', '## Largest error over that of a perfect lens', '', *_largest_ratios(rows, plain)]
    return Study(
        'asymmetry',
        'Error against asymmetric defocus',
        text,
        {
            'data': data.name,
            'about': data.description,
            'stacks': len(data),
            'planes': planes,
            'rows': rows,
        },
        _figure(rows, [sweep for sweep in ABERRATIONS if sweep[0] in sweeps]),
    )


def _errors_by_side(accumulator: MetricAccumulator) -> dict[str, float]:
    """Return mean errors in dioptres: all pixels, those nearer and those farther."""
    side = {row['pixels']: float(row['mae_position']) for row in accumulator.groups['side'].rows()}
    means = accumulator.means()
    return {
        'all': means['mae_position'],
        'near': side[SIDE_LABELS[0]],
        'far': side[SIDE_LABELS[1]],
        'rmse': means['rmse'],
        'abs_rel': means['abs_rel'],
    }


def _by_value(rows: Sequence[dict[str, Any]], sweep: str, values: Sequence[float]) -> list[str]:
    lines = []
    for method in dict.fromkeys(row['method'] for row in rows):
        for side in ('near', 'far'):
            of = {
                row['value']: row[side]
                for row in rows
                if row['method'] == method and row['sweep'] == sweep
            }
            lines.append(
                {'method': method, 'side': side, **{f'{value:g}': of[value] for value in values}}
            )
    return markdown_table(
        lines, [('side', 'pixels', 0), *((f'{v:g}', f'{v:g}', 4) for v in values)]
    )


def _largest_ratios(
    rows: Sequence[dict[str, Any]], plain: dict[str, dict[str, float]]
) -> list[str]:
    lines = []
    for method, reference in plain.items():
        line: dict[str, Any] = {'method': method}
        for row in rows:
            if row['method'] == method:
                ratio = row['all'] / reference['all']
                line[row['sweep']] = max(line.get(row['sweep'], 0.0), ratio)
        lines.append(line)
    return markdown_table(lines, [(name, name, 2) for name in NAMES])


def _figure(
    rows: Sequence[dict[str, Any]], sweeps: Sequence[tuple[str, str, tuple[float, ...], Change]]
) -> np.ndarray:
    columns = min(len(sweeps), 3)
    lines = -(-len(sweeps) // columns)
    figure = Figure(figsize=(4.0 * columns, 3.4 * lines), dpi=80, layout='constrained')
    methods = list(dict.fromkeys(row['method'] for row in rows))
    errors = [row[side] for row in rows for side in ('near', 'far')]
    for place, (name, axis, values, _) in enumerate(sweeps):
        axes = figure.add_subplot(lines, columns, place + 1)
        for index, method in enumerate(methods):
            for side, style in (('near', '-'), ('far', '--')):
                of = [
                    row[side] for row in rows if row['method'] == method and row['sweep'] == name
                ]
                axes.plot(
                    values,
                    of,
                    style,
                    marker='o',
                    markersize=3,
                    color=f'C{index}',
                    label=f'{method}, {side} side',
                )
        axes.set(xlabel=axis, ylim=(0.8 * min(errors), 1.2 * max(errors)))
        set_log_scale(axes)
        if place % columns == 0:
            axes.set_ylabel('mean error, 1/m')
    # Beside the panels there is a place for it only from matplotlib 3.7 on.
    axes.legend(fontsize='x-small')
    return figure_to_array(figure)
