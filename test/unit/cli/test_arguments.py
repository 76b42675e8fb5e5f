# SPDX-License-Identifier: Apache-2.0
"""Argument types: numbers, lengths and intrinsics."""

import argparse

import pytest

from dualfocus_ros.cli.arguments import (
    intrinsics,
    length,
    non_negative,
    positive,
    positive_int,
)


@pytest.mark.parametrize(
    ('check', 'accepted', 'rejected'),
    [
        (positive, ['1', '1e-3'], ['0', '-1', 'inf', 'nan', 'x']),
        (non_negative, ['0', '2', 'inf'], ['-1', 'nan', 'x']),
        (positive_int, ['1', '20'], ['0', '-1', '1.5', 'x']),
    ],
)
def test_numbers_are_checked(check, accepted, rejected):
    for text in accepted:
        assert check(text) == float(text)
    for text in rejected:
        with pytest.raises(argparse.ArgumentTypeError):
            check(text)


def test_intrinsics_are_four_numbers():
    assert intrinsics('80,81.5,47,31') == (80.0, 81.5, 47.0, 31.0)


@pytest.mark.parametrize('text', ['1,2,3', '1,2,3,x', '0,1,2,3', '1,-1,2,3', 'nan,1,2,3'])
def test_intrinsics_reject_other_text(text):
    with pytest.raises(argparse.ArgumentTypeError, match='FX,FY,CX,CY'):
        intrinsics(text)


@pytest.mark.parametrize(
    ('text', 'metres'),
    [
        ('16e-3', 0.016),
        ('0.016', 0.016),
        ('16mm', 0.016),
        ('16 mm', 0.016),
        ('1.6cm', 0.016),
        ('1.4um', 1.4e-6),
        ('1.4e-6', 1.4e-6),
        ('1.4µm', 1.4e-6),
        ('2m', 2.0),
    ],
)
def test_length_with_and_without_a_unit(text, metres):
    assert length(text) == pytest.approx(metres)


@pytest.mark.parametrize('text', ['', 'mm', 'far', '16 inch', '1..2', '--'])
def test_length_rejects_other_text(text):
    with pytest.raises(argparse.ArgumentTypeError, match='16mm'):
        length(text)
