# SPDX-License-Identifier: Apache-2.0
"""Errors for invalid fields of parameter and calibration files.

Invalid values derive from the declarations, so that every parameter is covered.
"""

import math

import pytest
import yaml

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
pytest.importorskip('dualfocus_ros.msg', reason='needs the built messages: make build')

import rclpy

from dualfocus_ros.calibration.parameter_file import write_parameters
from dualfocus_ros.cli.main import main
from dualfocus_ros.nodes.depth_node import DepthNode
from dualfocus_ros.nodes.focus_sweep_node import FocusSweepNode
from dualfocus_ros.nodes.parameters import depth_parameters, sim_parameters, sweep_parameters
from dualfocus_ros.nodes.sim_camera_node import SimCameraNode

TABLES = {
    'dualfocus': depth_parameters.PARAMETERS,
    'focus_sweep': sweep_parameters.PARAMETERS,
    'sim_camera': sim_parameters.PARAMETERS,
}
CASES = [(node, entry.name) for node, table in TABLES.items() for entry in table]
WRONG_TYPES = {bool: 'perhaps', int: 'five', float: 'far', str: 7, tuple: 'near'}


def wrong_values(entry):
    """Return values of a wrong type, beyond either end of the range, and of no number."""
    kind = type(entry.default)
    values = [WRONG_TYPES[kind], True if kind is not bool else 1]
    if entry.choices:
        values.append('nonsense')
    if entry.low is not None and entry.high is not None:
        step = 1 if kind is int else 1.0
        beyond = [entry.low - step, entry.high + step]
        if kind is not int:
            beyond += [math.nan, math.inf, -math.inf]
        if kind is tuple:
            values += [[value] for value in beyond]
        else:
            values += [kind(value) for value in beyond]
    return values


def check(node, name, value):
    """Check a value as the node does at its start."""
    return next(e for e in TABLES[node] if e.name == name).coerce(value)


@pytest.mark.parametrize(('node', 'name'), CASES)
def test_error_names_parameter_and_allowed_values(node, name):
    entry = next(e for e in TABLES[node] if e.name == name)
    for value in wrong_values(entry):
        with pytest.raises(ValueError) as error:
            check(node, name, value)
        text = str(error.value)
        assert text.startswith(name) and entry.allowed in text and ', got ' in text
    assert check(node, name, entry.default) == entry.default


def made(node):
    """Return what a node says about the parameters that it was given."""
    if node == 'dualfocus':
        depth = DepthNode(load=lambda given: pytest.fail('loaded'))
        problems = '; '.join(depth._params.problems)
        depth.close()
        depth.destroy_node()
        return problems
    with pytest.raises(ValueError) as error:
        {'focus_sweep': FocusSweepNode, 'sim_camera': SimCameraNode}[node]()
    return str(error.value)


@pytest.mark.parametrize('node', TABLES)
@pytest.mark.parametrize('which', [0, -1])
def test_node_names_all_wrong_fields_of_a_file(tmp_path, node, which):
    """Read by ROS itself, as the node does it."""
    values = {entry.name: wrong_values(entry)[which] for entry in TABLES[node]}
    path = tmp_path / 'wrong.yaml'
    path.write_text(yaml.safe_dump({f'/**/{node}': {'ros__parameters': values}}))
    rclpy.init(args=['--ros-args', '--params-file', str(path)])
    try:
        text = made(node)
    finally:
        rclpy.shutdown()
    for entry in TABLES[node]:
        assert any(
            part.startswith(entry.name) and entry.allowed in part for part in text.split('; ')
        ), entry.name


# Parameters written by each calibration.
CALIBRATIONS = {
    'focus': {
        'calibration.positions': [0.0, 100.0, 200.0],
        'calibration.dioptres': [0.0, 1.0, 2.0],
    },
    'breathing': {
        'breathing.model': 'polynomial',
        'breathing.coefficients': [0.01, 0.001],
        'breathing.centre_drift': [0.0, 0.0],
    },
    'lens': {'lens.kappa': 12.0},
    'field': {'lens.field_curvature': [0.2, 0.0]},
    'settling': {
        'command.latency_frames': 2,
        'command.settling_time': 0.1,
        'settle_frames': 2,
        'settle_time': 0.1,
        'model_time': 0.3,
    },
    'settling of camera_ros': {'camera_ros.latency_frames': 2, 'camera_ros.settling_time': 0.1},
}
FIELDS = [(kind, name) for kind, values in CALIBRATIONS.items() for name in values]


@pytest.mark.parametrize(('kind', 'name'), FIELDS)
def test_nodes_name_wrong_calibration_fields(kind, name):
    takers = [node for node, table in TABLES.items() if name in {e.name for e in table}]
    assert takers
    for node in takers:
        entry = next(e for e in TABLES[node] if e.name == name)
        check(node, name, CALIBRATIONS[kind][name])
        for value in wrong_values(entry):
            with pytest.raises(ValueError, match=name) as error:
                check(node, name, value)
            assert entry.allowed in str(error.value)


def estimate_with(path):
    """Run a command with a parameter file; return status and whether it got past the file."""
    return main(['process', 'no_such_bag', 'out_bag', '--params-file', str(path)])


@pytest.mark.parametrize(
    'name', [n for n in depth_parameters.SPECS if n not in ('input', 'autostart')]
)
def test_command_names_a_wrong_field_of_a_file(tmp_path, capsys, name):
    entry = depth_parameters.SPECS[name]
    path = tmp_path / 'wrong.yaml'
    path.write_text(yaml.safe_dump({'/**': {'ros__parameters': {name: wrong_values(entry)[0]}}}))
    assert estimate_with(path) == 2
    said = capsys.readouterr().err
    assert name in said and entry.allowed in said and 'Traceback' not in said


def calibrate_with(option, path):
    """Run a calibration that reads a parameter file; its sweep does not exist."""
    words = {'--scale': ['focus', '1.0=nowhere'], '--breathing': ['lens', 'nowhere']}[option]
    return main(['calibrate', *words, option, str(path)])


def changed(name, value):
    """Return the calibrations of focus and breathing with one field changed."""
    return {**CALIBRATIONS['focus'], **CALIBRATIONS['breathing'], name: value}


@pytest.mark.parametrize(
    ('option', 'name', 'value', 'words'),
    [
        ('--scale', 'calibration.positions', 'near', 'a list of numbers'),
        ('--scale', 'calibration.positions', [1.0, 'two', 3.0], 'a list of numbers'),
        ('--scale', 'calibration.dioptres', [0.0, math.nan, 2.0], 'a list of numbers'),
        ('--scale', 'calibration.dioptres', [0.0, 1.0], '3 positions but 2 dioptres'),
        ('--scale', 'calibration.dioptres', [0.0, 2.0, 1.0], 'increase or decrease strictly'),
        ('--scale', 'calibration.positions', None, 'a list of numbers'),
        ('--breathing', 'breathing.coefficients', {'a': 1}, 'a list of numbers'),
        ('--breathing', 'breathing.coefficients', [99.0], 'a list of numbers from -10 to 10'),
    ],
)
def test_calibrate_names_wrong_fields(tmp_path, capsys, option, name, value, words):
    path = tmp_path / 'calibration.yaml'
    write_parameters(path, {**CALIBRATIONS['focus'], **CALIBRATIONS['breathing']}, [])
    assert calibrate_with(option, path) == 1
    assert 'nowhere does not exist' in capsys.readouterr().err, 'the file is valid'
    path.write_text(yaml.safe_dump({'/**': {'ros__parameters': changed(name, value)}}))
    assert calibrate_with(option, path) == 2
    error = capsys.readouterr().err
    group, _, field = name.partition('.')
    assert option in error and words in error
    assert group in error and (field in error or 'positions' in field)


@pytest.mark.parametrize(
    'content',
    [
        '',
        'a',
        '[1, 2]',
        '/**: 3',
        '/**: {ros__parameters: 3}',
        '{',
        '/**: {ros__parameters: {}}',
        '!!python/object/apply:os.system ["true"]',
    ],
)
def test_calibrate_rejects_other_files(tmp_path, capsys, content):
    path = tmp_path / 'calibration.yaml'
    path.write_text(content)
    for option in ('--scale', '--breathing'):
        assert calibrate_with(option, path) == 2
        error = capsys.readouterr().err
        assert option in error and 'calibration.yaml' in error and 'Traceback' not in error
