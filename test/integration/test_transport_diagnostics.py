# SPDX-License-Identifier: Apache-2.0
"""Diagnostics of images lost between camera and node."""

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
pytest.importorskip('dualfocus_ros.msg', reason='needs the built messages: make build')

from diagnostic_msgs.msg import DiagnosticStatus

from depth_rig import MS, START, DepthRig, camera_info, image

FRAMES = 30


@pytest.fixture
def rig():
    made = DepthRig()
    made.use_camera()
    made.ready()
    yield made
    made.close()


def send(rig, lost):
    """Publish camera_info of frames and the images of those that are not lost, in real time."""
    for number in range(FRAMES):
        stamp = START + 30 * MS * number
        rig.publish('camera_info', camera_info(stamp, 42.0))
        if number not in lost:
            rig.publish('image_raw', image(stamp, number))
        rig.spin(0.03)
    rig.spin(1.2)
    # A loss is known once a later message arrives.
    rig.publish('camera_info', camera_info(START + 30 * MS * FRAMES, 42.0))
    rig.received['/diagnostics'].clear()
    rig.until(lambda: 'images lost [%]' in rig.status('connections')[2], 'for figures')
    return rig.status('connections')


def test_diagnostics_report_lost_images(rig):
    level, text, values = send(rig, lost=range(0, FRAMES, 3))
    assert level == DiagnosticStatus.WARN
    assert '% of the images are lost on the way from the camera' in text
    assert float(values['images lost [%]']) == pytest.approx(33.3, abs=4.0)


def test_no_report_without_lost_images(rig):
    level, _, values = send(rig, lost=())
    assert level == DiagnosticStatus.OK
    assert float(values['images lost [%]']) == 0.0
