# SPDX-License-Identifier: Apache-2.0
"""The parameter files name parameters that exist, with the values that the nodes really have."""

from pathlib import Path
import re

import pytest
import yaml

CONFIG = Path(__file__).parents[2] / 'config'

settings = pytest.importorskip(
    'dualfocus_ros.nodes.settings', reason='needs the depth node and its dependencies'
)


def parameters(name: str, node: str) -> dict:
    content = yaml.safe_load((CONFIG / name).read_text('utf-8'))
    return content[f'/**/{node}']['ros__parameters']


def test_dualfocus_yaml_states_every_parameter_with_its_default():
    stated = parameters('dualfocus.yaml', 'dualfocus')
    assert stated == {k: v for k, v in settings.DEFAULTS.items() if v != ()}
    for name, value in stated.items():
        assert settings.coerce(name, value) == value


def test_parameters_without_a_default_have_a_valid_example():
    text = (CONFIG / 'dualfocus.yaml').read_text('utf-8')
    for name in (name for name, value in settings.DEFAULTS.items() if value == ()):
        (example,) = re.findall(rf'^    # {re.escape(name)}: (.+)$', text, re.MULTILINE)
        assert settings.coerce(name, yaml.safe_load(example))


def test_every_parameter_is_explained():
    lines = (CONFIG / 'dualfocus.yaml').read_text('utf-8').splitlines()
    for number, line in enumerate(lines):
        if re.match(r'    \w', line):
            assert lines[number - 1].startswith('    # '), f'{line.strip()} has no comment'


@pytest.mark.parametrize(
    'node, module',
    [('sim_camera', 'sim_camera'), ('focus_sweep', 'focus_sweep')],
)
def test_sim_yaml_sets_parameters_that_the_simulation_has(node, module):
    pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
    table = __import__(f'dualfocus_ros.nodes.{module}', fromlist=['PARAMETERS']).PARAMETERS
    known = {entry.name: entry for entry in table}
    for name, value in parameters('sim.yaml', node).items():
        assert name in known, f'{node} has no parameter {name}'
        default = known[name].default
        assert isinstance(value, type(default)), f'{name} must be a {type(default).__name__}'


def test_sim_yaml_gives_the_depth_node_the_lens_of_the_camera():
    camera, depth = parameters('sim.yaml', 'sim_camera'), parameters('sim.yaml', 'dualfocus')
    for name, value in depth.items():
        assert settings.coerce(name, value) == value
    for name in ('lens.focal_length', 'lens.f_number'):
        assert depth[name] == camera[name]
    assert depth['breathing.model'] == 'thin_lens'


def test_rviz_configuration_shows_what_the_depth_node_publishes():
    layout = yaml.safe_load((CONFIG / 'dualfocus.rviz').read_text('utf-8'))
    displays = layout['Visualization Manager']['Displays']
    topics = {d['Topic']['Value'] for d in displays if 'Topic' in d}
    assert {'depth/points', 'depth/image_rect', 'rgb/image_rect', 'image_raw'} <= topics
    for display in displays:
        if 'Topic' in display:
            assert display['Topic']['Reliability Policy'] == 'Reliable'
