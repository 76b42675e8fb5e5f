# SPDX-License-Identifier: Apache-2.0
"""Calibrations and focal stacks from messages."""

import numpy as np
import pytest

pytest.importorskip('sensor_msgs', reason='needs the ROS message packages')
pytest.importorskip('dualfocus_ros.msg', reason='needs the built messages: make build')

from sensor_msgs.msg import CameraInfo

from dualfocus_ros import stamps
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.msg import FocalStack as FocalStackMsg
from dualfocus_ros.nodes.messages import input_messages
from dualfocus_ros.nodes.messages.image_decoding import MessageError
from image_messages import MAX_PIXELS, camera_info, image_message


@pytest.fixture
def rgb():
    return np.random.default_rng(5).integers(0, 256, (6, 8, 3), dtype=np.uint8)


class TestCalibration:
    def test_undistorted_calibration(self):
        found = input_messages.calibration_from_msg(camera_info())
        assert found.camera == PinholeCamera(640, 480, 500.0, 505.0, 320.0, 240.0)
        assert found.is_rectified

    def test_missing_p_and_r_mean_rectified(self):
        found = input_messages.calibration_from_msg(camera_info(p=[0.0] * 12, r=[0.0] * 9))
        assert found.output == found.camera
        assert found.is_rectified

    @pytest.mark.fault(15)
    def test_zero_k_is_uncalibrated(self):
        with pytest.raises(MessageError, match='not calibrated') as error:
            input_messages.calibration_from_msg(CameraInfo(width=640, height=480))
        assert error.value.reason == 'uncalibrated'

    def test_distortion_is_kept_for_the_rectifier(self):
        found = input_messages.calibration_from_msg(camera_info(d=[-0.2, 0.1, 0.0, 0.0, 0.0]))
        assert not found.is_rectified

    @pytest.mark.fault(15)
    @pytest.mark.parametrize(
        'changes',
        [
            {'distortion_model': 'fancy', 'd': [0.1, 0.2]},
            {'d': [0.1]},
            {'d': [float('nan')] * 5},
            {'k': [500.0, 0.0, float('nan'), 0.0, 500.0, 240.0, 0.0, 0.0, 1.0]},
            {'width': 0},
        ],
    )
    def test_rejects_invalid_calibrations(self, changes):
        with pytest.raises(MessageError) as error:
            input_messages.calibration_from_msg(camera_info(**changes))
        assert error.value.reason == 'camera_info'

    @pytest.mark.fault(15)
    def test_binning_and_region_of_interest(self):
        message = camera_info(binning_x=2, binning_y=2)
        message.roi.x_offset, message.roi.y_offset = 100, 40
        message.roi.width, message.roi.height = 400, 200
        camera = input_messages.calibration_from_msg(message).camera
        assert (camera.width, camera.height) == (200, 100)
        assert (camera.fx, camera.fy) == (250.0, 252.5)
        # The full-resolution pixels 100 and 101 make the first binned one: centre 100.5.
        ray = (100.5 - 320.0) / 500.0
        assert (0 - camera.cx) / camera.fx == pytest.approx(ray)


class TestFocalStackMessages:
    def message(self, rgb, focus=(0.5, 1.0, 2.0), info=None):
        message = FocalStackMsg(focus_dioptres=list(focus), camera_info=info or CameraInfo())
        message.header.frame_id = 'optical'
        message.header.stamp = stamps.to_stamp(77)
        for n in range(len(focus)):
            image = image_message((rgb + n).tobytes(), 'rgb8', 8, 6)
            if n:
                image.header.stamp = stamps.to_stamp(100 * n)
            message.images.append(image)
        return message

    def test_planes_focus_and_stamps(self, rgb):
        stack = input_messages.focal_stack_from_msg(self.message(rgb), MAX_PIXELS)
        assert [p.stamp_ns for p in stack.planes] == [77, 100, 200]
        assert stack.frame_id == 'optical'
        np.testing.assert_allclose(stack.focus_dioptres, [0.5, 1.0, 2.0])
        assert stack.planes[0].camera is None

    def test_intrinsics_and_rectification(self, rgb):
        info = camera_info(8, 6, d=[-0.2, 0.0, 0.0, 0.0, 0.0])
        stack = input_messages.focal_stack_from_msg(
            self.message(rgb, info=info), MAX_PIXELS, rectify=True
        )
        plane = stack.planes[1]
        assert plane.camera.fx == 500.0
        assert plane.calibration.distortion == (-0.2, 0.0, 0.0, 0.0, 0.0)
        taken = input_messages.focal_stack_from_msg(
            self.message(rgb, info=info), MAX_PIXELS, rectify=False
        )
        assert taken.planes[1].calibration is None

    @pytest.mark.parametrize(
        ('change', 'reason'),
        [
            (lambda m: m.focus_dioptres.append(3.0), 'plane_count'),
            (lambda m: setattr(m, 'focus_dioptres', [1.0, 1.0, 1.0]), 'plane_count'),
            (lambda m: setattr(m, 'focus_dioptres', [1.0, 2.0, float('nan')]), 'focus_unknown'),
            (lambda m: setattr(m.images[1], 'width', 9), 'row_step'),
            (lambda m: setattr(m, 'camera_info', camera_info()), 'camera_size'),
            (lambda m: setattr(m.header, 'stamp', stamps.to_stamp(0)), 'zero_stamp'),
        ],
    )
    def test_error_names_the_problem(self, rgb, change, reason):
        message = self.message(rgb)
        change(message)
        with pytest.raises(MessageError) as error:
            input_messages.focal_stack_from_msg(message, MAX_PIXELS)
        assert error.value.reason == reason

    @pytest.mark.fault(13)
    @pytest.mark.parametrize('count', [0, 1, 33])
    def test_rejects_too_few_or_too_many_planes(self, rgb, count):
        with pytest.raises(MessageError, match='2 to 32'):
            input_messages.focal_stack_from_msg(self.message(rgb, focus=range(count)), MAX_PIXELS)
