# SPDX-License-Identifier: Apache-2.0
"""Diagnostics of images lost between camera and node."""

from diagnostic_msgs.msg import DiagnosticStatus
import pytest

from depth_node_harness import MS, START, camera_info, image

FRAMES = 30


@pytest.fixture
def harness(connect):
    return connect()


def send(harness, lost):
    """Publish camera_info of frames and the images of those that are not lost, in real time."""
    for number in range(FRAMES):
        stamp = START + 30 * MS * number
        harness.publish('camera_info', camera_info(stamp, 42.0))
        if number not in lost:
            harness.publish('image_raw', image(stamp, number))
        harness.spin(0.03)
    harness.spin(1.2)
    # A loss is known once a later message arrives.
    harness.publish('camera_info', camera_info(START + 30 * MS * FRAMES, 42.0))
    harness.received['/diagnostics'].clear()
    harness.until(lambda: 'images lost [%]' in harness.status('connections')[2], 'for figures')
    return harness.status('connections')


def test_diagnostics_report_lost_images(harness):
    level, text, values = send(harness, lost=range(0, FRAMES, 3))
    assert level == DiagnosticStatus.WARN
    assert '% of the images are lost on the way from the camera' in text
    assert float(values['images lost [%]']) == pytest.approx(33.3, abs=4.0)


def test_no_report_without_lost_images(harness):
    level, _, values = send(harness, lost=())
    assert level == DiagnosticStatus.OK
    assert float(values['images lost [%]']) == 0.0
