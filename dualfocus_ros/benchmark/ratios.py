# SPDX-License-Identifier: Apache-2.0
"""Ratios of the times of one run, which depend less on the machine than the times do."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import Any

import numpy as np

# Times of a method at one stack shape.
Cell = Mapping[str, Any]
NETWORK_STAGES = ('encode', 'decode', 'network')
PUBLISH_STAGES = ('pack', 'serialise')


def cells_by_planes(method: Mapping[str, Any], report: Mapping[str, Any]) -> list[Cell]:
    """Return the cells of a method at the base size, by number of planes."""
    size = itemgetter('width', 'height')
    found = [cell for cell in method['cells'] if size(cell) == size(report['base'])]
    return sorted(found, key=lambda cell: cell['planes'])


def cells_by_size(method: Mapping[str, Any], report: Mapping[str, Any]) -> list[Cell]:
    """Return the cells of a method with the base number of planes, by number of pixels."""
    found = [cell for cell in method['cells'] if cell['planes'] == report['base']['planes']]
    return sorted(found, key=lambda cell: cell['width'] * cell['height'])


def base_cell(method: Mapping[str, Any], report: Mapping[str, Any]) -> Cell:
    """Return the times of a method at the base shape."""
    planes = report['base']['planes']
    return next(cell for cell in cells_by_planes(method, report) if cell['planes'] == planes)


def stages_ms(cell: Cell, names: Sequence[str] = NETWORK_STAGES) -> float:
    """Return the median time of stages, by default those of the network; 0 for absent ones."""
    return sum(float(cell['stages'][name]['p50']) for name in names if name in cell['stages'])


def sliding_over_whole(alone: Mapping[str, Any]) -> float | None:
    """Return the time of a frame in sliding mode over a whole stack, in a separate process."""
    if 'sliding_ms' not in alone:
        return None
    return float(alone['sliding_ms']['p50'] / alone['whole_ms']['p50'])


@dataclass(frozen=True)
class Ratio:
    """Ratio, or another derived value.

    :param name: identifier.
    :param words: numerator and denominator.
    :param unit: of the value; empty for a ratio.
    :param limit: required maximum, or minimum if ``at_least``; None without a requirement.
    """

    name: str
    words: str
    value: float
    unit: str = ''
    limit: float | None = None
    at_least: bool = False

    @property
    def met(self) -> bool | None:
        """Whether the value is within its limit; None without a limit."""
        if self.limit is None:
            return None
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def as_json(self) -> dict[str, Any]:
        """Return the ratio for JSON."""
        return {**asdict(self), 'met': self.met}


def deviation_from_line(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the largest ``|y - fit| / fit`` over a straight line through positive values.

    The line minimises squared relative deviations, so that the largest value does not dominate.

    :raises ValueError: for fewer than three points, which any line fits.
    """
    if len(x) < 3:
        raise ValueError(f'a straight line needs at least 3 points to be tested, got {len(x)}')
    xs, ys = np.asarray(x, float), np.asarray(y, float)
    slope, offset = np.polyfit(xs, ys, 1, w=1.0 / ys)
    fit = slope * xs + offset
    return float(np.max(np.abs(ys - fit) / np.abs(fit)))


def derive_ratios(report: Mapping[str, Any]) -> list[Ratio]:
    """Return all ratios that the measurements of a run allow.

    :param report: of :func:`~dualfocus_ros.benchmark.benchmark_run.run_benchmark`.
    """
    methods = {method['name']: method for method in report['methods']}
    default = methods.get(report['default_model'])
    found: list[Ratio] = []
    if default is not None:
        if 'dfv' in methods:
            found += _against_dfv(default, methods['dfv'], report)
        found += _in_own_process(default['alone'], default['name'], report['device_kind'])
        found += _on_arrival(default, base_cell(default, report))
        cells = cells_by_planes(default, report)
        if len(cells) >= 3:
            planes = [cell['planes'] for cell in cells]
            deviation = deviation_from_line(planes, [c['total_ms']['p50'] for c in cells])
            words = f'time by planes ({planes[0]} to {planes[-1]}): largest deviation from a '
            found.append(Ratio('linearity', f'{words}straight line', deviation, limit=0.15))
    for entry in report.get('precisions') or []:
        found += _of_precision(entry)
    if report.get('node'):
        found += _over_dds(report['node'])
    return found


def _against_dfv(
    default: Mapping[str, Any], dfv: Mapping[str, Any], report: Mapping[str, Any]
) -> Iterator[Ratio]:
    name, base = default['name'], base_cell(default, report)
    other = base_cell(dfv, report)['total_ms']['p50']
    for key, part, time in (
        ('whole', 'whole estimate with every output', base['total_ms']['p50']),
        ('network', 'encode and decode', stages_ms(base)),
    ):
        words = f'{name}, {part} / network of stock DFV'
        yield Ratio(f'{key}_vs_dfv', words, time / other, limit=1 / 3)


def _in_own_process(alone: Mapping[str, Any], name: str, device_kind: str) -> Iterator[Ratio]:
    if 'peak_bytes' in alone:
        words = f'peak memory of a process that runs {name}'
        limit = 0.8 if device_kind == 'cpu' else None
        yield Ratio('peak_memory', words, alone['peak_bytes'] / 1e9, 'GB', limit)
        if alone['device_peak_bytes'] is not None:
            words = f'peak memory on the GPU of {name}'
            yield Ratio('device_memory', words, alone['device_peak_bytes'] / 1e9, 'GB')
    value = sliding_over_whole(alone)
    if value is not None:
        words = 'sliding mode, a depth per frame / whole stack, in a separate process'
        yield Ratio('sliding_vs_whole', words, value, limit=0.4)


def _on_arrival(default: Mapping[str, Any], base: Cell) -> Iterator[Ratio]:
    sliding, last = default.get('sliding'), default.get('last_plane')
    if sliding is not None:
        words = 'the same, interleaved with the other methods of this run'
        value = sliding['total_ms']['p50'] / base['total_ms']['p50']
        yield Ratio('sliding_vs_whole_beside', words, value)
    if last is not None:
        after = last['total_ms']['p50'] + stages_ms(last, PUBLISH_STAGES)
        words = 'last plane to messages, the others encoded on arrival / inference (encode and '
        words += 'decode) of a whole stack'
        yield Ratio('last_plane_vs_inference', words, after / stages_ms(base), limit=1.3)
        words = 'the same / remaining inference (one plane encoded, and decode)'
        yield Ratio('last_plane_vs_rest', words, after / stages_ms(last), limit=1.3)


def _of_precision(entry: Mapping[str, Any]) -> Iterator[Ratio]:
    form, against = entry['precision'], entry['against']
    yield Ratio(f'{form}_vs_{against}', f'time in {form} / in {against}', entry['time_ratio'])
    for key, title in (('median', 'median'), ('max', 'largest')):
        words = f'depth in {form} against {against}: {title} change'
        yield Ratio(f'{form}_{key}_change', words, entry[f'{key}_dioptres'], 'dioptres')


def _over_dds(node: Mapping[str, Any]) -> Iterator[Ratio]:
    for mode in node.get('modes', []):
        name = mode['mode']
        if mode.get('latency_ms') and mode.get('inference_ms'):
            words = f"{name} mode over DDS, last plane's stamp to depth received / the node's "
            words += 'inference_ms (of stack_info)'
            value = mode['latency_ms']['p50'] / mode['inference_ms']['p50']
            yield Ratio(f'node_{name}_latency_vs_inference', words, value)
        if mode.get('callbacks'):
            words = f"{name} mode over DDS, longest callback on the executor's thread (processor "
            words += 'time)'
            longest = mode['callbacks']['busy'][2]
            yield Ratio(f'node_{name}_longest_callback', words, longest, 'ms', 2.0)
    for entry in node.get('transport', {}).get('compared', []):
        if entry.get('speed_up') is not None:
            reliability = entry['reliability']
            words = f'default / package profile, publish to callback, {reliability} (median)'
            limit = 3.0 if reliability == 'reliable' else None
            name = f'transport_{reliability}'
            yield Ratio(name, words, entry['speed_up'], limit=limit, at_least=True)
