# SPDX-License-Identifier: Apache-2.0
"""Ratios of the times of one run, which depend less on the machine than the times do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dualfocus_ros.benchmark.report_cells import Cell, base_cell, network_ms, stage_ms

PUBLISH = ('pack', 'serialise')


@dataclass(frozen=True)
class Ratio:
    """Ratio, or another derived value.

    :param name: identifier.
    :param description: numerator and denominator in words.
    :param unit: of the value; empty for a ratio.
    :param limit: required maximum, or minimum if ``at_least``; None without a requirement.
    """

    name: str
    description: str
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
        return {
            'name': self.name,
            'words': self.description,
            'value': self.value,
            'unit': self.unit,
            'limit': self.limit,
            'at_least': self.at_least,
            'met': self.met,
        }


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
        at = report['base']
        base = base_cell(default, report)
        if 'dfv' in methods:
            found += _against_dfv(default['name'], base, base_cell(methods['dfv'], report))
        found += _memory(default, report['device_kind'])
        found += _on_arrival(default, base)
        found += _linearity(default, at)
    found += _precisions(report.get('precisions') or [])
    found += _over_dds(report.get('node'))
    return found


def _against_dfv(name: str, base: Cell, dfv: Cell) -> list[Ratio]:
    other = dfv['total_ms']['p50']
    return [
        Ratio(
            'whole_vs_dfv',
            f'{name}, whole estimate with every output / network of stock DFV',
            base['total_ms']['p50'] / other,
            limit=1 / 3,
        ),
        Ratio(
            'network_vs_dfv',
            f'{name}, encode and decode / network of stock DFV',
            network_ms(base) / other,
            limit=1 / 3,
        ),
    ]


def _memory(default: Mapping[str, Any], device_kind: str) -> list[Ratio]:
    alone = default['alone']
    if 'peak_bytes' not in alone:
        return []
    found = [
        Ratio(
            'peak_memory',
            f'peak memory of a process that runs {default["name"]}',
            alone['peak_bytes'] / 1e9,
            'GB',
            0.8 if device_kind == 'cpu' else None,
        )
    ]
    if alone['device_peak_bytes'] is not None:
        found.append(
            Ratio(
                'device_memory',
                f'peak memory on the GPU of {default["name"]}',
                alone['device_peak_bytes'] / 1e9,
                'GB',
            )
        )
    return found


def _on_arrival(default: Mapping[str, Any], base: Mapping[str, Any]) -> list[Ratio]:
    found = []
    sliding, last, alone = default.get('sliding'), default.get('last_plane'), default['alone']
    if 'sliding_ms' in alone:
        found.append(
            Ratio(
                'sliding_vs_whole',
                'sliding mode, a depth per frame / whole stack, in a separate process',
                alone['sliding_ms']['p50'] / alone['whole_ms']['p50'],
                limit=0.4,
            )
        )
    if sliding is not None:
        found.append(
            Ratio(
                'sliding_vs_whole_beside',
                'the same, interleaved with the other methods of this run',
                sliding['total_ms']['p50'] / base['total_ms']['p50'],
            )
        )
    if last is not None:
        after = last['total_ms']['p50'] + sum(stage_ms(last, name) for name in PUBLISH)
        found += [
            Ratio(
                'last_plane_vs_inference',
                'last plane to messages, the others encoded on arrival / inference (encode and '
                'decode) of a whole stack',
                after / network_ms(base),
                limit=1.3,
            ),
            Ratio(
                'last_plane_vs_rest',
                'the same / remaining inference (one plane encoded, and decode)',
                after / network_ms(last),
                limit=1.3,
            ),
        ]
    return found


def _linearity(default: Mapping[str, Any], at: Mapping[str, int]) -> list[Ratio]:
    size = (at['width'], at['height'])
    cells = [c for c in default['cells'] if (c['width'], c['height']) == size]
    if len(cells) < 3:
        return []
    planes = [cell['planes'] for cell in cells]
    return [
        Ratio(
            'linearity',
            f'time by planes ({min(planes)} to {max(planes)}): largest deviation from a '
            'straight line',
            deviation_from_line(planes, [c['total_ms']['p50'] for c in cells]),
            limit=0.15,
        )
    ]


def _precisions(compared: Sequence[Mapping[str, Any]]) -> list[Ratio]:
    found = []
    for entry in compared:
        form, against = entry['precision'], entry['against']
        found += [
            Ratio(f'{form}_vs_{against}', f'time in {form} / in {against}', entry['time_ratio']),
            Ratio(
                f'{form}_median_change',
                f'depth in {form} against {against}: median change',
                entry['median_dioptres'],
                'dioptres',
            ),
            Ratio(
                f'{form}_max_change',
                f'depth in {form} against {against}: largest change',
                entry['max_dioptres'],
                'dioptres',
            ),
        ]
    return found


def _over_dds(node: Mapping[str, Any] | None) -> list[Ratio]:
    if not node:
        return []
    found = []
    for mode in node.get('modes', []):
        if mode.get('latency_ms') and mode.get('inference_ms'):
            found.append(
                Ratio(
                    f'node_{mode["mode"]}_latency_vs_inference',
                    f"{mode['mode']} mode over DDS, last plane's stamp to depth received / the node's "
                    'inference_ms (of stack_info)',
                    mode['latency_ms']['p50'] / mode['inference_ms']['p50'],
                )
            )
        callbacks = mode.get('callbacks')
        if callbacks:
            found.append(
                Ratio(
                    f'node_{mode["mode"]}_longest_callback',
                    f"{mode['mode']} mode over DDS, longest callback on the executor's thread "
                    '(processor time)',
                    callbacks['busy'][2],
                    'ms',
                    2.0,
                )
            )
    for entry in node.get('transport', {}).get('compared', []):
        if entry.get('speed_up') is not None:
            found.append(
                Ratio(
                    f'transport_{entry["reliability"]}',
                    f'default / package profile, publish to callback, {entry["reliability"]} (median)',
                    entry['speed_up'],
                    limit=3.0 if entry['reliability'] == 'reliable' else None,
                    at_least=True,
                )
            )
    return found
