# SPDX-License-Identifier: Apache-2.0
"""Output messages: REP 117 and 118, camera_info, point clouds, stamps."""

import numpy as np
import pytest

pytest.importorskip('sensor_msgs', reason='needs the ROS message packages')
pytest.importorskip('dualfocus_ros.msg', reason='needs the built messages: make build')

from sensor_msgs.msg import PointField
from sensor_msgs_py import point_cloud2
from std_msgs.msg import Header

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.nodes.messages import input_messages, output_messages


@pytest.fixture
def rgb():
    return np.random.default_rng(5).integers(0, 256, (6, 8, 3), dtype=np.uint8)


class TestOutputMessages:
    DEPTH = np.array(
        [[1.2345, np.nan, np.inf], [-np.inf, 65.535, 65.536], [0.0004, 0.0006, 2.0]], np.float32
    )

    def test_32fc1_keeps_the_special_values(self):
        message = output_messages.depth_message(Header(frame_id='c'), self.DEPTH, '32FC1')
        assert (message.encoding, message.step, message.header.frame_id) == ('32FC1', 12, 'c')
        back = np.frombuffer(message.data, np.float32).reshape(3, 3)
        np.testing.assert_array_equal(back, self.DEPTH)

    def test_16uc1_is_millimetres_with_zero_for_invalid(self):
        message = output_messages.depth_message(Header(), self.DEPTH, '16UC1')
        assert (message.encoding, message.step) == ('16UC1', 6)
        back = np.frombuffer(message.data, np.uint16).reshape(3, 3)
        np.testing.assert_array_equal(back, [[1234, 0, 0], [0, 65535, 0], [0, 1, 2000]])

    def test_camera_info_of_a_rectified_image(self):
        camera = PinholeCamera(640, 480, 500.0, 505.0, 321.0, 242.0)
        message = output_messages.camera_message(Header(frame_id='c'), camera)
        k, p = np.array(message.k).reshape(3, 3), np.array(message.p).reshape(3, 4)
        np.testing.assert_array_equal(p[:, :3], k)
        np.testing.assert_array_equal(k, [[500, 0, 321], [0, 505, 242], [0, 0, 1]])
        assert not any(message.d)
        np.testing.assert_array_equal(np.array(message.r).reshape(3, 3), np.eye(3))
        assert input_messages.calibration_from_msg(message).camera == camera

    def test_organised_cloud_reads_back(self):
        points = np.random.default_rng(1).random((4, 5, 4), dtype=np.float32)
        points.view(np.uint32)[..., 3] = 0x00112233
        points[1, 2, :3] = np.nan
        message = output_messages.cloud_message(Header(), points, color=True)
        assert (message.height, message.width) == (4, 5)
        assert (message.point_step, message.row_step) == (16, 80)
        assert not message.is_dense
        assert all(field.datatype == PointField.FLOAT32 for field in message.fields)
        read = point_cloud2.read_points(message)
        assert read.dtype.names == ('x', 'y', 'z', 'rgb')
        read = read.reshape(4, 5)
        for i, name in enumerate(('x', 'y', 'z')):
            np.testing.assert_array_equal(read[name], points[..., i])
        assert (read['rgb'].view(np.uint32) == 0x00112233).all()

    def test_points_without_colour_have_16_bytes(self):
        message = output_messages.cloud_message(
            Header(), np.zeros((2, 3, 4), np.float32), color=False
        )
        assert [field.name for field in message.fields] == ['x', 'y', 'z']
        assert message.point_step == 16

    @pytest.mark.parametrize('count', [0, 7])
    def test_unorganised_cloud(self, count):
        message = output_messages.cloud_message(
            Header(), np.zeros((count, 4), np.float32), color=True
        )
        assert (message.height, message.width, len(message.data)) == (1, count, 16 * count)

    @pytest.mark.parametrize(
        ('policy', 'expected'),
        [
            ('reference', 400),
            ('first', 100),
            ('mid', 200),
            ('last', 400),
        ],
    )
    def test_stamp_policy_selects_a_plane(self, policy, expected):
        image = np.zeros((2, 2), np.uint8)
        stack = FocalStack(
            tuple(
                Plane(image, focus, stamp) for focus, stamp in ((0.2, 100), (0.9, 200), (1.5, 400))
            )
        )
        assert output_messages.output_stamp(stack, policy) == expected
