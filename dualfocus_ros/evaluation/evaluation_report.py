# SPDX-License-Identifier: Apache-2.0
"""Report of an evaluation: Markdown, JSON and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import math
from pathlib import Path
from typing import Any

from dualfocus_ros.evaluation.method_interface import Method
from dualfocus_ros.evaluation.metric_accumulator import DatasetResult, MetricAccumulator
from dualfocus_ros.evaluation.run_info import RunInfo
from dualfocus_ros.evaluation.tables import Column, markdown_table, to_json
from dualfocus_ros.io.atomic_files import write_text

ERROR_COLUMNS: tuple[Column, ...] = (
    ('mae', 'MAE', 4),
    ('rmse', 'RMSE', 4),
    ('mse', 'MSE', 5),
    ('root_mse', '√ mean MSE', 4),
    ('log_rmse', 'logRMSE', 4),
    ('abs_rel', 'AbsRel', 4),
    ('sq_rel', 'SqRel', 4),
    ('delta1', 'δ1 %', -2),
    ('delta2', 'δ2 %', -2),
    ('delta3', 'δ3 %', -2),
    ('bump', 'Bump', 2),
    ('bump_zero', 'Bump, border 0', 2),
    ('mae_position', 'MAE 1/m', 4),
    ('coverage', 'coverage %', -1),
)
RATIO_COLUMNS: tuple[Column, ...] = (
    ('mae', 'MAE', 3),
    ('rmse', 'RMSE', 3),
    ('abs_rel', 'AbsRel', 3),
    ('mae_position', 'MAE 1/m', 3),
)
UNCERTAINTY_COLUMNS: tuple[Column, ...] = (
    ('unimodal', 'unimodal %', -2),
    ('within_1_sigma', 'within 1σ %', -1),
    ('within_2_sigma', 'within 2σ %', -1),
    ('within_1_sigma_inside', 'within 1σ, in the sweep %', -1),
    ('ause', 'AUSE', 3),
    ('mean_sigma', 'mean σ', 4),
    ('plane_rms', 'plane residual rms', 4),
    ('plane_slope', 'plane rise', 3),
    ('sigma_in_plane', 'median σ in the plane', 4),
    ('sigma_elsewhere', 'median σ elsewhere', 4),
    ('sigma_blank', 'median σ where texture is least', 4),
    ('seconds', 's per stack', 3),
)
NOTES = """Every measure of the first two tables is taken per image and averaged over images (RMSE
is a mean of per-image roots). Pixels count where there is truth. Bump: Scharr filter of gain 2
applied twice, borders reflected or (border 0) the outermost pixels of each filter set to 0, each
value cut off at 0.05, times 100; it depends on the unit.
AUSE: area between the sparsification curves by σ and by the error, as a share of the mean error.
Unimodal: p rises to its maximum and falls after it, to 1e-4. Tables by kind of pixel pool the
pixels of all images; texture is the strongest sum-modified-Laplacian over the planes, in quarters
of each image."""


@dataclass(frozen=True, eq=False)
class EvaluationReport:
    """Results of an evaluation, with error ratios to a baseline method."""

    run_info: RunInfo
    methods: Sequence[Method]
    results: Sequence[DatasetResult]
    baseline: str | None = None

    def json(self) -> str:
        """Return all results; numbers that are not finite are null."""
        methods = {method.name: method.about for method in self.methods}
        sets = [_result_content(result) for result in self.results]
        return to_json({'facts': vars(self.run_info), 'methods': methods, 'sets': sets})

    def markdown(self, figures: Mapping[str, Sequence[str]] | None = None) -> str:
        """Return the report as Markdown, with figures given as file names by data set."""
        lines = ['# Evaluation', '', str(self.run_info), '']
        lines += ['| method | description |', '| --- | --- |']
        lines += [f'| {method.name} | {method.about} |' for method in self.methods]
        for result in self.results:
            lines += _result_section(result, self.run_info, self.baseline)
            for name in (figures or {}).get(result.dataset.name, ()):
                lines += ['', f'![{name}]({name})']
        lines += ['', NOTES, '']
        return '\n'.join(lines)

    def write(self, folder: Path) -> str:
        """Write ``report.md``, ``report.json`` and the figures; return the Markdown."""
        from dualfocus_ros.evaluation.evaluation_plots import write_figures

        folder.mkdir(parents=True, exist_ok=True)
        figures = {result.dataset.name: write_figures(folder, result) for result in self.results}
        markdown = self.markdown(figures)
        write_text(folder / 'report.json', self.json())
        write_text(folder / 'report.md', markdown)
        return markdown


def _result_content(result: DatasetResult) -> dict[str, Any]:
    return {
        'data': result.dataset.name,
        'kind': result.dataset.kind,
        'about': result.dataset.description,
        'protocol': result.protocol,
        'stacks': result.stacks,
        'planes': result.planes,
        'size': list(result.size),
        'unit': result.unit,
        'position_unit': result.position_unit,
        'methods': {
            name: {
                'means': accumulator.means(),
                'calibration': accumulator.calibration(),
                'by': {kind: groups.rows() for kind, groups in accumulator.groups.items()},
                'images': accumulator.images,
            }
            for name, accumulator in result.accumulators.items()
        },
    }


def _result_section(result: DatasetResult, run_info: RunInfo, baseline: str | None) -> list[str]:
    height, width = result.size
    caption = (
        f'{result.dataset.description}; {result.protocol}; {result.stacks} stacks of '
        f'{result.planes} planes {width}x{height}; errors in {result.unit}; '
        f'commit {run_info.commit}, seed {run_info.seed}, {run_info.device}.'
    )
    lines = ['', f'## {result.dataset.name}', '', caption, '']
    lines += _mean_table(result.accumulators, ERROR_COLUMNS, result.unit)
    if baseline is not None:
        lines += ['', *_ratio_table(result.accumulators, baseline)]
    unit = result.position_unit
    uncertainty = _mean_table(result.accumulators, UNCERTAINTY_COLUMNS, unit)
    if uncertainty:
        lines += ['', f'Probability and uncertainty, σ and residuals in {unit}:', '', *uncertainty]
    for grouping in dict.fromkeys(g for a in result.accumulators.values() for g in a.groups):
        lines += ['', *_group_table(result, grouping)]
    return lines


def _mean_table(
    accumulators: Mapping[str, MetricAccumulator], columns: Sequence[Column], unit: str
) -> list[str]:
    first = f'method ({unit})'
    rows = [{first: name, **accumulator.means()} for name, accumulator in accumulators.items()]
    found = any(key in row for row in rows for key, _, _ in columns)
    return markdown_table(rows, columns, first) if found else []


def _ratio_table(accumulators: Mapping[str, MetricAccumulator], baseline: str) -> list[str]:
    means = {name: accumulator.means() for name, accumulator in accumulators.items()}
    reference = means.pop(baseline)
    columns = [column for column in RATIO_COLUMNS if reference.get(column[0], 0.0) > 0.0]
    first = f'error over that of {baseline}'
    rows = [
        {first: name} | {key: values.get(key, math.nan) / reference[key] for key, _, _ in columns}
        for name, values in means.items()
    ]
    return markdown_table(rows, columns, first)


def _group_table(result: DatasetResult, grouping: str) -> list[str]:
    accumulators = result.accumulators.items()
    groups = {name: a.groups[grouping].rows() for name, a in accumulators if grouping in a.groups}
    rows = []
    for of_methods in zip(*groups.values()):
        first = of_methods[0]
        errors = {name: group['mae_position'] for name, group in zip(groups, of_methods)}
        if first['share'] != 0.0:
            rows.append({grouping: first['pixels'], 'pixels %': first['share'], **errors})
    columns = [('pixels %', 'pixels %', -1), *((name, name, 4) for name in groups)]
    title = f'Mean error in {result.position_unit} by {grouping}:'
    return [title, '', *markdown_table(rows, columns, grouping)]
