# SPDX-License-Identifier: Apache-2.0
"""Output folder, arguments and node parameters of ``dualfocus demo``."""

from pathlib import Path

import pytest

from dualfocus_ros.cli.main import main
from dualfocus_ros.demo.demo_run import DemoSettings, parameter_arguments
from dualfocus_ros.simulation.scenes import SCENES


def test_a_folder_with_other_files_is_kept(tmp_path, capsys):
    pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
    (tmp_path / 'demo').mkdir()
    (tmp_path / 'demo' / 'thesis.txt').write_text('mine')
    assert main(['demo', '-o', str(tmp_path / 'demo')]) == 1
    assert 'was not made by this command' in capsys.readouterr().err
    assert (tmp_path / 'demo' / 'thesis.txt').read_text() == 'mine'
    assert main(['demo', '-o', str(tmp_path / 'x'), '--planes', '1']) == 2


@pytest.mark.parametrize('scene', SCENES)
def test_the_sweep_covers_the_depth_range_of_the_scene(scene):
    parameters = DemoSettings(Path('demo'), scene=scene, planes=5).node_parameters()
    sweep = parameters['focus_sweep_node']
    assert (sweep['far_dioptres'], sweep['near_dioptres']) == SCENES[scene].focus_range
    assert sweep['count'] == 5 and parameters['sim_camera_node']['scene'] == scene


def test_camera_and_depth_node_have_the_same_lens():
    parameters = DemoSettings(Path('demo'), width=320).node_parameters()
    lens = {k: v for k, v in parameters['depth_node'].items() if k.startswith('lens.')}
    assert lens.items() <= parameters['sim_camera_node'].items()
    assert lens['lens.pixel_pitch'] == pytest.approx(0.0072 / 320)


def test_parameters_become_ros_arguments():
    assert parameter_arguments({'a': 1, 'b.c': 'x'}) == ['-p', 'a:=1', '-p', 'b.c:=x']
