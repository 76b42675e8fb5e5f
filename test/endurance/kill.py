# SPDX-License-Identifier: Apache-2.0
"""Random kills of camera and sweep node, restarted at once: lost depth.

Definitions, by the stamps of the camera's own messages. The *span* of a sweep begins after the
last frame of the sweep before it and ends with the first frame of the sweep after it. The *time
of a kill* of the sweep node lasts until its process has ended; that of the camera until
/diagnostics of the depth node, once a second, says that images have come again: until then DDS
has not brought the new process and the depth node together. A sweep is *hit* if its span and the
time of a kill overlap.
Checks:

- every sweep that was not hit was whole (each plane was published with the lens at rest) and gave
  exactly one depth, of all its planes;
- the depth node is one process from beginning to end, and its last depth comes after the last
  kill.

    python test/endurance/kill.py --count 100 --seed 1 --output kill

Exit status 0 if all holds, 1 if not. Writes kill.json, kill.csv (one line a sweep) and kill.png.
"""

from __future__ import annotations

import argparse
from collections import Counter
import csv
from dataclasses import dataclass
import json
import os
from pathlib import Path
import random
import signal
import sys
import time
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from node_fleet import (
    Fleet,
    Memory,
    Observer,
    Sweep,
    is_whole,
    memory_bytes,
    observer,
    wait_for_depths,
)
from tqdm import tqdm

TARGETS = ('sim_camera_node', 'focus_sweep_node')
LONGEST_PAUSE = 4.0
SHARE_OF_SIGKILL = 0.8
# Of the kills, those for which the one before must be over; the others may hit who is still on
# the way up.
SHARE_AFTER_RECOVERY = 0.8
PATIENCE = 120.0
_ROW = 60.0


@dataclass(frozen=True)
class Kill:
    """One kill: what, with which signal, when, and when the process had ended (ns)."""

    target: str
    number: signal.Signals
    stamp: int
    ended: int


@dataclass(frozen=True)
class JudgedSweep:
    """A sweep with the kills in its span."""

    sweep: Sweep
    kills: tuple[int, ...]
    whole: bool
    depths: int

    @property
    def lost(self) -> bool:
        """Whether no depth of all its planes came."""
        return self.sweep.depth is None or not is_whole(self.sweep.depth)

    @property
    def wrong(self) -> bool:
        """Whether it lacks a depth that no kill accounts for, or has one too many."""
        return self.depths > 1 or (not self.kills and (self.lost or not self.whole))


def main() -> int:
    """Run, draw, judge."""
    arguments = _arguments()
    output: Path = arguments.output
    output.mkdir(parents=True, exist_ok=True)
    print(f'{arguments.count} kills, seed {arguments.seed}; logs and results in {output}/')
    with Fleet(output / 'logs') as fleet, observer() as watch:
        wait_for_depths(watch, fleet, 2, PATIENCE)
        depth_pid, before = fleet.pid('depth_node'), memory_bytes(fleet.pid('depth_node'))
        kills, grown = _kill(fleet, watch, arguments.count, random.Random(arguments.seed))
        recovered = _settle(watch, fleet, 3)
        alive = fleet.running['depth_node'].status is None and fleet.lives['depth_node'] == 1
        memory = before, memory_bytes(depth_pid)
        quarters = [round(m / 1e6) for m in grown[len(grown) // 4 - 1 :: max(1, len(grown) // 4)]]
        rejections = {
            key: value
            for name, values in watch.diagnostics.items()
            if name.endswith(': input')
            for key, value in values.items()
            if key.startswith('rejected ')
        }
    judged = judge(watch, kills)
    figures = _figures(
        judged,
        kills,
        [_time_of(k, watch.received) for k in kills if k.target == 'sim_camera_node'],
        memory,
        arguments.seed,
    )
    figures['depth node, own memory by quarters [MB]'] = quarters
    figures['depth node alive throughout'] = alive
    figures['depth after the last kill'] = recovered
    (output / 'kill.json').write_text(
        json.dumps({**figures, 'rejections at the end': rejections}, indent=2) + '\n'
    )
    _write_table(output / 'kill.csv', judged)
    _draw(output / 'kill.png', watch, judged, kills)
    for name, value in figures.items():
        print(f'{name:44} {value}')
    wrong = [j for j in judged if j.wrong]
    for j in wrong:
        print(
            f'WRONG: sweep {j.sweep.number} of {len(j.sweep.settled)}/{j.sweep.count} planes, '
            f'{j.depths} depths, kills in its span: {len(j.kills)}'
        )
    passed = alive and recovered and not wrong and len(kills) == arguments.count
    print('passed' if passed else 'FAILED')
    return 0 if passed else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('--count', type=int, default=100, help='kills (default: 100)')
    parser.add_argument('--seed', type=int, default=1, help='of victims, signals and moments')
    parser.add_argument('--output', type=Path, default=Path('kill'), help='folder (default: kill)')
    return parser.parse_args()


def _kill(
    fleet: Fleet, watch: Observer, count: int, chance: random.Random
) -> tuple[list[Kill], list[int]]:
    """Kill and restart at random moments.

    :returns: the kills, and the memory of the depth node at each (bytes).
    """
    kills: list[Kill] = []
    memory: list[int] = []
    for _ in tqdm(range(count), desc='kills', unit='kill', disable=None):
        if chance.random() < SHARE_AFTER_RECOVERY and not _settle(watch, fleet, 1):
            break
        watch.spin(chance.uniform(0.0, LONGEST_PAUSE))
        target = chance.choice(TARGETS)
        number = signal.SIGKILL if chance.random() < SHARE_OF_SIGKILL else signal.SIGTERM
        stamp = time.time_ns()
        os.kill(fleet.pid(target), number)
        if not fleet.running[target].wait(10.0):
            raise SystemExit(f'{target} did not end within 10 s of {number.name}')
        kills.append(Kill(target, number, stamp, time.time_ns()))
        fleet.start(target)
        memory.append(memory_bytes(fleet.pid('depth_node')).own)
    return kills, memory


def _settle(watch: Observer, fleet: Fleet, count: int) -> bool:
    """Wait for more depths of whole sweeps; return whether they came."""
    before, end = len(watch.depths), time.monotonic() + PATIENCE
    while time.monotonic() < end and not fleet.dead():
        watch.spin(0.1)
        if sum(is_whole(info) for _, info in watch.depths[before:]) >= count:
            return True
    return False


def judge(watch: Observer, kills: list[Kill]) -> list[JudgedSweep]:
    """Return the sweeps, without the first and the last, which were not heard to their ends."""
    sweeps = watch.sweeps()
    times = [_time_of(kill, watch.received) for kill in kills]
    judged = []
    for before, sweep, after in zip(sweeps, sweeps[1:], sweeps[2:]):
        hits = tuple(begin for begin, end in times if begin < after.first and end > before.last)
        own = {stamp for stamps in sweep.settled.values() for stamp in stamps}
        depths = sum(
            any(s.sec * 10**9 + s.nanosec in own for s in info.stamps) for _, info in watch.depths
        )
        judged.append(JudgedSweep(sweep, hits, sweep.whole(watch.images, watch.infos), depths))
    return judged


def _time_of(kill: Kill, received: list[tuple[int, int]]) -> tuple[int, int]:
    """Return from when to when a kill lasted; see the definitions."""
    if kill.target != 'sim_camera_node':
        return kill.stamp, kill.ended
    # Pending messages arrive within a second; the next camera takes longer to start.
    later = [(when, count) for when, count in received if when > kill.stamp + 10**9]
    if not later:
        return kill.stamp, kill.stamp
    end = next((when for when, count in later if count > later[0][1]), later[-1][0])
    return kill.stamp, end


def _figures(
    judged: list[JudgedSweep],
    kills: list[Kill],
    times: list[tuple[int, int]],
    memory: tuple[Memory, Memory],
    seed: int,
) -> dict[str, Any]:
    hit = [j for j in judged if j.kills]
    lost = [j for j in judged if j.lost]
    cost = Counter(k for j in lost for k in j.kills)
    by_cost = Counter(cost.get(k.stamp, 0) for k in kills)
    names = Counter((k.target, k.number.name) for k in kills)
    return {
        'seed': seed,
        'kills': len(kills),
        **{f'  {target} {number}': n for (target, number), n in sorted(names.items())},
        'seconds': round((judged[-1].sweep.last - judged[0].sweep.first) * 1e-9),
        'seconds from a kill of the camera to images': _spread(
            [(end - begin) * 1e-9 for begin, end in times if end > begin]
        ),
        'sweeps': len(judged),
        'sweeps not hit': len(judged) - len(hit),
        '  of these without their depth': sum(j.wrong for j in judged if not j.kills),
        'sweeps hit': len(hit),
        '  of these with a depth of all planes': sum(not j.lost for j in hit),
        '  with a flagged depth of some planes': sum(
            j.lost and j.sweep.depth is not None for j in hit
        ),
        '  without': sum(j.sweep.depth is None for j in hit),
        'sweeps with two depths': sum(j.depths > 1 for j in judged),
        **{f'kills that cost {n} whole depths': by_cost[n] for n in sorted(by_cost)},
        'depth node, own memory before [MB]': round(memory[0].own / 1e6, 1),
        'depth node, own memory after [MB]': round(memory[1].own / 1e6, 1),
        'depth node, shared memory before [MB]': round(memory[0].shared / 1e6, 1),
        'depth node, shared memory after [MB]': round(memory[1].shared / 1e6, 1),
    }


def _spread(values: list[float]) -> str:
    if not values:
        return 'none'
    return f'{min(values):.1f} to {max(values):.1f}, median {sorted(values)[len(values) // 2]:.1f}'


def _write_table(path: Path, judged: list[JudgedSweep]) -> None:
    with path.open('w', newline='') as file:
        table = csv.writer(file)
        table.writerow(['sweep', 'first_stamp', 'planes', 'of', 'whole', 'kills', 'depth'])
        for j in judged:
            depth = 'none' if j.sweep.depth is None else 'partial' if j.lost else 'whole'
            table.writerow(
                [
                    j.sweep.number,
                    f'{j.sweep.first * 1e-9:.3f}',
                    len(j.sweep.settled),
                    j.sweep.count,
                    int(j.whole),
                    len(j.kills),
                    depth,
                ]
            )


def _draw(path: Path, watch: Observer, judged: list[JudgedSweep], kills: list[Kill]) -> None:
    """Draw time in rows of a minute: spans of sweeps, depths, kills."""
    start = judged[0].sweep.first
    rows = int((judged[-1].sweep.last - start) * 1e-9 / _ROW) + 1
    figure = Figure(figsize=(12, 1.2 + 0.55 * rows), dpi=100, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots()

    def place(stamp: int) -> tuple[float, int]:
        seconds = (stamp - start) * 1e-9
        return seconds % _ROW, int(seconds // _ROW)

    drawn: set[str] = set()

    def once(label: str) -> str:
        fresh = label not in drawn
        drawn.add(label)
        return label if fresh else '_'

    for j in judged:
        colour, label = ('0.8', 'sweep') if not j.kills else ('#ffd27f', 'sweep hit by a kill')
        if j.wrong:
            colour, label = 'red', 'depth lost without a kill'
        begin, end = j.sweep.first, j.sweep.last
        while begin < end:  # what goes on in the next row
            x, row = place(begin)
            piece = min(end, start + round((row + 1) * _ROW * 1e9))
            axes.barh(
                row,
                (piece - begin) * 1e-9,
                left=x,
                height=0.42,
                color=colour,
                lw=0,
                label=once(label),
            )
            begin = piece + 1
        if j.sweep.depth is not None:
            x, row = place(max(s.sec * 10**9 + s.nanosec for s in j.sweep.depth.stamps))
            whole = not j.lost
            axes.plot(
                x,
                row,
                '|' if whole else 'x',
                color='tab:green' if whole else 'tab:olive',
                ms=11 if whole else 6,
                mew=1.6,
                label=once('depth' if whole else 'depth of some planes, flagged'),
            )
    marks = {'sim_camera_node': ('tab:red', 'v'), 'focus_sweep_node': ('tab:blue', 'v')}
    for kill in kills:
        x, row = place(kill.stamp)
        if 0 <= row < rows:
            colour, mark = marks[kill.target]
            axes.plot(
                x,
                row - 0.36,
                mark,
                color=colour,
                ms=6,
                fillstyle='full' if kill.number == signal.SIGKILL else 'none',
                label=once(f'{kill.number.name} of {kill.target}'),
            )
    axes.set(
        xlim=(0, _ROW),
        ylim=(rows - 0.4, -0.7),
        xlabel='seconds of the minute',
        ylabel='minute',
        yticks=range(rows),
    )
    lost = sum(j.wrong for j in judged)
    axes.set_title(
        f'{len(kills)} kills, {len(judged)} sweeps: {lost} depths lost beyond the '
        'sweeps that were hit'
    )
    axes.legend(loc='upper left', bbox_to_anchor=(1.0, 1.0), fontsize=8, frameon=False)
    figure.savefig(path)


if __name__ == '__main__':
    sys.exit(main())
