# SPDX-License-Identifier: Apache-2.0
"""Decoding of JPEG and PNG images: sizes, damage, limits."""

import struct

import cv2
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

pytest.importorskip('sensor_msgs', reason='needs the ROS message packages')
pytest.importorskip('dualfocus_ros.msg', reason='needs the built messages: make build')

from sensor_msgs.msg import CompressedImage

from dualfocus_ros.nodes.messages import image_decoding
from dualfocus_ros.nodes.messages.image_decoding import MessageError
from image_messages import MAX_PIXELS, encoded_message


@pytest.fixture
def rgb():
    return np.random.default_rng(5).integers(0, 256, (6, 8, 3), dtype=np.uint8)


class TestCompressed:
    def test_png_decodes_exactly_to_rgb(self, rgb):
        message = encoded_message(rgb[..., ::-1], '.png', 'png')
        np.testing.assert_array_equal(image_decoding.compressed_to_array(message, MAX_PIXELS), rgb)

    def test_jpeg_colour_and_mono(self):
        image = np.full((16, 24, 3), (30, 90, 200), np.uint8)
        array = image_decoding.compressed_to_array(encoded_message(image, '.jpg'), MAX_PIXELS)
        assert np.abs(array.astype(int) - (200, 90, 30)).max() <= 4
        mono = image_decoding.compressed_to_array(
            encoded_message(image[..., 0], '.jpg'), MAX_PIXELS
        )
        assert mono.shape == (16, 24)

    @pytest.mark.fault(13)
    def test_size_is_read_before_decoding(self, monkeypatch):
        for ending in ('.jpg', '.png'):
            message = encoded_message(np.zeros((40, 50, 3), np.uint8), ending)
            assert image_decoding.encoded_size(message.data) == (50, 40)
            monkeypatch.setattr(cv2, 'imdecode', lambda *a: pytest.fail('decoded'))
            with pytest.raises(MessageError) as error:
                image_decoding.compressed_to_array(message, 1999)
            assert error.value.reason == 'too_large'
            monkeypatch.undo()

    @pytest.mark.fault(13)
    def test_huge_png_is_not_decoded(self):
        header = b'\x89PNG\r\n\x1a\n' + struct.pack('>I4sII', 13, b'IHDR', 2**31 - 1, 2**31 - 1)
        message = CompressedImage(format='png')
        message.data = header + bytes(100)
        with pytest.raises(MessageError) as error:
            image_decoding.compressed_to_array(message, MAX_PIXELS)
        assert error.value.reason == 'too_large'

    @pytest.mark.fault(13)
    @pytest.mark.parametrize('length', [2**30, 2**31 - 1, 2**31, 2**32 - 1, 200])
    @pytest.mark.parametrize('chunk', [b'IDAT', b'IEND'])
    def test_huge_png_chunk_is_not_read(self, chunk, length, monkeypatch):
        message = encoded_message(np.zeros((4, 4, 3), np.uint8), '.png')
        data = bytearray(message.data)
        at = data.index(chunk) - 4
        data[at : at + 4] = struct.pack('>I', length)
        message.data = bytes(data)
        # The decoder would allocate it.
        monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('was decoded'))
        with pytest.raises(MessageError, match='truncated or damaged') as error:
            image_decoding.compressed_to_array(message, MAX_PIXELS)
        assert error.value.reason == 'undecodable'

    @pytest.mark.parametrize('chunk', [b'IHDR' + bytes(13), b'acTL' + bytes(8)])
    def test_rejects_png_with_several_frames(self, chunk, monkeypatch):
        message = encoded_message(np.zeros((4, 4, 3), np.uint8), '.png')
        data = bytes(message.data)
        at = data.index(b'IDAT') - 4
        length = struct.pack('>I', len(chunk) - 4)
        message.data = data[:at] + length + chunk + bytes(4) + data[at:]
        monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('was decoded'))
        with pytest.raises(MessageError, match='several frames'):
            image_decoding.compressed_to_array(message, MAX_PIXELS)

    @pytest.mark.fault(12)
    @pytest.mark.parametrize('ending', ['.jpg', '.png'])
    def test_rejects_damaged_data(self, ending):
        image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        message = encoded_message(image, ending)
        whole = bytes(message.data)
        for keep in (0, 1, 8, 24, 40):
            message.data = whole[:keep]
            with pytest.raises(MessageError):
                image_decoding.compressed_to_array(message, MAX_PIXELS)

    def test_rejects_compressed_depth(self):
        with pytest.raises(MessageError, match='depth'):
            image_decoding.compressed_to_array(
                CompressedImage(format='32FC1; compressedDepth png'), MAX_PIXELS
            )

    @pytest.mark.fault(12)
    @given(st.binary(max_size=200), st.sampled_from([b'', b'\xff\xd8', b'\x89PNG\r\n\x1a\n']))
    @settings(max_examples=300, deadline=None)
    def test_random_bytes_give_image_or_error(self, data, start):
        message = CompressedImage(format='jpeg')
        message.data = start + data
        with pytest.raises(MessageError):
            image_decoding.compressed_to_array(message, MAX_PIXELS)
