# SPDX-License-Identifier: Apache-2.0
"""The parameter table of the simulated camera and the sweep."""

import array

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')

from dualfocus_ros.nodes import sim_parameters, sweep_parameters
from dualfocus_ros.nodes.parameter_declaration import descriptor
from dualfocus_ros.nodes.parameter_spec import ParameterSpec


def test_numbers_are_taken_with_or_without_a_fraction():
    rate = ParameterSpec('rate', 10.0, '', 0.1, 240.0)
    assert rate.coerce(15) == 15.0 and isinstance(rate.coerce(15), float)
    for wrong in (0.0, float('nan'), float('inf')):
        with pytest.raises(ValueError, match=r'rate must be a number from 0\.1 to 240'):
            rate.coerce(wrong)
    with pytest.raises(ValueError, match='must be a number'):
        rate.coerce(True)


def test_types_and_choices_are_kept():
    with pytest.raises(ValueError, match="one of a, b, got 'c'"):
        ParameterSpec('kind', 'a', '', choices=('a', 'b')).coerce('c')
    with pytest.raises(ValueError, match='whole number'):
        ParameterSpec('count', 3, '').coerce(3.0)
    with pytest.raises(ValueError, match='true or false'):
        ParameterSpec('on', True, '').coerce(1)


def test_lists_of_numbers():
    planes = ParameterSpec('planes', (), '', 0.0, 50.0)
    assert planes.coerce(array.array('d', [1.0, 2.0])) == (1.0, 2.0)
    assert planes.coerce([]) == ()
    with pytest.raises(ValueError, match='planes must be a list of numbers from 0 to 50'):
        planes.coerce([1.0, -2.0])
    with pytest.raises(ValueError, match='list of numbers'):
        planes.coerce('1, 2')


@pytest.mark.parametrize('table', [sim_parameters.PARAMETERS, sweep_parameters.PARAMETERS])
def test_every_parameter_is_described_and_its_default_allowed(table):
    assert len({entry.name for entry in table}) == len(table)
    for entry in table:
        described = descriptor(entry)
        assert len(described.description) > 15
        assert entry.coerce(entry.default) == entry.default
        if isinstance(entry.default, float):
            assert described.floating_point_range
        if type(entry.default) is int:
            assert described.integer_range
