# SPDX-License-Identifier: Apache-2.0
"""Long run of camera, sweep and depth node: growth of memory and latency, lost depth.

Each node is a separate process over DDS. Every few seconds private memory of each, GPU memory,
latency and counts are sampled. A line is fitted through each series, without the warm-up. The exit
status is 1 if

- a slope exceeds three standard errors and the printed bound,
- the number of depths differs from that of whole sweeps,
- a process ended.

    python test/endurance/soak.py --minutes 60 --output soak

Writes soak.csv (all samples), soak.json (results) and soak.png.
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from itertools import pairwise
import json
from pathlib import Path
import statistics
import sys
import time
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from node_fleet import Fleet, Observer, is_whole, memory_bytes, observer, wait_for_depths
import numpy as np
from tqdm import tqdm
from trend import FEWEST, Trend, trend

PERIOD = 5.0
PATIENCE = 120.0
# A sweep is judged when it is this old: its depth has come by then, or never will.
_JUDGED_AFTER = 10 * 10**9
# What may grow in an hour. Memory: far below what would matter in a day of work.
MEMORY_BOUND = 20.0  # MB
LATENCY_BOUND = 0.25  # of its mean


@dataclass
class Counts:
    """Complete sweeps and their depth."""

    expected: int = 0
    got: int = 0
    partial: int = 0
    broken: int = 0  # sweeps of which not everything was published or heard


class SweepCounter:
    """Counts sweeps once they are old enough, and drops them to bound its memory."""

    def __init__(self, watch: Observer) -> None:
        self._watch = watch
        self._until = 0
        self.counts = Counts()
        self.began = False

    def settle(self, everything: bool = False) -> None:
        """Judge old sweeps; at the end, all but the current one."""
        watch = self._watch
        sweeps = watch.sweeps()
        if not self.began:
            # The first ones, which began before everybody listened, are not judged.
            self.began = len(sweeps) > 2
            if not self.began:
                return
            self._until = sweeps[1].first
        newest = sweeps[-1].last if sweeps else 0
        for sweep, after in pairwise(sweeps):
            if sweep.first <= self._until:
                continue
            if not everything and newest - after.first < _JUDGED_AFTER:
                break
            self._until = sweep.first
            self._judge(sweep)
        horizon = self._until - _JUDGED_AFTER
        watch.forget_before(horizon)
        watch.depths = [
            (when, info)
            for when, info in watch.depths
            if max(s.sec * 10**9 + s.nanosec for s in info.stamps) >= horizon
        ]

    def _judge(self, sweep: Any) -> None:
        counts, watch = self.counts, self._watch
        if not sweep.whole(watch.images, watch.infos):
            counts.broken += 1
            return
        counts.expected += 1
        if sweep.depth is None:
            return
        if is_whole(sweep.depth):
            counts.got += 1
        else:
            counts.partial += 1


def main() -> int:
    """Run, sample, fit, draw, judge."""
    arguments = _arguments()
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    warm_up = min(arguments.warm_up * 60.0, arguments.minutes * 60.0 / 3.0)
    print(
        f'{arguments.minutes:g} minutes, of which the first {warm_up / 60.0:.1f} are warm-up; '
        f'results in {output}/'
    )
    with Fleet(output / 'logs') as fleet, observer() as watch:
        wait_for_depths(watch, fleet, 2, PATIENCE)
        rows, counter, dead = _sample(fleet, watch, arguments.minutes * 60.0)
        if not dead:
            watch.spin(3.0)  # for the depth of the last sweep
        counter.settle(everything=True)
    _write_table(output / 'soak.csv', rows)
    trends = _trends(rows, warm_up)
    bounds = {name: _bound(name, t) for name, t in trends.items()}
    rising = [name for name, t in trends.items() if t.rises_beyond(bounds[name])]
    counts = counter.counts
    _print(trends, bounds, counts)
    _draw(output / 'soak.png', rows, trends, warm_up)
    lost = counts.expected - counts.got
    problems = [f'{name} rises' for name in rising]
    problems += [f'{name} has ended' for name in dead]
    if lost or not counts.expected:
        problems.append(f'{lost} of {counts.expected} whole sweeps gave no whole depth')
    (output / 'soak.json').write_text(
        json.dumps(
            {
                'minutes': arguments.minutes,
                'warm_up_minutes': warm_up / 60.0,
                'slopes_per_hour': {
                    name: {
                        'slope': t.slope,
                        'standard_error': t.error,
                        'bound': bounds[name],
                        'mean': t.mean,
                    }
                    for name, t in trends.items()
                },
                'counts': vars(counts),
                'problems': problems,
            },
            indent=2,
        )
        + '\n'
    )
    print('FAILED: ' + '; '.join(problems) if problems else 'passed')
    return 1 if problems else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--minutes', type=float, default=60.0, help='how long (default: 60)')
    parser.add_argument(
        '--warm-up',
        type=float,
        default=2.0,
        metavar='MINUTES',
        help='left out of the fits, at most a third of the run (default: 2)',
    )
    parser.add_argument('--output', type=Path, default=Path('soak'), help='folder (default: soak)')
    arguments = parser.parse_args()
    least = 1.6 * FEWEST * PERIOD / 60.0
    if not arguments.minutes >= least:
        parser.error(f'--minutes must be at least {least:.1f} for a trend')
    return arguments


def _sample(
    fleet: Fleet, watch: Observer, seconds: float
) -> tuple[list[dict[str, float]], SweepCounter, list[str]]:
    """Return a row for each period, the sweeps judged, and which processes ended."""
    rows: list[dict[str, float]] = []
    counter = SweepCounter(watch)
    began = time.monotonic()
    with tqdm(total=round(seconds), unit='s', desc='soak', disable=None) as bar:
        while (elapsed := time.monotonic() - began) < seconds and not fleet.dead():
            seen = len(watch.depths)
            watch.spin(min(PERIOD, seconds - elapsed))
            latencies = [info.latency_ms for _, info in watch.depths[seen:]]
            counter.settle()
            now = time.monotonic() - began
            row = {'seconds': now}
            for name, node in fleet.running.items():
                row[f'{name} [MB]'] = memory_bytes(node.pid).own / 1e6
            gpu = _of_model(watch, 'device memory [MB]')
            if gpu > 0.0:
                row['GPU memory [MB]'] = gpu
            row['latency [ms]'] = statistics.median(latencies) if latencies else np.nan
            row['depths'] = len(latencies)
            row['whole sweeps'] = counter.counts.expected
            row['whole depths'] = counter.counts.got
            rows.append(row)
            bar.update(round(now) - bar.n)
            bar.set_postfix_str(
                f'{counter.counts.got}/{counter.counts.expected} depths, '
                f'{row["depth_node [MB]"]:.0f} MB',
                refresh=False,
            )
    return rows, counter, fleet.dead()


def _of_model(watch: Observer, key: str) -> float:
    values = next((v for n, v in watch.diagnostics.items() if n.endswith(': model')), {})
    try:
        return float(values.get(key, 0.0))
    except ValueError:
        return 0.0


def _trends(rows: list[dict[str, float]], warm_up: float) -> dict[str, Trend]:
    """Return the trends of memory and latency."""
    used = [row for row in rows if row['seconds'] > warm_up]
    seconds = np.array([row['seconds'] for row in used])
    names = [name for name in rows[-1] if name.endswith(('[MB]', '[ms]'))]
    return {
        name: trend(seconds, np.array([row.get(name, np.nan) for row in used])) for name in names
    }


def _bound(name: str, found: Trend) -> float:
    return LATENCY_BOUND * found.mean if name.endswith('[ms]') else MEMORY_BOUND


def _print(trends: dict[str, Trend], bounds: dict[str, float], counts: Counts) -> None:
    print(f'{"":28}{"mean":>10}{"slope per hour":>24}{"bound":>10}')
    for name, t in trends.items():
        print(
            f'{name:28}{t.mean:10.1f}{t.slope:14.2f} +- {t.error:6.2f}{bounds[name]:10.1f}'
            f'{"  RISES" if t.rises_beyond(bounds[name]) else ""}'
        )
    print(
        f'whole sweeps {counts.expected}, whole depths {counts.got}, partial {counts.partial}; '
        f'sweeps not fully heard {counts.broken}'
    )


def _write_table(path: Path, rows: list[dict[str, float]]) -> None:
    names = list(rows[-1])
    with path.open('w', newline='') as file:
        table = csv.DictWriter(file, names, restval='', extrasaction='ignore')
        table.writeheader()
        table.writerows({k: f'{v:.3f}' for k, v in row.items()} for row in rows)


def _draw(
    path: Path, rows: list[dict[str, float]], trends: dict[str, Trend], warm_up: float
) -> None:
    figure = Figure(figsize=(9, 2.0 * (len(trends) + 1)), dpi=90, layout='constrained')
    FigureCanvasAgg(figure)
    all_axes = figure.subplots(len(trends) + 1, 1, sharex=True)
    minutes = np.array([row['seconds'] for row in rows]) / 60.0
    for axes, (name, t) in zip(all_axes, trends.items()):
        axes.plot(minutes, [row.get(name, np.nan) for row in rows], '.', ms=4, color='tab:blue')
        fitted = minutes[minutes * 60.0 > warm_up]
        line = t.mean + t.slope / 60.0 * (fitted - fitted.mean())
        axes.plot(
            fitted, line, color='tab:orange', label=f'{t.slope:+.2f} +- {t.error:.2f} per hour'
        )
        axes.set_ylabel(name, fontsize=8)
        axes.legend(loc='best', fontsize=8)
    for name, style in (('whole sweeps', '-'), ('whole depths', '--')):
        all_axes[-1].plot(minutes, [row[name] for row in rows], style, label=name)
    all_axes[-1].legend(fontsize=8)
    for axes in all_axes:
        axes.axvspan(0.0, warm_up / 60.0, color='0.92')
        axes.grid(alpha=0.3)
    all_axes[-1].set_xlabel('minutes; grey: warm-up')
    figure.savefig(path)


if __name__ == '__main__':
    sys.exit(main())
