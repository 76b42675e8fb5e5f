# SPDX-License-Identifier: Apache-2.0
"""Benchmark report: Markdown, JSON and figure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
import numpy as np

from dualfocus_ros.benchmark.ratios import (
    base_cell,
    cells_by_planes,
    cells_by_size,
    sliding_over_whole,
    stages_ms,
)
from dualfocus_ros.evaluation.tables import markdown_table, to_json
from dualfocus_ros.io.atomic_files import write_text
from dualfocus_ros.io.figures import figure_to_array, set_log_scale
from dualfocus_ros.io.image_files import save_palette_png

_MARKS = 'osD^vP*X'
# Column of a table: heading, digits (negative: a share, printed in per cent), value of a row.
_Column = tuple[str, int, Callable[[Mapping[str, Any]], Any]]

_RATIO_COLUMNS: tuple[_Column, ...] = (
    ('value', 0, lambda r: f'{r["value"]:.3g} {r["unit"]}'.strip()),
    ('required', 0, lambda r: _requirement(r)),
    ('met', 0, lambda r: {None: '', True: 'yes', False: 'no'}[r['met']]),
)
_METHOD_COLUMNS: tuple[_Column, ...] = (
    ('weights', 0, lambda m: m['weights']),
    ('parameters', 0, lambda m: f'{m["parameters"] / 1e6:.2f} M' if m['parameters'] else ''),
    ('format', 0, lambda m: m['precision']),
    ('network, ms', 1, lambda m: stages_ms(m['base']) or None),
    ('whole, ms', 1, lambda m: m['whole']['p50']),
    ('p10 to p90', 0, lambda m: f'{m["whole"]["p10"]:.0f} to {m["whole"]["p90"]:.0f}'),
    ('runs', 0, lambda m: m['whole']['repeats']),
    ('of DFV', 2, lambda m: m['dfv'] and m['whole']['p50'] / m['dfv']),
    ('peak memory, MB', 0, lambda m: _megabytes(m['alone'].get('peak_bytes'))),
    ('on the GPU, MB', 0, lambda m: _megabytes(m['alone'].get('device_peak_bytes'))),
)
_ARRIVAL_COLUMNS: tuple[_Column, ...] = (
    ('whole stack, ms', 1, lambda m: _median(m['base'])),
    ('last plane to result, ms', 1, lambda m: _median(m['last_plane'])),
    ('of whole', 2, lambda m: _median(m['last_plane']) / _median(m['base'])),
    ('sliding, ms a frame', 1, lambda m: _median(m['sliding'])),
    ('of whole', 2, lambda m: _median(m['sliding']) / _median(m['base'])),
    ('thereof encode of one plane', 1, lambda m: stages_ms(m['sliding'], ['encode'])),
    ('thereof decode', 1, lambda m: stages_ms(m['sliding'], ['decode'])),
    ('whole stack alone, ms', 1, lambda m: _p50(m['alone'].get('whole_ms'))),
    ('sliding alone, ms', 1, lambda m: _p50(m['alone'].get('sliding_ms'))),
    ('of whole alone', 2, lambda m: sliding_over_whole(m['alone'])),
)
_FORMAT_COLUMNS: tuple[_Column, ...] = (
    ('whole, ms', 1, lambda p: p['total_ms']['p50']),
    ('of fp32', 2, lambda p: p['time_ratio']),
    ('median change, 1/m', 5, lambda p: p['median_dioptres']),
    ('99 %, 1/m', 5, lambda p: p['p99_dioptres']),
    ('largest, 1/m', 4, lambda p: p['max_dioptres']),
    ('validity differs, %', -2, lambda p: p['validity_changed']),
)
_MODE_COLUMNS: tuple[_Column, ...] = (
    ('camera, Hz', 2, lambda m: m['camera_hz']),
    ('frames sent', 0, lambda m: m['frames_sent']),
    ('depths', 0, lambda m: m['depths']),
    ('depths, Hz', 2, lambda m: m['depth_hz']),
    ('latency, ms', 1, lambda m: _p50(m['latency_ms'])),
    ('p90', 1, lambda m: m['latency_ms'] and m['latency_ms']['p90']),
    ('node: inference, ms', 1, lambda m: _p50(m['inference_ms'])),
    ('assemble', 1, lambda m: _p50(m['assemble_ms'])),
    ('publish', 1, lambda m: _p50(m['publish_ms'])),
    ('callbacks, 99 %', 2, lambda m: m['callbacks'] and m['callbacks']['busy'][1]),
    ('longest', 2, lambda m: m['callbacks'] and m['callbacks']['busy'][2]),
    ('longest, wall clock', 2, lambda m: m['callbacks'] and m['callbacks']['elapsed'][2]),
)
_TRANSPORT_COLUMNS: tuple[_Column, ...] = (
    ('default, ms', 2, lambda t: _p50(t['default']['delay_ms'])),
    ('lost, %', -1, lambda t: t['default']['loss']),
    ('package profile, ms', 2, lambda t: _p50(t['ours']['delay_ms'])),
    ('lost, %', -1, lambda t: t['ours']['loss']),
    ('default / package', 1, lambda t: t['speed_up']),
)


def write_report(folder: Path, report: Mapping[str, Any]) -> None:
    """Write ``benchmark.md``, ``benchmark.json`` and ``benchmark.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / 'benchmark.md', as_markdown(report))
    write_text(folder / 'benchmark.json', to_json(report))
    save_palette_png(folder / 'benchmark.png', scaling_figure(report))


def as_markdown(report: Mapping[str, Any]) -> str:
    """Return the report as Markdown."""
    at = report['base']
    base = f'{at["planes"]} planes of {at["width"]} x {at["height"]}'
    lines = ['# Benchmark', '', *_run_info(report), '', '## Ratios', '']
    lines += [*_table(report['ratios'], 'ratio', 'words', _RATIO_COLUMNS), '']
    lines += [f'## Methods: {base}', '', *_comparison(report), '']
    lines += ['## Stages', '', *_stages(report), '', *_on_arrival(report), *_scaling(report)]
    if report['precisions']:
        lines += ['## Number formats', '', *_formats(report), '']
    if report.get('node'):
        lines += _over_dds(report['node'])
    return '\n'.join(lines).rstrip() + '\n'


def _table(
    entries: Iterable[Mapping[str, Any]], first: str, key: str, columns: Sequence[_Column]
) -> list[str]:
    """Return a table with a row for each entry; columns without any value are omitted.

    :param first: heading of the first column, which shows ``entry[key]``.
    """
    rows = []
    for entry in entries:
        values = {str(place): value(entry) for place, (_, _, value) in enumerate(columns)}
        filled = {place: value for place, value in values.items() if value is not None}
        rows.append({first: entry[key], **filled})
    headings = [(str(n), heading, digits) for n, (heading, digits, _) in enumerate(columns)]
    return markdown_table(rows, headings, first)


def _median(cell: Mapping[str, Any]) -> float:
    return float(cell['total_ms']['p50'])


def _p50(percentiles: Mapping[str, float] | None) -> float | None:
    return percentiles['p50'] if percentiles else None


def _megabytes(count: float | None) -> float | None:
    return count / 1e6 if count else None


def _requirement(ratio: Mapping[str, Any]) -> str:
    if ratio['limit'] is None:
        return ''
    side = 'at least' if ratio['at_least'] else 'at most'
    return f'{side} {ratio["limit"]:.2g} {ratio["unit"]}'.strip()


def _run_info(report: Mapping[str, Any]) -> list[str]:
    busy = (
        ' **The machine was busy**: {load_before:.1f} processors in use before the measurement; '
        'trust the ratios, not the milliseconds.'
    )
    device = '{machine}; networks on {device}.' + (busy if report['busy'] else '')
    run = '{date}, version {version}, commit {commit}, PyTorch {torch}.'
    return [run.format_map(report), device.format_map(report)]


def _comparison(report: Mapping[str, Any]) -> list[str]:
    methods = report['methods']
    dfv = next((_median(base_cell(m, report)) for m in methods if m['name'] == 'dfv'), None)
    entries = [
        {**m, 'base': base, 'whole': base['total_ms'], 'dfv': dfv}
        for m in methods
        for base in [base_cell(m, report)]
    ]
    notes = [
        'Medians. **whole**: for DualFocus models the whole estimate with every output (depth, '
        'sigma, confidence, all-in-focus image, organised and decimated points); for DFV image '
        'normalisation and network; for the classical methods the function call. Weights are '
        '**random** where none are shipped; run time does not depend on them.',
    ]
    imported = [m['alone']['imported_bytes'] for m in methods if 'imported_bytes' in m['alone']]
    if imported:
        notes += [
            '',
            'Peak memory is that of a separate process (VmHWM), including '
            f'{max(imported) / 1e6:.0f} MB of Python and imported libraries.',
        ]
    for method in methods:
        if error := method['alone'].get('error'):
            notes += ['', f'{method["name"]} failed in a separate process: {error}']
    return [*_table(entries, 'method', 'name', _METHOD_COLUMNS), '', *notes]


def _stages(report: Mapping[str, Any]) -> list[str]:
    cells = {m['name']: base_cell(m, report) for m in report['methods'] if m['ours']}
    if not cells:
        return ['No DualFocus model was measured.']
    names = list(dict.fromkeys(name for cell in cells.values() for name in cell['stages']))
    rows: list[dict[str, Any]] = []
    for name in names:
        found = {t: c['stages'][name]['p50'] for t, c in cells.items() if name in c['stages']}
        rows.append({'stage': name, **found})
    rows.append({'stage': '**whole estimate**', **{t: _median(c) for t, c in cells.items()}})
    lines = [
        *markdown_table(rows, [(title, title, 1) for title in cells], 'stage'),
        '',
        'Median ms. **pack** builds the messages and **serialise** encodes them for DDS; both '
        'come after the whole estimate.',
    ]
    if report['device_kind'] != 'cpu':
        note = 'On a GPU a stage lasts as long as its launch, except for stages that synchronise.'
        lines += ['', note]
    return lines


def _on_arrival(report: Mapping[str, Any]) -> list[str]:
    entries = [
        {**method, 'base': base_cell(method, report)}
        for method in report['methods']
        if method['last_plane'] is not None and method['sliding'] is not None
    ]
    if not entries:
        return []
    return [
        '## Planes encoded on arrival',
        '',
        *_table(entries, 'model', 'name', _ARRIVAL_COLUMNS),
        '',
        'Sweep mode encodes each plane on arrival; one encoding and the decoder remain after the '
        'last plane. Sliding mode yields a depth with every frame. **Alone**: in a process that '
        'runs only this model, as a node does; the other columns are interleaved with the other '
        'methods.',
        '',
    ]


def _scaling(report: Mapping[str, Any]) -> list[str]:
    at, lines = report['base'], []
    for title, select, heading in (
        (f'Planes, at {at["width"]} x {at["height"]}', cells_by_planes, '{planes} planes'),
        (f'Size, with {at["planes"]} planes', cells_by_size, '{width} x {height}'),
    ):
        rows: list[dict[str, Any]] = []
        headings: dict[str, None] = {}
        for method in report['methods']:
            found = {heading.format_map(c): _median(c) for c in select(method, report)}
            headings |= dict.fromkeys(found)
            rows.append({'method': method['name'], **found})
        if len(headings) > 1:
            table = markdown_table(rows, [(name, name, 1) for name in headings])
            lines += [f'## {title}', '', *table, '', 'Whole, median ms.', '']
    return lines


def _formats(report: Mapping[str, Any]) -> list[str]:
    lacks_bf16 = report['device_kind'] == 'cpu' and not report['fast_bf16']
    return [
        *_table(report['precisions'], 'format', 'precision', _FORMAT_COLUMNS),
        '',
        f'{report["default_model"]}; change of inverse depth relative to fp32 on a rendered stack '
        f'with planes from 0.45 to 2.5 1/m.'
        f'{" This processor has no bf16 instructions." if lacks_bf16 else ""}',
    ]


def _over_dds(node: Mapping[str, Any]) -> list[str]:
    at, newest, transport = node['setting'], node['modes'][-1], node['transport']
    lines = [
        '## Over DDS, between processes',
        '',
        *_table(node['modes'], 'mode', 'mode', _MODE_COLUMNS),
        '',
        f'{newest["model"]} on {newest["device"]}, {at["planes"]} planes of {at["width"]} x '
        f'{at["height"]}. Latency: from the stamp of the last plane, taken before it is '
        'published, to the depth image in the callback of another process. Medians. Callbacks: '
        "processor time of at most the newest 1000 on the executor's thread; the wall-clock time "
        'includes other work of the processor.',
        '',
    ]
    if not transport['compared']:
        return [*lines, f'Transport: not measured ({transport["why_not"]}).', '']
    size = f'{transport["width"]} x {transport["height"]} rgb8 at {transport["rate"]:g} Hz'
    return [
        *lines,
        '### Transport',
        '',
        *_table(transport['compared'], 'subscriber', 'reliability', _TRANSPORT_COLUMNS),
        '',
        f'{size} ({transport["rmw"]}), publish to callback between two processes, median; runs '
        'with the two profiles are interleaved.',
        '',
    ]


def scaling_figure(report: Mapping[str, Any]) -> np.ndarray:
    """Return (H, W, 3) uint8: time over planes, time over pixels, stages of DualFocus models."""
    at, methods = report['base'], report['methods']
    figure = Figure(figsize=(14, 4.8), dpi=110, layout='constrained')
    by_planes, by_pixels, stages = figure.subplots(1, 3)
    for number, method in enumerate(methods):
        style = {'color': f'C{number}', 'marker': _MARKS[number % len(_MARKS)], 'markersize': 5}
        style['label'] = method['name']
        cells = cells_by_planes(method, report)
        _line(by_planes, [c['planes'] for c in cells], cells, style)
        cells = cells_by_size(method, report)
        _line(by_pixels, [c['width'] * c['height'] / 1e6 for c in cells], cells, style)
    by_planes.set(xlabel='planes', title=f'{at["width"]} x {at["height"]}')
    by_planes.set_xticks(sorted({c['planes'] for m in methods for c in m['cells']}))
    by_pixels.set(xlabel='megapixels of a plane', title=f'{at["planes"]} planes')
    for axes in (by_planes, by_pixels):
        axes.set_ylabel('ms, median; bars from 10 to 90 %')
        set_log_scale(axes)
    by_planes.legend(fontsize=8)
    _stage_bars(stages, report)
    figure.suptitle(f'{report["machine"]}; {report["device"]}', fontsize=10)
    return figure_to_array(figure)


def _line(axes: Any, x: list[float], cells: list[Any], style: dict[str, Any]) -> None:
    low, middle, high = (
        np.array([cell['total_ms'][p] for cell in cells]) for p in ('p10', 'p50', 'p90')
    )
    bars = np.abs(np.stack([middle - low, high - middle]))
    axes.errorbar(x, middle, bars, capsize=2, linewidth=1.3, **style)


def _stage_bars(axes: Any, report: Mapping[str, Any]) -> None:
    """Draw the time by stage of a whole stack, of the last plane and of a frame."""
    at, rows = report['base'], []
    for method in report['methods']:
        if not method['ours']:
            continue
        rows.append((method['name'], base_cell(method, report)))
        for key, title in (('last_plane', 'last plane'), ('sliding', 'sliding')):
            if method[key] is not None:
                rows.append((f'{method["name"]}, {title}', method[key]))
    if not rows:
        axes.axis('off')
        return
    names = list(dict.fromkeys(name for _, cell in rows for name in cell['stages']))
    parts = {name: np.array([stages_ms(cell, [name]) for _, cell in rows]) for name in names}
    # Stages too short to be visible are summed.
    visible = 0.02 * max(cell['total_ms']['p50'] for _, cell in rows)
    shown = {name: values for name, values in parts.items() if values.max() > visible}
    hidden = [values for name, values in parts.items() if name not in shown]
    shown['other stages'] = sum(hidden, np.zeros(len(rows)))
    places = np.arange(len(rows))[::-1]
    left = np.zeros(len(rows))
    for number, (name, values) in enumerate(shown.items()):
        axes.barh(places, values, left=left, color=f'C{number + 2}', label=name)
        left += values
    axes.set_yticks(places, [name for name, _ in rows], fontsize=8)
    axes.set(xlabel='ms, median', title=f'{at["planes"]} x {at["width"]} x {at["height"]}')
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3, axis='x')
