# SPDX-License-Identifier: Apache-2.0
"""Files in config/: existing parameters and topics, allowed values, defaults."""

import json
from pathlib import Path
import re

import pytest
import yaml

from dualfocus_ros import topics

CONFIG = Path(__file__).parents[2] / 'config'

settings = pytest.importorskip(
    'dualfocus_ros.nodes.parameters.depth_parameters',
    reason='needs the depth node and its dependencies',
)


def parameters(name: str, node: str) -> dict:
    content = yaml.safe_load((CONFIG / name).read_text('utf-8'))
    return content[f'/**/{node}']['ros__parameters']


def test_dualfocus_yaml_has_all_defaults():
    stated = parameters('dualfocus.yaml', 'dualfocus')
    stated = {k: tuple(v) if isinstance(v, list) else v for k, v in stated.items()}
    assert stated == {
        spec.name: spec.default for spec in settings.PARAMETERS if spec.default != ()
    }
    for name, value in stated.items():
        assert settings.SPECS[name].coerce(value) == value


def test_empty_parameters_have_a_valid_example():
    text = (CONFIG / 'dualfocus.yaml').read_text('utf-8')
    for name in (spec.name for spec in settings.PARAMETERS if spec.default == ()):
        (example,) = re.findall(rf'^    # {re.escape(name)}: (.+)$', text, re.MULTILINE)
        assert settings.SPECS[name].coerce(yaml.safe_load(example))


def test_parameters_have_comments():
    lines = (CONFIG / 'dualfocus.yaml').read_text('utf-8').splitlines()
    for number, line in enumerate(lines):
        if re.match(r'    \w', line):
            assert lines[number - 1].startswith('    # '), f'{line.strip()} has no comment'


@pytest.mark.parametrize(
    'node, module',
    [('sim_camera', 'sim_parameters'), ('focus_sweep', 'sweep_parameters')],
)
def test_sim_yaml_names_existing_parameters(node, module):
    pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
    table = __import__(
        f'dualfocus_ros.nodes.parameters.{module}', fromlist=['PARAMETERS']
    ).PARAMETERS
    known = {entry.name: entry for entry in table}
    for name, value in parameters('sim.yaml', node).items():
        assert name in known, f'{node} has no parameter {name}'
        default = known[name].default
        assert isinstance(value, type(default)), f'{name} must be a {type(default).__name__}'


def test_sim_yaml_has_one_lens_for_both_nodes():
    camera, depth = parameters('sim.yaml', 'sim_camera'), parameters('sim.yaml', 'dualfocus')
    for name, value in depth.items():
        assert settings.SPECS[name].coerce(value) == value
    for name in ('lens.focal_length', 'lens.f_number'):
        assert depth[name] == camera[name]
    assert depth['breathing.model'] == 'thin_lens'


def test_rviz_configuration_shows_outputs():
    layout = yaml.safe_load((CONFIG / 'dualfocus.rviz').read_text('utf-8'))
    displays = layout['Visualization Manager']['Displays']
    types = {'PointCloud2': 'PointCloud2', 'Image': 'Image'}
    shown = {}
    for display in displays:
        if 'Topic' in display:
            shown[display['Topic']['Value']] = types[display['Class'].rpartition('/')[2]]
            # As offered by our publishers; best effort would lose most large images.
            assert display['Topic']['Reliability Policy'] == 'Reliable'
            assert display['Topic']['Durability Policy'] == 'Volatile'
    assert shown.keys() >= {
        'depth/points',
        'depth/image_rect',
        'depth/sigma',
        'rgb/image_rect',
        'image_raw',
    }
    assert all((OUTPUT_TYPES | INPUT_TYPES)[topic] == kind for topic, kind in shown.items())
    for display in displays:
        if display['Name'] in ('Depth', 'Sigma'):  # a fixed scale of metres
            assert display['Normalize Range'] is False
            assert display['Min Value'] < display['Max Value']


OUTPUT_TYPES = {
    'depth/points': 'PointCloud2',
    'depth/points_decimated': 'PointCloud2',
    'depth/image_rect': 'Image',
    'depth/camera_info': 'CameraInfo',
    'depth/sigma': 'Image',
    'rgb/image_rect': 'Image',
    'rgb/camera_info': 'CameraInfo',
    '/diagnostics': 'DiagnosticArray',
    'depth/confidence': 'Image',
    'stack_info': 'StackInfo',
}
INPUT_TYPES = {'image_raw': 'Image', 'camera_info': 'CameraInfo'}


def test_topics_of_these_files_are_outputs_of_the_node():
    published = {topic.name: topic.message_type.rpartition('/')[2] for topic in topics.OUTPUTS}
    assert published | {topics.DIAGNOSTICS: 'DiagnosticArray'} == OUTPUT_TYPES


def test_nav2_ranges_are_within_those_of_the_node():
    content = yaml.safe_load((CONFIG / 'nav2_voxel_layer.yaml').read_text('utf-8'))
    layer = content['local_costmap']['local_costmap']['ros__parameters']['voxel_layer']
    source = layer[layer['observation_sources']]
    assert source['topic'] == '/depth/points_decimated'
    assert source['data_type'] == OUTPUT_TYPES['depth/points_decimated']
    low, high = source['obstacle_min_range'], source['obstacle_max_range']
    assert low < high < source['raytrace_max_range']
    # A sweep takes seconds: less would make the layer stale between two clouds.
    assert source['expected_update_rate'] == 0.0 or source['expected_update_rate'] >= 2.0
    assert layer['max_obstacle_height'] <= layer['z_voxels'] * layer['z_resolution'] + 1e-9
    node = content['/**/dualfocus']['ros__parameters']
    for name, value in node.items():
        assert settings.SPECS[name].coerce(value) == value
    assert node['depth.min'] <= low
    assert source['raytrace_max_range'] <= node['depth.max']


def test_moveit_updaters_get_matching_topics():
    content = yaml.safe_load((CONFIG / 'moveit_octomap.yaml').read_text('utf-8'))
    assert set(content['sensors']) <= set(content)
    for name in ('dualfocus_cloud', 'dualfocus_depth'):
        sensor = content[name]
        plugin = sensor['sensor_plugin'].removeprefix('occupancy_map_monitor/')
        key, kind = {
            'PointCloudOctomapUpdater': ('point_cloud_topic', 'PointCloud2'),
            'DepthImageOctomapUpdater': ('image_topic', 'Image'),
        }[plugin]
        assert OUTPUT_TYPES[sensor[key].removeprefix('/')] == kind
    # The updater subscribes to camera_info in the namespace of the image.
    image = content['dualfocus_depth']['image_topic'].removeprefix('/')
    assert image.rpartition('/')[0] + '/camera_info' in OUTPUT_TYPES


def test_laser_scan_is_not_in_the_optical_frame():
    text = (CONFIG / 'depthimage_to_laserscan.yaml').read_text('utf-8')
    values = yaml.safe_load(text)['/**']['ros__parameters']
    assert not values['output_frame'].endswith('optical_frame')
    assert 0.0 < values['range_min'] < values['range_max']
    remapped = dict(re.findall(r'-r (\w+):=/(\S+)', text))
    assert remapped == {'depth': 'depth/image_rect', 'depth_camera_info': 'depth/camera_info'}


def panels_of(node) -> list[str]:
    """Return the names of the panels in a layout."""
    if isinstance(node, str):
        return [node]
    return panels_of(node['first']) + panels_of(node['second'])


@pytest.fixture(scope='module')
def foxglove() -> dict:
    return json.loads((CONFIG / 'dualfocus.foxglove.json').read_text('utf-8'))


def test_foxglove_topics_have_the_right_type(foxglove):
    panels = foxglove['configById']
    assert sorted(panels_of(foxglove['layout'])) == sorted(panels)
    shown = []
    for name, panel in panels.items():
        kind = name.partition('!')[0]
        if kind == 'Image':
            shown.append((panel['imageMode']['imageTopic'], 'Image'))
            shown.append((panel['imageMode']['calibrationTopic'], 'CameraInfo'))
        elif kind == '3D':
            shown += [(topic, 'PointCloud2') for topic in panel['topics']]
        elif kind == 'Plot':
            shown += [(path['value'].partition('.')[0], 'StackInfo') for path in panel['paths']]
        elif kind == 'RawMessages':
            shown.append((panel['topicPath'], 'StackInfo'))
        else:
            assert kind == 'DiagnosticSummary'
            shown.append((panel['topicToRender'], 'DiagnosticArray'))
    known = {
        f'/{name.removeprefix("/")}': kind for name, kind in (OUTPUT_TYPES | INPUT_TYPES).items()
    }
    assert {topic for topic, _ in shown} >= {
        '/image_raw',
        '/depth/image_rect',
        '/depth/sigma',
        '/depth/points',
        '/rgb/image_rect',
        '/stack_info',
        '/diagnostics',
    }
    for topic, kind in shown:
        assert known[topic] == kind
    assert panels['3D!cloud']['followTf'] == 'camera_optical_frame'


def test_foxglove_plots_existing_fields(foxglove):
    from dualfocus_ros.bags.message_types import typestore

    fields = {name for name, _ in typestore().fielddefs['dualfocus_ros/msg/StackInfo'][1]}
    plotted = {
        path['value'].partition('.')[2] for path in foxglove['configById']['Plot!latency']['paths']
    }
    assert 'latency_ms' in plotted <= fields


def test_foxglove_colours_match_our_pictures(foxglove):
    """Foxglove's named maps are not perceptually uniform; the ends of ours are used."""
    np = pytest.importorskip('numpy')
    colour = pytest.importorskip('dualfocus_ros.visualization.colour_scales')
    scales = {
        'Image!depth': colour.log_depth_scale(0.3, 2.5),
        'Image!sigma': colour.sigma_scale(np.ones((2, 2))),
    }
    for name, scale in scales.items():
        mode = foxglove['configById'][name]['imageMode']
        assert mode['colorMode'] == 'gradient' and mode['minValue'] < mode['maxValue']
        ends = ['#' + bytes(scale.colours[index]).hex() + 'ff' for index in (0, -1)]
        assert mode['gradient'] == ends


def test_files_for_consumers_are_documented():
    docs = CONFIG.parent / 'docs'
    explained = '\n'.join(path.read_text('utf-8') for path in docs.glob('*.md'))
    for name in (
        'nav2_voxel_layer.yaml',
        'moveit_octomap.yaml',
        'depthimage_to_laserscan.yaml',
        'dualfocus.rviz',
        'dualfocus.foxglove.json',
    ):
        assert (CONFIG / name).is_file()
        assert f'config/{name}' in explained
    for path in docs.glob('*.md'):
        for link in re.findall(r'\]\((?!https?:)([^)#]+)', path.read_text('utf-8')):
            assert (docs / link).exists(), f'{path.name} links to {link}'
