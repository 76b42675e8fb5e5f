# SPDX-License-Identifier: Apache-2.0
"""The parameter table of the simulated camera and the sweep."""

import array

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')

from dualfocus_ros.nodes import focus_sweep, sim_camera
from dualfocus_ros.nodes.parameter_declaration import ParameterSpec


def test_numbers_are_taken_with_or_without_a_fraction():
    rate = ParameterSpec('rate', 10.0, '', 0.1, 240.0)
    assert rate.check(15) == 15.0 and isinstance(rate.check(15), float)
    for wrong in (0.0, float('nan'), float('inf')):
        with pytest.raises(ValueError, match=r'rate: expected a number from 0\.1 to 240'):
            rate.check(wrong)
    with pytest.raises(ValueError, match='expected a number'):
        rate.check(True)


def test_types_and_choices_are_kept():
    with pytest.raises(ValueError, match="one of a, b, got 'c'"):
        ParameterSpec('kind', 'a', '', choices=('a', 'b')).check('c')
    with pytest.raises(ValueError, match='whole number'):
        ParameterSpec('count', 3, '').check(3.0)
    with pytest.raises(ValueError, match='true or false'):
        ParameterSpec('on', True, '').check(1)


def test_lists_of_numbers():
    planes = ParameterSpec('planes', (), '', 0.0, 50.0)
    assert planes.check(array.array('d', [1.0, 2.0])) == (1.0, 2.0)
    assert planes.check([]) == ()
    with pytest.raises(ValueError, match='planes: expected a list of numbers from 0 to 50'):
        planes.check([1.0, -2.0])
    with pytest.raises(ValueError, match='list of numbers'):
        planes.check('1, 2')


@pytest.mark.parametrize('table', [sim_camera.PARAMETERS, focus_sweep.PARAMETERS])
def test_every_parameter_is_described_and_its_default_allowed(table):
    assert len({entry.name for entry in table}) == len(table)
    for entry in table:
        described = entry.descriptor()
        assert len(described.description) > 15
        assert entry.check(entry.default) == entry.default
        if isinstance(entry.default, float):
            assert described.floating_point_range
        if type(entry.default) is int:
            assert described.integer_range
