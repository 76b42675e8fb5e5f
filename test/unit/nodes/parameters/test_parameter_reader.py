# SPDX-License-Identifier: Apache-2.0
"""Parameters of the depth node from files and overrides, without ROS."""

import pytest

from dualfocus_ros.nodes.parameters.parameter_reader import read_parameters


def write(path, text):
    path.write_text(text)
    return path


def test_later_files_and_overrides_win(tmp_path):
    first = write(
        tmp_path / 'a.yaml',
        'dualfocus:\n  ros__parameters:\n    depth: {max: 3.0, min: 0.2}\n    device: cpu\n',
    )
    second = write(tmp_path / 'b.yaml', '/**:\n  ros__parameters:\n    depth.max: 4.0\n')
    parameters = read_parameters([first, second], {'depth.min': 0.3})
    settings = parameters.settings
    assert (settings.depth_min, settings.depth_max, settings.device) == (0.3, 4.0, 'cpu')
    assert parameters.given == {'depth.min', 'depth.max', 'device'}


def test_wildcards_may_name_parameters_of_other_nodes(tmp_path):
    file = write(
        tmp_path / 'p.yaml',
        '/**:\n  ros__parameters: {use_sim_time: true, exposure: 3}\n'
        'other:\n  ros__parameters: {depth.max: 1.0}\n',
    )
    assert read_parameters([file]).given == frozenset()


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('dualfocus:\n  ros__parameters: {exposure: 3}\n', 'no parameter exposure'),
        ('/**:\n  ros__parameters: {depth.max: -1.0}\n', 'depth.max must be'),
        ('[1, 2]', 'expected node names at the top level'),
        ('{', 'cannot be read as a parameter file'),
    ],
)
def test_errors_name_the_problem(tmp_path, text, message):
    with pytest.raises(ValueError) as error:
        read_parameters([write(tmp_path / 'p.yaml', text)])
    assert message in str(error.value)


def test_values_must_not_contradict_each_other():
    with pytest.raises(ValueError, match=r'stack\.size must be 0 or from 2 to 32'):
        read_parameters((), {'stack.size': 1})
