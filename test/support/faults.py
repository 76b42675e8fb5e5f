# SPDX-License-Identifier: Apache-2.0
"""Table of faults, required behaviour and the tests of each.

``@pytest.mark.fault(7)`` on a function or class, or ``pytestmark = ...`` for a file,
links a test to a fault. ``python test/support/faults.py docs`` writes ``docs/reliability.md``;
``make faults`` runs these tests and prints one line per fault.
"""

from __future__ import annotations

import ast
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
import sys

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ('unit', 'integration', 'launch', 'endurance')


@dataclass(frozen=True)
class Fault:
    """A fault and the required behaviour."""

    title: str
    behaviour: str


@dataclass(frozen=True, order=True)
class LinkedTest:
    """File of a test, relative to the repository, and its name."""

    file: str
    name: str


FAULTS: dict[int, Fault] = dict(
    enumerate(
        (
            Fault(
                'The camera stops during a sweep',
                'After `stack.timeout` the sweep is closed: with at least '
                '`stack.min_size` planes a flagged stack follows, with fewer it is '
                'dropped and counted. `/diagnostics` warns as the last image ages, '
                'then reports an error. New images give depth again.',
            ),
            Fault(
                'The focus report of an image is missing',
                'The image waits for `stack.pairing_window`, is then dropped and '
                'counted, and never gets the focus of a neighbour.',
            ),
            Fault(
                'The focus report arrives before or after its image',
                'Both are associated within the window, in any order.',
            ),
            Fault(
                'The lens moves, or is off its commanded position',
                'The image is rejected and counted: `moving` during motion, '
                '`off_command` beyond `stack.command_tolerance` of the commanded '
                'focus.',
            ),
            Fault(
                'A focus position repeats, or positions are not monotonic',
                'Of several images at one position the newest settled one counts. A '
                'numbered sweep may visit positions in any order. At least two '
                'different positions are required.',
            ),
            Fault(
                'Size, encoding or frame of the images changes at run time',
                'The current sweep is dropped, the next uses the new format; one log '
                'line at level INFO, no exception.',
            ),
            Fault(
                'Stamps out of order, duplicate or zero',
                'Within the window order is restored; duplicate and zero stamps are '
                'rejected and counted.',
            ),
            Fault(
                'The clock jumps back (looping bag) or forward; simulated time starts at 0',
                'Pending data are dropped with the message after the jump; the next '
                'complete sweep gives depth; no output has an earlier stamp.',
            ),
            Fault(
                '`use_sim_time` is set and `/clock` is silent',
                'Depth follows the stamps of the images; `/diagnostics` reports the silent clock.',
            ),
            Fault(
                'The GPU runs out of memory, reports an error, or is lost',
                'The process survives. Out of memory: one retry with empty caches, '
                'then the stack is dropped and counted. Lost device: fallback to the '
                'CPU with `device: auto`, else transition through the error state to '
                'unconfigured; `/diagnostics` has state and cause.',
            ),
            Fault(
                'The network returns NaN or infinity, or no pixel is valid',
                'Published as NaN, counted in `/diagnostics`; clouds stay well formed.',
            ),
            Fault(
                'An image with contradicting fields; padding, odd strides, big-endian samples',
                'Read correctly where the fields agree, rejected with a reason '
                'otherwise; never a byte beyond the data.',
            ),
            Fault(
                'Malicious sizes: overflowing products, 2³¹, zero',
                'Bounded by `max_pixels` and the number of planes before allocation or decoding.',
            ),
            Fault(
                'An unknown encoding; Bayer, YUV, 16 bits',
                'Converted, or rejected with the list of accepted encodings.',
            ),
            Fault(
                'camera_info without calibration, of another size, or with an unknown '
                'distortion model; binning and region of interest',
                'Scaled where the message defines how; otherwise depth without cloud, '
                'with the reason in `/diagnostics`.',
            ),
            Fault(
                'Subscribers come and go; one is slow',
                'Computation starts and stops with them and leaves nothing behind; a '
                'slow subscriber does not delay others.',
            ),
            Fault(
                'A parameter gets an invalid value, alone or in a set',
                'The whole set is rejected with the accepted values; nothing changes.',
            ),
            Fault(
                'A hundred life cycles; a transition during inference or loading; a missing model',
                'Memory, threads and files stay constant; a transition fails with a '
                'reason, without a crash; services answer during loading.',
            ),
            Fault(
                'SIGINT or SIGTERM under full load',
                'Exit code 0 within two seconds, also if a call hangs; no traceback, '
                'inference thread joined, nothing published afterwards.',
            ),
            Fault(
                'Ten times more stacks than the network can process',
                'The newest stack wins, so that latency stays within one stack; '
                'dropped stacks are counted; memory stays constant.',
            ),
            Fault(
                'Two cameras with a node each, in two processes or one',
                'Separate namespaces, frames and depth; no crosstalk.',
            ),
            Fault(
                'Hours of looping input',
                'No trend in memory and latency; one depth per sweep.',
            ),
            Fault(
                'Weights that are truncated, changed, of another network, or not weights',
                'Rejected before execution with the difference; nothing is unpickled; '
                'the node stays unconfigured.',
            ),
            Fault(
                'A best-effort connection loses 30 % of the images',
                'Remaining planes make a flagged stack, if at least `stack.min_size`; '
                'fewer are dropped and counted.',
            ),
        ),
        start=1,
    )
)


def tests_of(files: Mapping[str, str]) -> dict[int, list[LinkedTest]]:
    """Return the tests of each fault.

    :param files: the text of each test file by its name.
    :raises ValueError: for a mark that is not ``fault(N)`` with the number of a fault.
    """
    found: dict[int, set[LinkedTest]] = defaultdict(set)
    for name, text in files.items():
        for numbers, test in _marked(ast.parse(text)):
            for number in numbers:
                if number not in FAULTS:
                    raise ValueError(f'{name}: {test} is marked with fault {number}')
                found[number].add(LinkedTest(name, test))
    return {number: sorted(found[number]) for number in FAULTS}


def committed() -> dict[int, list[LinkedTest]]:
    """Return the tests of each fault in this repository."""
    paths = [p for folder in FOLDERS for p in sorted((ROOT / 'test' / folder).rglob('test_*.py'))]
    return tests_of({str(p.relative_to(ROOT)): p.read_text('utf-8') for p in paths})


def page(tests: Mapping[int, list[LinkedTest]]) -> str:
    """Return ``docs/reliability.md``."""
    count = len({test for proofs in tests.values() for test in proofs})
    lines = [
        '# Reliability',
        '',
        '<!-- Made by `python test/support/faults.py docs`; do not edit. -->',
        '',
        f'{len(FAULTS)} faults, the behaviour of the nodes, and the files of the {count} tests; '
        '`make faults` runs them. Long runs: [kills, soak, fuzzing](reliability_runs.md).',
        '',
        '| | fault | behaviour | tests |',
        '| --- | --- | --- | --- |',
    ]
    for number, fault in FAULTS.items():
        files = sorted({test.file for test in tests[number]})
        links = ', '.join(f'[{Path(file).stem[5:]}](../{file})' for file in files)
        lines.append(f'| {number} | {fault.title} | {fault.behaviour} | {links} |')
    return '\n'.join(lines) + '\n'


def _marked(module: ast.Module) -> Iterator[tuple[set[int], str]]:
    """Yield the numbers and the name of each marked test."""
    everywhere: set[int] = set()
    for node in module.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == 'pytestmark':
            everywhere |= _numbers(node.value)
    for node in module.body:
        if isinstance(node, ast.ClassDef):
            of_class = everywhere | _numbers(*node.decorator_list)
            for child in node.body:
                yield from _of_function(child, of_class, f'{node.name}.')
        else:
            yield from _of_function(node, everywhere, '')


def _of_function(
    node: ast.AST, inherited: set[int], prefix: str
) -> Iterator[tuple[set[int], str]]:
    if isinstance(node, ast.FunctionDef) and node.name.startswith('test'):
        numbers = inherited | _numbers(*node.decorator_list)
        if numbers:
            yield numbers, prefix + node.name


def _numbers(*nodes: ast.AST) -> set[int]:
    """Return the arguments of all ``pytest.mark.fault(...)`` in these expressions."""
    calls = [
        call
        for node in nodes
        for call in ast.walk(node)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == 'pytest.mark.fault'
    ]
    return {ast.literal_eval(argument) for call in calls for argument in call.args}


class Results:
    """Outcomes of the marked tests of one run."""

    def __init__(self) -> None:
        self._numbers: dict[str, tuple[int, ...]] = {}
        self._outcomes: dict[str, str] = {}

    def expect(self, test: str, numbers: tuple[int, ...]) -> None:
        """Register the faults of a test."""
        self._numbers[test] = numbers

    def note(self, test: str, phase: str, outcome: str) -> None:
        """Record an outcome; the last attempt counts, and a failure in any phase of it."""
        if test not in self._numbers:
            return
        if phase == 'setup':
            self._outcomes[test] = outcome if outcome != 'passed' else 'not run'
        elif phase == 'call' or outcome == 'failed':
            self._outcomes[test] = outcome

    def counts(self, number: int) -> Counter[str]:
        """Count the outcomes of the tests of a fault."""
        return Counter(
            self._outcomes.get(test, 'not run')
            for test, numbers in self._numbers.items()
            if number in numbers
        )

    def is_green(self, number: int) -> bool:
        """Return whether a test of this fault passed, and none failed or was not run."""
        counts = self.counts(number)
        return counts['passed'] > 0 and not set(counts) - {'passed', 'skipped'}

    def lines(self) -> list[str]:
        """Return one line per fault and the total."""
        lines = []
        for number, fault in FAULTS.items():
            counts = self.counts(number)
            text = ', '.join(f'{count} {what}' for what, count in sorted(counts.items()))
            verdict = 'green' if self.is_green(number) else 'RED'
            lines.append(f'{number:2} {verdict:5} {fault.title}: {text or "no test"}')
        green = sum(self.is_green(number) for number in FAULTS)
        return [*lines, f'{green} of {len(FAULTS)} green']


if __name__ == '__main__':
    Path(sys.argv[1], 'reliability.md').write_text(page(committed()), 'utf-8')
