# SPDX-License-Identifier: Apache-2.0
"""Study of defocus that differs before and beyond the focus: error against aberrations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
import numpy as np

from dualfocus_ros.datasets.samples import Dataset
from dualfocus_ros.evaluation.evaluation_run import evaluate_dataset
from dualfocus_ros.evaluation.method_interface import Method
from dualfocus_ros.evaluation.metric_accumulator import SIDE_LABELS, MetricAccumulator
from dualfocus_ros.evaluation.progress_reporting import Progress
from dualfocus_ros.evaluation.protocols import ProtocolB
from dualfocus_ros.evaluation.tables import markdown_table
from dualfocus_ros.io.figures import figure_to_array, set_log_scale
from dualfocus_ros.simulation.aberrations import FieldAberrations
from dualfocus_ros.simulation.psf import Aperture
from research.study import Study

_PARTS: dict[str, Callable[..., Any]] = {'aperture': Aperture, 'field': FieldAberrations}


@dataclass(frozen=True)
class Aberration:
    """Aberration of the lens, and the values that are rendered.

    :param title: axis label.
    :param part: field of :class:`ProtocolB`: ``aperture`` or ``field``.
    :param key: field of that part.
    """

    name: str
    title: str
    values: tuple[float, ...]
    part: str
    key: str

    def change(self, value: float) -> dict[str, Any]:
        """Return the fields of :class:`ProtocolB` for a value."""
        return {self.part: _PARTS[self.part](**{self.key: value})}


_SPHERICAL, _ASTIGMATISM = (-0.8, -0.4, 0.0, 0.4, 0.8), (-0.6, -0.3, 0.0, 0.3, 0.6)
_CHROMATIC, _CURVATURE = (-0.05, -0.025, 0.0, 0.025, 0.05), (-0.1, -0.05, 0.0, 0.05, 0.1)
ABERRATIONS = (
    Aberration('spherical', 'spherical aberration a', _SPHERICAL, 'aperture', 'spherical'),
    Aberration('cat-eye', "cat's eye τ", (0.0, 0.25, 0.5, 0.7), 'field', 'cat_eye'),
    Aberration('astigmatism', 'astigmatism in the corners', _ASTIGMATISM, 'field', 'astigmatism'),
    Aberration('chromatic', 'radius of red and blue, ±', _CHROMATIC, 'aperture', 'chromatic'),
    Aberration('tilt', 'tilt c2', (0.0, 0.05, 0.1), 'field', 'tilt'),
    Aberration('curvature', 'field curvature c1', _CURVATURE, 'field', 'curvature'),
)
NAMES = tuple(aberration.name for aberration in ABERRATIONS)
TEXT = """Every view is rendered by protocol B through a lens with one aberration at a time.
Spherical aberration gives the blur spot the weight 1 + a (2ρ² − 1) beyond the focus and 1 − a
(2ρ² − 1) before it. The cat's eye is the intersection with a second disc, displaced by τ times
the position in the image. Astigmatism makes the spot an ellipse, radial beyond the focus and
tangential before it, narrower by the given share in the corners. Chromatic aberration blurs red
more and blue less beyond the focus, and the reverse before it. Tilt and curvature move the focus
distance to s (1 + c1 ρ² + c2 x); the focus list does not contain them, so that no method can
correct them. Errors are means in dioptres over the pixels nearer, or farther, than the plane
closest to them."""


def run(
    data: Dataset,
    methods: Sequence[Method],
    progress: Progress,
    *,
    sweeps: Sequence[str] = NAMES,
    planes: int = 10,
    seed: int = 0,
) -> Study:
    """Render every view through lenses with each aberration, and evaluate all methods.

    :param data: colour with depth.
    :param sweeps: aberrations, of :data:`NAMES`.
    """
    chosen = [aberration for aberration in ABERRATIONS if aberration.name in sweeps]
    aberrant = sum(value != 0.0 for aberration in chosen for value in aberration.values)
    progress.reset(total=(1 + aberrant) * len(data) * len(methods))

    def evaluate(change: dict[str, Any]) -> dict[str, dict[str, float]]:
        protocol = ProtocolB(planes, seed=seed, **change)
        found = evaluate_dataset(data, methods, protocol, progress=progress.update)
        return {
            name: _errors_by_side(accumulator) for name, accumulator in found.accumulators.items()
        }

    ideal = evaluate({})
    rows: list[dict[str, Any]] = []
    text = [TEXT, '', f'{data.description}; {planes} planes; {len(data)} stacks per value.']
    for aberration in chosen:
        for value in aberration.values:
            results = evaluate(aberration.change(value)) if value else ideal
            for method, errors in results.items():
                rows.append({'method': method, 'sweep': aberration.name, 'value': value, **errors})
        title = aberration.title
        text += ['', f'## {title[0].upper()}{title[1:]}', '', *_by_value(rows, aberration)]
    text += ['', '## Largest error over that of an ideal lens', '', *_largest_ratios(rows, ideal)]
    content = {
        'data': data.name,
        'about': data.description,
        'stacks': len(data),
        'planes': planes,
        'rows': rows,
    }
    title = 'Error against asymmetric defocus'
    return Study('asymmetry', title, text, content, _figure(rows, chosen))


def _errors_by_side(accumulator: MetricAccumulator) -> dict[str, float]:
    """Return mean errors in dioptres over all pixels, nearer ones and farther ones."""
    side = {row['pixels']: float(row['mae_position']) for row in accumulator.groups['side'].rows()}
    means = accumulator.means()
    return {
        'all': means['mae_position'],
        'near': side[SIDE_LABELS[0]],
        'far': side[SIDE_LABELS[1]],
        'rmse': means['rmse'],
        'abs_rel': means['abs_rel'],
    }


def _by_value(rows: Sequence[dict[str, Any]], aberration: Aberration) -> list[str]:
    lines = []
    for method in dict.fromkeys(row['method'] for row in rows):
        for side in ('near', 'far'):
            errors = {
                row['value']: row[side]
                for row in rows
                if row['method'] == method and row['sweep'] == aberration.name
            }
            values = {f'{v:g}': errors[v] for v in aberration.values}
            lines.append({'method': method, 'side': side, **values})
    columns = [(f'{v:g}', f'{v:g}', 4) for v in aberration.values]
    return markdown_table(lines, [('side', 'pixels', 0), *columns])


def _largest_ratios(
    rows: Sequence[dict[str, Any]], ideal: dict[str, dict[str, float]]
) -> list[str]:
    lines = []
    for method, reference in ideal.items():
        line: dict[str, Any] = {'method': method}
        for row in rows:
            if row['method'] == method:
                ratio = row['all'] / reference['all']
                line[row['sweep']] = max(line.get(row['sweep'], 0.0), ratio)
        lines.append(line)
    return markdown_table(lines, [(name, name, 2) for name in NAMES])


def _figure(rows: Sequence[dict[str, Any]], aberrations: Sequence[Aberration]) -> np.ndarray:
    columns = min(len(aberrations), 3)
    lines = -(-len(aberrations) // columns)
    figure = Figure(figsize=(4.0 * columns, 3.4 * lines), dpi=80, layout='constrained')
    methods = list(dict.fromkeys(row['method'] for row in rows))
    errors = [row[side] for row in rows for side in ('near', 'far')]
    for place, aberration in enumerate(aberrations):
        axes = figure.add_subplot(lines, columns, place + 1)
        for index, method in enumerate(methods):
            found = [r for r in rows if r['method'] == method and r['sweep'] == aberration.name]
            style: dict[str, Any] = {'marker': 'o', 'markersize': 3, 'color': f'C{index}'}
            for side, line in (('near', '-'), ('far', '--')):
                errors_by_value = [row[side] for row in found]
                label = f'{method}, {side} side'
                axes.plot(aberration.values, errors_by_value, line, label=label, **style)
        axes.set(xlabel=aberration.title, ylim=(0.8 * min(errors), 1.2 * max(errors)))
        set_log_scale(axes)
        if place % columns == 0:
            axes.set_ylabel('mean error, 1/m')
    # In the last panel: a legend outside the panels needs matplotlib 3.7.
    axes.legend(fontsize='x-small')
    return figure_to_array(figure)
