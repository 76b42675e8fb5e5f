# SPDX-License-Identifier: Apache-2.0
"""Depth and clean exit of the processes of sim.launch.py."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
import time
import unittest

import pytest

if find_spec('launch_testing') is None:
    pytest.skip('needs launch_testing, which only a ROS distribution has', allow_module_level=True)

from launch import LaunchDescription
from launch.actions import IncludeLaunchDescription, TimerAction
from launch.launch_description_sources import PythonLaunchDescriptionSource
import launch_testing
from launch_testing.actions import ReadyToTest
import rclpy
from sensor_msgs.msg import CameraInfo, Image

FILE = Path(__file__).parents[2] / 'launch' / 'sim.launch.py'
NAMESPACE = 'robot'


@pytest.mark.launch_test
def generate_test_description() -> LaunchDescription:
    """Start the simulation, small, in a namespace."""
    simulation = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(FILE)),
        launch_arguments={
            'width': '160',
            'height': '120',
            'namespace': NAMESPACE,
            'device': 'cpu',
        }.items(),
    )
    return LaunchDescription([simulation, TimerAction(period=1.0, actions=[ReadyToTest()])])


class TestDepth(unittest.TestCase):
    """Checks while the processes run."""

    def test_depth_and_camera_info_match(self) -> None:
        """The launch file connects the three nodes."""
        rclpy.init()
        node = rclpy.create_node('listener')
        got: dict[str, list] = {'depth': [], 'info': []}
        node.create_subscription(Image, f'/{NAMESPACE}/depth/image_rect', got['depth'].append, 10)
        node.create_subscription(
            CameraInfo, f'/{NAMESPACE}/depth/camera_info', got['info'].append, 10
        )
        try:
            deadline = time.monotonic() + 90.0
            while not all(got.values()) and time.monotonic() < deadline:
                rclpy.spin_once(node, timeout_sec=0.2)
            self.assertTrue(all(got.values()), 'no depth within 90 s')
            depth = got['depth'][0]
            self.assertEqual((depth.width, depth.height, depth.encoding), (160, 120, '32FC1'))
            self.assertEqual(depth.header.frame_id, 'camera_optical_frame')
            stamps = [(i.header.stamp.sec, i.header.stamp.nanosec) for i in got['info']]
            self.assertIn((depth.header.stamp.sec, depth.header.stamp.nanosec), stamps)
            names = {
                name
                for name, space in node.get_node_names_and_namespaces()
                if space == f'/{NAMESPACE}'
            }
            self.assertLessEqual({'dualfocus', 'sim_camera', 'focus_sweep'}, names)
        finally:
            node.destroy_node()
            rclpy.shutdown()


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    """Checks after Ctrl-C."""

    def test_every_process_ends_with_status_0(self, proc_info) -> None:
        """No crash, no traceback."""
        launch_testing.asserts.assertExitCodes(proc_info, allowable_exit_codes=[0])

    def test_no_process_prints_a_traceback(self, proc_output) -> None:
        """Signals are handled."""
        for name in proc_output.process_names():
            text = b''.join(line.text for line in proc_output[name])
            self.assertNotIn(b'Traceback (most recent call last)', text)
