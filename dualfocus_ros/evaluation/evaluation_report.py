# SPDX-License-Identifier: Apache-2.0
"""Results as Markdown for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
import json
import math
from pathlib import Path
import subprocess
from typing import Any

from dualfocus_ros.evaluation.evaluator import DatasetResult
from dualfocus_ros.evaluation.methods import Method
from dualfocus_ros.evaluation.metric_accumulator import MetricAccumulator

# Name of the measure, heading, digits. Shares are printed in per cent.
ERROR_COLUMNS = (
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
RATIO_COLUMNS = (
    ('mae', 'MAE'),
    ('rmse', 'RMSE'),
    ('abs_rel', 'AbsRel'),
    ('mae_position', 'MAE 1/m'),
)
UNCERTAINTY_COLUMNS = (
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


@dataclass(frozen=True)
class RunInfo:
    """What the numbers depend on, besides the data."""

    version: str
    commit: str
    device: str
    torch: str
    seed: int
    date: str


def source_commit(file: Path) -> str:
    """Return the commit that a source file belongs to, with ``+`` if the tree has changes.

    ``unknown`` for an installed package: a folder of its own may lie in somebody else's checkout.
    """
    folder = file.resolve().parent

    def git(*words: str) -> str:
        done = subprocess.run(
            ['git', '-C', str(folder), *words], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    try:
        git('ls-files', '--error-unmatch', file.name)
        changed = git('status', '--porcelain', '--untracked-files=no')
        return git('rev-parse', '--short', 'HEAD') + ('+' if changed else '')
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'


def as_json(facts: RunInfo, methods: Sequence[Method], results: Sequence[DatasetResult]) -> str:
    """Return everything that was measured; a number that does not exist is null."""
    content = {
        'facts': vars(facts),
        'methods': {method.name: method.about for method in methods},
        'sets': [
            {
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
                        'means': tally.means(),
                        'calibration': tally.calibration(),
                        'by': {kind: bins.rows() for kind, bins in tally.bins.items()},
                        'images': tally.images,
                    }
                    for name, tally in result.accumulators.items()
                },
            }
            for result in results
        ],
    }
    return json.dumps(nonfinite_to_none(content), indent=2, ensure_ascii=False) + '\n'


def as_markdown(
    facts: RunInfo,
    methods: Sequence[Method],
    results: Sequence[DatasetResult],
    figures: Mapping[str, Sequence[str]] | None = None,
    baseline: str | None = None,
) -> str:
    """Return the report.

    :param figures: file names per data set, shown beneath its tables.
    :param baseline: a method to which the errors of the others are set in relation.
    """
    lines = [
        '# Evaluation',
        '',
        run_info_line(facts),
        '',
        '| method | what it is |',
        '| --- | --- |',
    ]
    lines += [f'| {method.name} | {method.about} |' for method in methods]
    for result in results:
        lines += ['', f'## {result.dataset.name}', '', _caption(result, facts), '']
        lines += _table(result.accumulators, ERROR_COLUMNS, result.unit)
        if baseline is not None:
            lines += ['', *_ratios(result.accumulators, baseline)]
        trust = _table(result.accumulators, UNCERTAINTY_COLUMNS, result.position_unit)
        if trust:
            unit = result.position_unit
            lines += ['', f'Probability and uncertainty, σ and residuals in {unit}:', '', *trust]
        for kind in dict.fromkeys(k for tally in result.accumulators.values() for k in tally.bins):
            lines += ['', *_bins(result, kind)]
        for name in (figures or {}).get(result.dataset.name, ()):
            lines += ['', f'![{name}]({name})']
    lines += ['', NOTES, '']
    return '\n'.join(lines)


NOTES = """Every measure of the first two tables is taken per image and averaged over images (RMSE
is a mean of per-image roots). Pixels count where there is truth. Bump: Scharr filter of gain 2
applied twice, borders reflected or (border 0) the outermost pixels of each filter set to 0, each
value cut off at 0.05, times 100; it depends on the unit.
AUSE: area between the sparsification curves by σ and by the error, as a share of the mean error.
Unimodal: p rises to its maximum and falls after it, to 1e-4. Tables by kind of pixel pool the
pixels of all images; texture is the strongest sum-modified-Laplacian over the planes, in quarters
of each image."""


def run_info_line(facts: RunInfo) -> str:
    """Return what the numbers depend on, in one line."""
    return (
        f'dualfocus {facts.version}, commit {facts.commit}, seed {facts.seed}, {facts.device}, '
        f'torch {facts.torch}, {facts.date}'
    )


def _caption(result: DatasetResult, facts: RunInfo) -> str:
    height, width = result.size
    return (
        f'{result.dataset.description}; {result.protocol}; {result.stacks} stacks of {result.planes} '
        f'planes {width}x{height}; errors in {result.unit}; commit {facts.commit}, '
        f'seed {facts.seed}, {facts.device}.'
    )


def _table(
    accumulators: Mapping[str, MetricAccumulator],
    columns: Sequence[tuple[str, str, int]],
    unit: str,
) -> list[str]:
    means = {name: tally.means() for name, tally in accumulators.items()}
    used = [column for column in columns if any(column[0] in values for values in means.values())]
    if not used:
        return []
    lines = [
        f'| method ({unit}) | ' + ' | '.join(heading for _, heading, _ in used) + ' |',
        '| --- |' + ' ---: |' * len(used),
    ]
    for name, values in means.items():
        cells = [format_number(values.get(key, math.nan), digits) for key, _, digits in used]
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return lines


def _ratios(accumulators: Mapping[str, MetricAccumulator], baseline: str) -> list[str]:
    """One row per other method: its error over that of the baseline, below 1 is better."""
    means = {name: tally.means() for name, tally in accumulators.items()}
    reference = means.pop(baseline)
    used = [column for column in RATIO_COLUMNS if reference.get(column[0], 0.0) > 0.0]
    lines = [
        f'| error over that of {baseline} | ' + ' | '.join(heading for _, heading in used) + ' |',
        '| --- |' + ' ---: |' * len(used),
    ]
    for name, values in means.items():
        cells = [format_number(values.get(key, math.nan) / reference[key], 3) for key, _ in used]
        lines.append(f'| {name} | ' + ' | '.join(cells) + ' |')
    return lines


def _bins(result: DatasetResult, kind: str) -> list[str]:
    """One row per kind of pixel, one column per method: mean |error| in positions."""
    rows = {
        name: tally.bins[kind].rows()
        for name, tally in result.accumulators.items()
        if kind in tally.bins
    }
    first = next(iter(rows.values()))
    lines = [
        f'Mean error in {result.position_unit} by {kind}:',
        '',
        f'| {kind} | pixels % | ' + ' | '.join(rows) + ' |',
        '| --- | ---: |' + ' ---: |' * len(rows),
    ]
    for index, row in enumerate(first):
        if row['share'] == 0.0:
            continue
        cells = [format_number(float(of[index]['mae_position']), 4) for of in rows.values()]
        share = format_number(float(row['share']), -1)
        lines.append(f'| {row["pixels"]} | {share} | ' + ' | '.join(cells) + ' |')
    return lines


def format_number(value: float, digits: int) -> str:
    """Return a table cell; with negative digits a share in per cent, empty if not finite."""
    if not math.isfinite(value):
        return ''
    if digits < 0:
        return f'{100.0 * value:.{-digits}f}'
    return f'{value:.{digits}f}'


def nonfinite_to_none(content: Any) -> Any:
    """Return content that JSON can hold: numbers that are not finite become None."""
    if isinstance(content, dict):
        return {str(key): nonfinite_to_none(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [nonfinite_to_none(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content
