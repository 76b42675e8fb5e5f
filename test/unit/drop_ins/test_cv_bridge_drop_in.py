# SPDX-License-Identifier: Apache-2.0
"""Checks of our ``cv_bridge`` that the original lacks."""

from __future__ import annotations

import array
import importlib.util

import numpy as np
import pytest

pytest.importorskip('sensor_msgs.msg')
cv_bridge = pytest.importorskip('cv_bridge')
# Not a module-level skip: the plugin of launch_testing imports each module, and a skip during
# the import ends the whole run.
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec('cv_bridge.boost') is not None,
    reason='the original cv_bridge is installed',
)

from cv_bridge import CvBridge, CvBridgeError  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402


def test_rows_shorter_than_the_width_are_refused():
    message = Image(height=2, width=4, step=11, encoding='rgb8')
    message.data = array.array('B', bytes(22))
    with pytest.raises(CvBridgeError, match=r'step < width .* 11 != 4 \* 1 \* 3'):
        CvBridge().imgmsg_to_cv2(message)


def test_too_little_data_names_both_sizes():
    message = Image(height=2, width=4, step=12, encoding='rgb8')
    message.data = array.array('B', bytes(23))
    with pytest.raises(CvBridgeError, match=r'2 \* 12 != 23'):
        CvBridge().imgmsg_to_cv2(message)


def test_padding_need_not_be_whole_pixels():
    image = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3)
    message = Image(height=2, width=4, step=16, encoding='rgb8')
    message.data = array.array('B', b''.join(row.tobytes() + b'\xa5' * 4 for row in image))
    np.testing.assert_array_equal(CvBridge().imgmsg_to_cv2(message), image)


def test_data_that_are_not_an_image_are_refused():
    message = CompressedImage(format='jpeg', data=array.array('B', b'no image'))
    with pytest.raises(CvBridgeError, match=r'8 bytes of format \[jpeg\]'):
        CvBridge().compressed_imgmsg_to_cv2(message, 'rgb8')
    assert CvBridge().compressed_imgmsg_to_cv2(CompressedImage()) is None


def test_a_type_without_an_encoding_is_refused():
    with pytest.raises(CvBridgeError, match='bool'):
        CvBridge().cv2_to_imgmsg(np.zeros((2, 2), dtype=bool))
