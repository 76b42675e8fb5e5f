# SPDX-License-Identifier: Apache-2.0
"""Types, ranges and choices of parameters."""

import array

import pytest

from dualfocus_ros.nodes.parameters.parameter_spec import ParameterSpec


def test_integers_are_accepted_for_numbers():
    rate = ParameterSpec('rate', 10.0, '', 0.1, 240.0)
    assert rate.coerce(15) == 15.0 and isinstance(rate.coerce(15), float)
    for wrong in (0.0, float('nan'), float('inf')):
        with pytest.raises(ValueError, match=r'rate must be a number from 0\.1 to 240'):
            rate.coerce(wrong)
    with pytest.raises(ValueError, match='must be a number'):
        rate.coerce(True)


def test_wrong_types_and_choices_are_rejected():
    with pytest.raises(ValueError, match="one of a, b, got 'c'"):
        ParameterSpec('kind', 'a', '', choices=('a', 'b')).coerce('c')
    with pytest.raises(ValueError, match='whole number'):
        ParameterSpec('count', 3, '').coerce(3.0)
    with pytest.raises(ValueError, match='true or false'):
        ParameterSpec('on', True, '').coerce(1)


def test_lists_of_numbers_become_tuples():
    planes = ParameterSpec('planes', (), '', 0.0, 50.0)
    assert planes.coerce(array.array('d', [1.0, 2.0])) == (1.0, 2.0)
    assert planes.coerce([]) == ()
    with pytest.raises(ValueError, match='planes must be a list of numbers from 0 to 50'):
        planes.coerce([1.0, -2.0])
    with pytest.raises(ValueError, match='list of numbers'):
        planes.coerce('1, 2')
