# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, what the node does about it, and which tests show that it does.

A test names the faults that it is about: ``@pytest.mark.fault(7)``, on a function or a class, or
``pytestmark = pytest.mark.fault(7)`` for a whole file. ``python test/support/faults.py docs``
writes ``docs/reliability.md``; ``make faults`` runs these tests and prints a line for each fault.
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
    """A fault and the behaviour that it must meet with."""

    title: str
    behaviour: str


@dataclass(frozen=True, order=True)
class ProvedBy:
    """A test, by its file from the root of the repository and its name."""

    file: str
    name: str


FAULTS: dict[int, Fault] = dict(
    enumerate(
        (
            Fault(
                'The camera stops in the middle of a sweep',
                'After `stack.timeout` the sweep is over: with `stack.min_size` planes or more it gives a '
                'stack that is flagged, with fewer it is dropped and counted. `/diagnostics` warns as the '
                'last image gets old, then reports an error. The next images give depth again.',
            ),
            Fault(
                'The focus of an image never comes',
                'The image waits for `stack.pairing_window`, is then dropped and counted, and never gets '
                "a neighbour's focus.",
            ),
            Fault(
                'The focus comes before or after its image',
                'Up to the window they find each other; the order changes nothing.',
            ),
            Fault(
                'The lens moves, or is not where it was sent',
                'The image is refused and counted: `moving` while the lens moves, `off_command` where the '
                'reported focus is farther than `stack.command_tolerance` from the commanded one.',
            ),
            Fault(
                'A focus position comes twice, or the positions go up and down',
                'Of several images at one position the newest at rest counts. A numbered sweep may visit '
                'its positions in any order. Two different positions at least are needed.',
            ),
            Fault(
                'Size, encoding or frame of the images changes while the node runs',
                'The sweep in progress is dropped, the next one is taken in the new format; one line in '
                'the log at level INFO, no exception.',
            ),
            Fault(
                'Stamps out of order, twice, or zero',
                'Within the window the order is put right; what has a stamp that was already there, or '
                'none, is refused and counted.',
            ),
            Fault(
                'The clock jumps back (a bag that loops) or forward; simulated time starts at 0',
                'What was collected is forgotten with the message that brings the jump; the next whole '
                'sweep gives depth; nothing comes out with stamps from before.',
            ),
            Fault(
                '`use_sim_time` is set and `/clock` is silent',
                'Depth comes all the same, by the stamps of the images; `/diagnostics` says that '
                '`/clock` is silent.',
            ),
            Fault(
                'The GPU runs out of memory, reports an error, or is lost',
                'The process survives. Out of memory: once more with nothing else kept, then the stack is '
                'given up and counted. A device that is lost: with `device: auto` the node goes on with '
                'the CPU, otherwise it goes by the error state to unconfigured; `/diagnostics` says which '
                'and why.',
            ),
            Fault(
                'The network gives NaN or infinity, or no pixel is valid',
                'Published as NaN, counted in `/diagnostics`; the clouds stay well formed.',
            ),
            Fault(
                'An image whose fields contradict each other; padding, odd strides, big-endian samples',
                'Read as it lies in memory where the fields agree, refused with a reason where they do '
                'not; never a byte beyond the data.',
            ),
            Fault(
                'Sizes that are made to hurt: products that overflow, 2³¹, zero',
                'Bounded by `max_pixels` and the number of planes before anything is allocated or '
                'decoded.',
            ),
            Fault(
                'An encoding that nobody knows; Bayer, YUV, 16 bits',
                'Converted, or refused with the list of those that are accepted.',
            ),
            Fault(
                'camera_info without calibration, of another size, with an unknown distortion model; '
                'binning and region of interest',
                'Scaled where the message says how; otherwise depth without a cloud, and `/diagnostics` '
                'says why.',
            ),
            Fault(
                'Subscribers that come and go, and one that is slow',
                'The work starts and stops with them and nothing is left behind; a slow subscriber costs '
                'the others no depth.',
            ),
            Fault(
                'A parameter is set to a value that is not allowed, alone or among others',
                'All of them are refused together, with a text that says what is allowed; everything '
                'stays as it was.',
            ),
            Fault(
                'A hundred times through the life cycle; a transition during inference or loading; a '
                'model that is not there',
                'Memory, threads and files stay flat; a transition fails with a reason and does not '
                'crash; services answer while the model loads.',
            ),
            Fault(
                'SIGINT or SIGTERM under full load',
                'Exit code 0, within two seconds even if something hangs; no traceback, the thread of the '
                'network joined, nothing published afterwards.',
            ),
            Fault(
                'Ten times more stacks than can be computed',
                'The newest stack wins, so that latency stays within one stack; what was left out is '
                'counted; memory stays flat.',
            ),
            Fault(
                'Two cameras with a node each, in two processes or one',
                'Each has its namespace, its frames and its depth; nothing of one reaches the other.',
            ),
            Fault(
                'Hours of looping input',
                'Memory and latency without a trend, and as many depths as there were sweeps.',
            ),
            Fault(
                'Weights that are cut off, changed, of another network, or not weights at all',
                'Refused before anything is run, with a text that says what differs; nothing is ever '
                'unpickled; the node stays unconfigured.',
            ),
            Fault(
                'A best-effort connection loses 30 % of the slices',
                'What is left of a sweep makes a stack that is flagged, as long as there are '
                '`stack.min_size` planes; less is dropped and counted.',
            ),
        ),
        start=1,
    )
)


def tests_of(files: Mapping[str, str]) -> dict[int, list[ProvedBy]]:
    """Return the tests of each fault.

    :param files: the text of each test file by its name.
    :raises ValueError: for a mark that is not ``fault(N)`` with the number of a fault.
    """
    found: dict[int, set[ProvedBy]] = defaultdict(set)
    for name, text in files.items():
        for numbers, test in _marked(ast.parse(text)):
            for number in numbers:
                if number not in FAULTS:
                    raise ValueError(f'{name}: {test} is marked with fault {number}')
                found[number].add(ProvedBy(name, test))
    return {number: sorted(found[number]) for number in FAULTS}


def committed() -> dict[int, list[ProvedBy]]:
    """Return the tests of each fault in this repository."""
    paths = [p for folder in FOLDERS for p in sorted((ROOT / 'test' / folder).glob('test_*.py'))]
    return tests_of({str(p.relative_to(ROOT)): p.read_text('utf-8') for p in paths})


def page(tests: Mapping[int, list[ProvedBy]]) -> str:
    """Return ``docs/reliability.md``."""
    count = len({test for proofs in tests.values() for test in proofs})
    lines = [
        '# What can go wrong',
        '',
        '<!-- Made by `python test/support/faults.py docs`; do not edit. -->',
        '',
        f'{len(FAULTS)} faults, what the node does about each, and the {count} tests that show '
        'it. `make faults` runs these tests and prints a line for each fault. Tests in `unit` '
        'need no process of their own, those in `integration` talk over DDS, those in `launch` '
        'need a ROS distribution, those in `endurance` take minutes.',
        '',
        '| | fault | what happens |',
        '| --- | --- | --- |',
        *(
            f'| [{n}](#fault-{n}) | {fault.title} | {fault.behaviour} |'
            for n, fault in FAULTS.items()
        ),
    ]
    for number, fault in FAULTS.items():
        lines += ['', f'## Fault {number}', '', f'{fault.title}.', '']
        by_file: dict[str, list[str]] = defaultdict(list)
        for test in tests[number]:
            by_file[test.file].append(test.name)
        for file, names in by_file.items():
            lines.append(f'- [{file}](../{file})')
            lines += [f'  - `{name}`' for name in names]
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
    """Outcomes of the marked tests of one run, for the lines at its end."""

    def __init__(self) -> None:
        self._numbers: dict[str, tuple[int, ...]] = {}
        self._outcomes: dict[str, str] = {}

    def expect(self, test: str, numbers: tuple[int, ...]) -> None:
        """Note that a test is about these faults."""
        self._numbers[test] = numbers

    def note(self, test: str, phase: str, outcome: str) -> None:
        """Note what became of a test; the last try counts, and a failure in any phase of it."""
        if test not in self._numbers:
            return
        if phase == 'setup':
            self._outcomes[test] = outcome if outcome != 'passed' else 'not run'
        elif phase == 'call' or outcome == 'failed':
            self._outcomes[test] = outcome

    def counts(self, number: int) -> Counter[str]:
        """Return how many tests of a fault passed, failed, were skipped or were not run."""
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
        """Return a line for each fault and the sum."""
        lines = []
        for number, fault in FAULTS.items():
            counts = self.counts(number)
            said = ', '.join(f'{count} {what}' for what, count in sorted(counts.items()))
            verdict = 'green' if self.is_green(number) else 'RED'
            lines.append(f'{number:2} {verdict:5} {fault.title}: {said or "no test"}')
        green = sum(self.is_green(number) for number in FAULTS)
        return [*lines, f'{green} of {len(FAULTS)} green']


if __name__ == '__main__':
    Path(sys.argv[1], 'reliability.md').write_text(page(committed()), 'utf-8')
