# SPDX-License-Identifier: Apache-2.0
"""Descriptors of all nodes' parameters; contract, checks, changes of the depth node's."""

import pytest

pytest.importorskip('rclpy', reason='needs rclpy')

import rclpy
from rclpy.context import Context
from rclpy.node import Node
from rclpy.parameter import Parameter

from dualfocus_ros.nodes.parameters import sim_parameters, sweep_parameters
from dualfocus_ros.nodes.parameters.depth_parameters import SPECS, DepthNodeSettings
from dualfocus_ros.nodes.parameters.derived_settings import estimator_settings
from dualfocus_ros.nodes.parameters.parameter_declaration import DynamicParameters, descriptor

CONTRACT = {
    'model',
    'device',
    'precision',
    'threads',
    'input',
    'focus_source',
    'image_transport',
    'autostart',
    'stack.mode',
    'stack.size',
    'stack.min_size',
    'stack.timeout',
    'stack.sync_tolerance',
    'stack.accept_moving',
    'planes.focus_dioptres',
    'camera_info_policy',
    'rectify',
    'stamp_policy',
    'depth.encoding',
    'depth.min',
    'depth.max',
    'depth.max_sigma',
    'points.color',
    'points.max_rate',
    'points.decimation',
    'lens.focal_length',
    'lens.f_number',
    'lens.pixel_pitch',
    'breathing.model',
    'breathing.coefficients',
    'max_pixels',
}
STATIC = {
    'model',
    'device',
    'precision',
    'threads',
    'input',
    'focus_source',
    'image_transport',
    'autostart',
    'planes.focus_dioptres',
    'cuda_graphs',
}


@pytest.fixture
def make():
    """Return a function that makes a node with given parameters."""
    context = Context()
    rclpy.init(context=context)
    nodes = []

    def make_node(**given):
        overrides = [Parameter(name.replace('__', '.'), value=v) for name, v in given.items()]
        node = Node('dualfocus', context=context, parameter_overrides=overrides)
        nodes.append(node)
        return node, DynamicParameters(node)

    yield make_node
    for node in nodes:
        node.destroy_node()
    rclpy.shutdown(context=context)


def test_contract_parameters_exist():
    assert set(SPECS) >= CONTRACT


@pytest.mark.parametrize('name', sorted(SPECS))
def test_parameters_have_description_and_range(name):
    described = descriptor(SPECS[name])
    assert len(described.description) > 10
    assert described.read_only == (name in STATIC)
    free = isinstance(SPECS[name].default, bool) or name in ('model', 'device')
    bounded = (
        described.integer_range
        or described.floating_point_range
        or described.additional_constraints
    )
    assert free or bounded


def test_defaults_have_no_problems(make):
    _, parameters = make()
    assert parameters.problems == []
    assert parameters.current() == DepthNodeSettings()
    assert parameters.current() is parameters.current()


def test_values_given_at_start(make):
    _, parameters = make(
        depth__max=10, stack__size=8, planes__focus_dioptres=[0.1, 0.5], points__color=False
    )
    settings = parameters.current()
    assert parameters.problems == []
    assert (settings.depth_max, settings.stack_size) == (10.0, 8)
    assert settings.planes_focus_dioptres == (0.1, 0.5)
    assert settings.points_color is False


@pytest.mark.parametrize(
    ('name', 'value', 'allowed'),
    [
        ('depth.encoding', '8UC1', '32FC1, 16UC1'),
        ('stack.size', 'five', 'a whole number from 0 to 32'),
        ('stack.size', 33, '0 to 32'),
        ('stack.timeout', -1.0, '0.01 to 60'),
        ('depth.max', float('nan'), '0.001 to 1000'),
        ('points.color', 1, 'true or false'),
        ('model', 3, 'a string'),
        ('threads', True, 'whole number'),
        ('planes.focus_dioptres', 'near', 'a list of numbers'),
        ('planes.focus_dioptres', [0.1, 1e9], '-100 to 100'),
    ],
)
def test_wrong_value_at_start_names_allowed_values(make, name, value, allowed):
    _, parameters = make(**{name.replace('.', '__'): value})
    (problem,) = parameters.problems
    assert problem.startswith(f'{name} must be')
    assert allowed in problem
    assert repr(value)[:4] in problem


@pytest.mark.parametrize(
    ('given', 'text'),
    [
        ({'device': 'gpu'}, 'auto, cuda, cuda:N or cpu'),
        ({'model': ''}, 'shipped name'),
        ({'stack.size': 1}, '0 or from 2 to 32'),
        ({'depth.min': 3.0, 'depth.max': 2.0}, 'depth.min'),
        ({'input': 'planes'}, 'planes.focus_dioptres'),
        ({'input': 'planes', 'planes.focus_dioptres': [0.5, 0.5]}, 'different'),
        ({'breathing.model': 'thin_lens'}, 'lens.focal_length'),
        ({'breathing.model': 'polynomial'}, 'breathing.coefficients'),
        (
            {
                'lens.focal_length': 0.016,
                'lens.f_number': 1.4,
                'lens.pixel_pitch': 5.6e-6,
                'lens.kappa': 16.3,
            },
            'must be that of the published',
        ),
        ({'lens.field_curvature': [0.2]}, 'two numbers'),
    ],
)
def test_contradictory_values_are_named(make, given, text):
    _, parameters = make(**{name.replace('.', '__'): value for name, value in given.items()})
    (problem,) = parameters.problems
    assert text in problem


def test_all_wrong_values_are_named(make):
    _, parameters = make(depth__encoding='x', stack__size=99, precision='int8')
    assert len(parameters.problems) == 3


@pytest.mark.fault(17)
def test_changes_apply_or_fail_together(make):
    node, parameters = make()
    before = parameters.current()
    result = node.set_parameters_atomically(
        [Parameter('depth.max', value=5.0), Parameter('depth.min', value=6.0)]
    )
    assert not result.successful
    assert 'depth.min (6.0 m)' in result.reason
    assert parameters.current() == before
    result = node.set_parameters_atomically(
        [Parameter('depth.max', value=50.0), Parameter('depth.min', value=30.0)]
    )
    assert result.successful
    assert (parameters.current().depth_min, parameters.current().depth_max) == (30.0, 50.0)


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    ('name', 'value', 'text'),
    [
        ('depth.encoding', '8UC1', 'one of 32FC1, 16UC1'),
        ('stack.size', 40, '32'),
        ('stack.size', 1, '2 to 32'),
        ('breathing.model', 'thin_lens', 'lens.focal_length'),
        ('model', 'other', 'read-only'),
        ('depth.max', 'far', 'type'),
    ],
)
def test_rejected_change_names_allowed_values(make, name, value, text):
    node, parameters = make()
    before = parameters.current()
    (result,) = node.set_parameters([Parameter(name, value=value)])
    assert not result.successful
    assert text in result.reason
    assert parameters.current() == before


def test_empty_list_can_be_set_later(make):
    node, parameters = make()
    results = node.set_parameters(
        [
            Parameter('breathing.coefficients', value=[0.05, -0.001]),
            Parameter('breathing.model', value='polynomial'),
        ]
    )
    assert all(result.successful for result in results)
    assert estimator_settings(parameters.current()).breathing_coefficients == (0.05, -0.001)


def test_field_curvature_reaches_the_estimator(make):
    node, parameters = make(lens__field_curvature=[0.2, 0.1])
    assert estimator_settings(parameters.current()).field_curvature == (0.2, 0.1)
    (result,) = node.set_parameters([Parameter('lens.field_curvature', value=[-0.1, 0.0])])
    assert result.successful
    assert estimator_settings(parameters.current()).field_curvature == (-0.1, 0.0)


def test_wrong_value_can_be_corrected_later(make):
    node, parameters = make(depth__encoding='8UC1')
    node.set_parameters([Parameter('depth.encoding', value='16UC1')])
    assert parameters.problems == []


def test_foreign_parameters_are_ignored(make):
    node, _ = make()
    node.declare_parameter('theirs', 1)
    assert node.set_parameters([Parameter('theirs', value=2)])[0].successful


@pytest.mark.parametrize('name', sorted(SPECS))
def test_defaults_are_allowed(name):
    assert SPECS[name].coerce(SPECS[name].default) == SPECS[name].default


@pytest.mark.parametrize('name', ['rectify', 'alignment.mode'])
def test_yaml_false_means_off(make, name):
    node, parameters = make(**{name: False})
    attribute = name.replace('.', '_')
    assert parameters.problems == []
    assert getattr(parameters.current(), attribute) == 'off'
    (result,) = node.set_parameters([Parameter(name, value=SPECS[name].default)])
    assert result.successful and getattr(parameters.current(), attribute) == SPECS[name].default
    (result,) = node.set_parameters([Parameter(name, value=False)])
    assert result.successful and getattr(parameters.current(), attribute) == 'off'
    (result,) = node.set_parameters([Parameter(name, value=True)])
    assert not result.successful and 'one of' in result.reason


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
