# SPDX-License-Identifier: Apache-2.0
"""Descriptors of the parameters of the sweep node and the simulated camera."""

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')

from dualfocus_ros.nodes.parameters import sim_parameters, sweep_parameters
from dualfocus_ros.nodes.parameters.parameter_declaration import descriptor


@pytest.mark.parametrize('table', [sim_parameters.PARAMETERS, sweep_parameters.PARAMETERS])
def test_parameters_have_descriptions_and_valid_defaults(table):
    assert len({entry.name for entry in table}) == len(table)
    for entry in table:
        described = descriptor(entry)
        assert len(described.description) > 15
        assert entry.coerce(entry.default) == entry.default
        if isinstance(entry.default, float):
            assert described.floating_point_range
        if type(entry.default) is int:
            assert described.integer_range
