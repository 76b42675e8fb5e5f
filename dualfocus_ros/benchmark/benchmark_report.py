# SPDX-License-Identifier: Apache-2.0
"""Benchmark report: Markdown, JSON and figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dualfocus_ros.benchmark.node_report import node_section
from dualfocus_ros.benchmark.report_cells import Cell, base_cell, network_ms
from dualfocus_ros.evaluation.tables import markdown_table, to_json
from dualfocus_ros.io.atomic_files import write_text
from dualfocus_ros.io.image_files import save_palette_png


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write ``benchmark.md``, ``benchmark.json`` and ``benchmark.png``."""
    from dualfocus_ros.benchmark.benchmark_plot import scaling_figure

    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / 'benchmark.md', as_markdown(report))
    write_text(folder / 'benchmark.json', as_json(report))
    save_palette_png(folder / 'benchmark.png', scaling_figure(report))


def as_json(report: Mapping[str, Any]) -> str:
    """Return the whole report; numbers that are not finite are null."""
    return to_json(report)


def as_markdown(report: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    lines = ['# Benchmark', '', *_run_info(report), '']
    lines += ['## Ratios', '', *_ratios(report['ratios']), '']
    at = report['base']
    base = f'{at["planes"]} planes of {at["width"]} x {at["height"]}'
    lines += [f'## Methods: {base}', '', *_comparison(report), '']
    lines += ['## Stages', '', *_stages(report), '']
    arrival = _on_arrival(report)
    if arrival:
        lines += ['## Planes encoded on arrival', '', *arrival, '']
    lines += _scaling(report)
    if report['precisions']:
        lines += ['## Number formats', '', *_formats(report), '']
    if report.get('node'):
        lines += node_section(report['node'])
    return '\n'.join(lines).rstrip() + '\n'


def _run_info(report: Mapping[str, Any]) -> list[str]:
    busy = ''
    if report['busy']:
        busy = (
            f' **The machine was busy**: {report["load_before"]:.1f} processors in use before '
            'the measurement; trust the ratios, not the milliseconds.'
        )
    return [
        f'{report["date"]}, version {report["version"]}, commit {report["commit"]}, PyTorch '
        f'{report["torch"]}.',
        f'{report["machine"]}; networks on {report["device"]}.{busy}',
    ]


def _ratios(ratios: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = []
    for ratio in ratios:
        limit = ratio['limit']
        required, met = '', ''
        if limit is not None:
            required = (
                f'{"at least" if ratio["at_least"] else "at most"} {limit:.2g} {ratio["unit"]}'
            )
            met = 'yes' if ratio['met'] else 'no'
        rows.append(
            {
                'ratio': ratio['words'],
                'value': f'{ratio["value"]:.3g} {ratio["unit"]}'.strip(),
                'required': required.strip(),
                'met': met,
            }
        )
    columns = [('value', 'value', 0), ('required', 'required', 0), ('met', 'met', 0)]
    return markdown_table(rows, columns, 'ratio')


def _comparison(report: Mapping[str, Any]) -> list[str]:
    dfv = next(
        (base_cell(m, report)['total_ms']['p50'] for m in report['methods'] if m['name'] == 'dfv'),
        None,
    )
    rows = []
    for method in report['methods']:
        cell, alone = base_cell(method, report), method['alone']
        network = network_ms(cell)
        total = cell['total_ms']
        rows.append(
            {
                'method': method['name'],
                'weights': method['weights'],
                'parameters': f'{method["parameters"] / 1e6:.2f} M'
                if method['parameters']
                else '',
                'precision': method['precision'],
                'network': network or None,
                'whole': total['p50'],
                'spread': f'{total["p10"]:.0f} to {total["p90"]:.0f}',
                'repeats': total['repeats'],
                'of_dfv': None if dfv is None else total['p50'] / dfv,
                'memory': alone['peak_bytes'] / 1e6 if 'peak_bytes' in alone else None,
                'gpu': alone['device_peak_bytes'] / 1e6
                if alone.get('device_peak_bytes')
                else None,
            }
        )
    columns = [
        ('weights', 'weights', 0),
        ('parameters', 'parameters', 0),
        ('precision', 'format', 0),
        ('network', 'network, ms', 1),
        ('whole', 'whole, ms', 1),
        ('spread', 'p10 to p90', 0),
        ('repeats', 'runs', 0),
        ('of_dfv', 'of DFV', 2),
        ('memory', 'peak memory, MB', 0),
        ('gpu', 'on the GPU, MB', 0),
    ]
    columns = [c for c in columns if any(row.get(c[0]) is not None for row in rows)]
    imported = [
        m['alone']['imported_bytes'] for m in report['methods'] if 'imported_bytes' in m['alone']
    ]
    notes = [
        'Medians. **whole**: for DualFocus models the whole estimate with every output (depth, '
        'sigma, confidence, all-in-focus image, organised and decimated points); for DFV image '
        'normalisation and network; for the classical methods the function call. Weights are '
        '**random** where none are shipped; run time does not depend on them.',
    ]
    if imported:
        notes += [
            '',
            'Peak memory is that of a separate process (VmHWM), including '
            f'{max(imported) / 1e6:.0f} MB of Python and imported libraries.',
        ]
    for method in report['methods']:
        error = method['alone'].get('error')
        if error:
            notes += ['', f'{method["name"]} failed in a separate process: {error}']
    return [*markdown_table(rows, columns, 'method'), '', *notes]


def _stages(report: Mapping[str, Any]) -> list[str]:
    models = [method for method in report['methods'] if method['ours']]
    if not models:
        return ['No DualFocus model was measured.']
    cells = {method['name']: base_cell(method, report) for method in models}
    lines = _by_stage(cells)
    lines += [
        '',
        'Median ms. **pack** builds the messages and **serialise** encodes them for DDS; both '
        'come after the whole estimate.',
    ]
    if report['device_kind'] != 'cpu':
        lines += [
            '',
            'On a GPU a stage lasts as long as its launch, except for stages that synchronise.',
        ]
    return lines


def _by_stage(cells: Mapping[str, Cell]) -> list[str]:
    names = list(dict.fromkeys(name for cell in cells.values() for name in cell['stages']))
    rows: list[dict[str, Any]] = [
        {
            'stage': name,
            **{
                title: cell['stages'][name]['p50']
                for title, cell in cells.items()
                if name in cell['stages']
            },
        }
        for name in names
    ]
    rows.append(
        {
            'stage': '**whole estimate**',
            **{t: cell['total_ms']['p50'] for t, cell in cells.items()},
        }
    )
    return markdown_table(rows, [(title, title, 1) for title in cells], 'stage')


def _on_arrival(report: Mapping[str, Any]) -> list[str]:
    rows = []
    for method in report['methods']:
        if method['last_plane'] is None or method['sliding'] is None:
            continue
        whole = base_cell(method, report)['total_ms']['p50']
        last, sliding = method['last_plane']['total_ms'], method['sliding']['total_ms']
        rows.append(
            {
                'model': method['name'],
                'whole': whole,
                'last': last['p50'],
                'last_share': last['p50'] / whole,
                'sliding': sliding['p50'],
                'sliding_share': sliding['p50'] / whole,
                'encode': method['sliding']['stages'].get('encode', {}).get('p50'),
                'decode': method['sliding']['stages'].get('decode', {}).get('p50'),
                **_alone(method['alone']),
            }
        )
    if not rows:
        return []
    columns = [
        ('whole', 'whole stack, ms', 1),
        ('last', 'last plane to result, ms', 1),
        ('last_share', 'of whole', 2),
        ('sliding', 'sliding, ms a frame', 1),
        ('sliding_share', 'of whole', 2),
        ('encode', 'thereof encode of one plane', 1),
        ('decode', 'thereof decode', 1),
        ('whole_alone', 'whole stack alone, ms', 1),
        ('sliding_alone', 'sliding alone, ms', 1),
        ('share_alone', 'of whole alone', 2),
    ]
    return [
        *markdown_table(rows, columns, 'model'),
        '',
        'Sweep mode encodes each plane on arrival; one encoding and the decoder remain after the '
        'last plane. Sliding mode yields a depth with every frame. **Alone**: in a process that '
        'runs only this model, as a node does; the other columns are interleaved with the other '
        'methods.',
    ]


def _alone(alone: Mapping[str, Any]) -> dict[str, float]:
    """Return the columns of the separate process; none after a failure."""
    if 'sliding_ms' not in alone:
        return {}
    whole, sliding = alone['whole_ms']['p50'], alone['sliding_ms']['p50']
    return {'whole_alone': whole, 'sliding_alone': sliding, 'share_alone': sliding / whole}


def _scaling(report: Mapping[str, Any]) -> list[str]:
    at, lines = report['base'], []
    counts = sorted(
        {
            c['planes']
            for m in report['methods']
            for c in m['cells']
            if (c['width'], c['height']) == (at['width'], at['height'])
        }
    )
    sizes = sorted(
        {
            (c['width'], c['height'])
            for m in report['methods']
            for c in m['cells']
            if c['planes'] == at['planes']
        },
        key=lambda s: s[0] * s[1],
    )
    for title, keys, heading in (
        (
            f'Planes, at {at["width"]} x {at["height"]}',
            [(n, at['width'], at['height']) for n in counts],
            '{0} planes',
        ),
        (
            f'Size, with {at["planes"]} planes',
            [(at['planes'], *size) for size in sizes],
            '{1} x {2}',
        ),
    ):
        if len(keys) < 2:
            continue
        rows = []
        for method in report['methods']:
            found = {(c['planes'], c['width'], c['height']): c for c in method['cells']}
            rows.append(
                {
                    'method': method['name'],
                    **{
                        heading.format(*key): found[key]['total_ms']['p50']
                        for key in keys
                        if key in found
                    },
                }
            )
        columns = [(heading.format(*key),) * 2 + (1,) for key in keys]
        lines += [
            f'## {title}',
            '',
            *markdown_table(rows, columns, 'method'),
            '',
            'Whole, median ms.',
            '',
        ]
    return lines


def _formats(report: Mapping[str, Any]) -> list[str]:
    rows = [
        {
            'format': entry['precision'],
            'time': entry['total_ms']['p50'],
            'ratio': entry['time_ratio'],
            'median': entry['median_dioptres'],
            'p99': entry['p99_dioptres'],
            'max': entry['max_dioptres'],
            'validity': entry['validity_changed'],
        }
        for entry in report['precisions']
    ]
    columns = [
        ('time', 'whole, ms', 1),
        ('ratio', 'of fp32', 2),
        ('median', 'median change, 1/m', 5),
        ('p99', '99 %, 1/m', 5),
        ('max', 'largest, 1/m', 4),
        ('validity', 'validity differs, %', -2),
    ]
    speed = (
        ''
        if report['fast_bf16'] or report['device_kind'] != 'cpu'
        else (' This processor has no bf16 instructions.')
    )
    return [
        *markdown_table(rows, columns, 'format'),
        '',
        f'{report["default_model"]}; change of inverse depth relative to fp32 on a rendered stack '
        f'with planes from 0.45 to 2.5 1/m.{speed}',
    ]
