# SPDX-License-Identifier: Apache-2.0
"""Table of faults: page up to date, tests for each fault."""

import pytest

import faults


def test_page_is_up_to_date():
    written = (faults.ROOT / 'docs' / 'reliability.md').read_text('utf-8')
    assert written == faults.page(faults.committed()), (
        'out of date: python test/support/faults.py docs'
    )


def test_every_fault_has_a_test():
    assert [number for number, tests in faults.committed().items() if not tests] == []
    assert list(faults.FAULTS) == list(range(1, 25))


SOURCE = """
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.fault(3)]

def test_a(): ...

@pytest.mark.fault(1, 2)
class TestB:
    def test_b(self): ...

    @pytest.mark.parametrize('x', [1])
    @pytest.mark.fault(4)
    def test_c(self, x): ...

    def helper(self): ...
"""


def test_finds_marks_on_files_classes_and_functions():
    found = faults.tests_of({'test_x.py': SOURCE})
    names = {n: [test.name for test in tests] for n, tests in found.items() if tests}
    assert names == {
        1: ['TestB.test_b', 'TestB.test_c'],
        2: ['TestB.test_b', 'TestB.test_c'],
        3: ['TestB.test_b', 'TestB.test_c', 'test_a'],
        4: ['TestB.test_c'],
    }
    with pytest.raises(ValueError, match='fault 99'):
        faults.tests_of({'test_x.py': SOURCE.replace('(4)', '(99)')})


def test_fault_is_green_if_tests_passed_and_none_failed():
    results = faults.Results()
    for test, numbers in (('a', (1, 2)), ('b', (1,)), ('c', (3,)), ('d', (4,)), ('e', (5,))):
        results.expect(test, numbers)
    for test, phase, outcome in (
        ('a', 'setup', 'passed'),
        ('a', 'call', 'rerun'),
        ('a', 'teardown', 'passed'),
        ('a', 'setup', 'passed'),
        ('a', 'call', 'passed'),
        ('a', 'teardown', 'passed'),
        ('b', 'setup', 'passed'),
        ('b', 'call', 'passed'),
        ('b', 'teardown', 'failed'),
        ('c', 'setup', 'skipped'),
        ('c', 'teardown', 'passed'),
        ('d', 'setup', 'passed'),
        ('other', 'call', 'failed'),
    ):
        results.note(test, phase, outcome)
    assert [results.is_green(n) for n in range(1, 7)] == [False, True, False, False, False, False]
    lines = results.lines()
    assert lines[0].startswith(' 1 RED') and lines[0].endswith(': 1 failed, 1 passed')
    assert lines[1].startswith(' 2 green')
    assert lines[5].endswith(': no test')
    assert lines[-1] == '1 of 24 green'
