# SPDX-License-Identifier: Apache-2.0
"""Blank images in place of decoded ones."""

import cv2
import numpy as np
import pytest

pytest.importorskip('sensor_msgs', reason='needs the ROS message packages')
pytest.importorskip('dualfocus_ros.msg', reason='needs the built messages: make build')

from sensor_msgs.msg import CompressedImage

from dualfocus_ros.nodes.messages import image_decoding
from dualfocus_ros.nodes.messages.image_decoding import MessageError
from image_messages import MAX_PIXELS, encoded_message, image_message


@pytest.fixture
def rgb():
    return np.random.default_rng(5).integers(0, 256, (6, 8, 3), dtype=np.uint8)


class TestBlankImage:
    def test_shape_of_the_image_without_memory(self, rgb):
        message = image_message(rgb.tobytes(), 'bgr8', 8, 6)
        blank = image_decoding.blank_image(message, MAX_PIXELS)
        assert blank.shape == image_decoding.image_to_array(message, MAX_PIXELS).shape
        assert blank.strides == (0, 0, 0)
        mono = image_message(rgb[..., 0].tobytes(), 'mono8', 8, 6)
        assert image_decoding.blank_image(mono, MAX_PIXELS).shape == (6, 8)

    def test_does_not_decode_compressed_images(self, rgb, monkeypatch):
        message = encoded_message(rgb, '.png', 'png')
        monkeypatch.setattr(cv2, 'imdecode', lambda *a: pytest.fail('decoded'))
        assert image_decoding.blank_image(message, MAX_PIXELS).shape == (6, 8, 3)

    @pytest.mark.fault(12)
    def test_rejects_contradictory_headers(self, rgb):
        with pytest.raises(MessageError):
            image_decoding.blank_image(image_message(rgb.tobytes(), 'rgb8', 9, 6), MAX_PIXELS)
        with pytest.raises(MessageError):
            image_decoding.blank_image(CompressedImage(format='jpeg'), MAX_PIXELS)
