# SPDX-License-Identifier: Apache-2.0
"""Decoding of raw, JPEG and PNG images; padding, byte orders, damage, blank images."""

import struct

import cv2
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

pytest.importorskip('sensor_msgs', reason='needs the ROS message packages')
pytest.importorskip('dualfocus_ros.msg', reason='needs the built messages: make build')

from sensor_msgs.msg import CompressedImage, Image

from dualfocus_ros.nodes.messages import image_decoding
from dualfocus_ros.nodes.messages.image_decoding import MessageError
from image_messages import MAX_PIXELS, encoded_message, image_message, padded


@pytest.fixture
def rgb():
    return np.random.default_rng(5).integers(0, 256, (6, 8, 3), dtype=np.uint8)


class TestEncodings:
    def test_rgb8_and_mono8_are_views(self, rgb):
        message = image_message(rgb.tobytes(), 'rgb8', 8, 6)
        array = image_decoding.image_to_array(message, MAX_PIXELS)
        np.testing.assert_array_equal(array, rgb)
        assert np.shares_memory(array, np.frombuffer(message.data, np.uint8))
        mono = image_message(rgb[..., 0].tobytes(), 'mono8', 8, 6)
        np.testing.assert_array_equal(image_decoding.image_to_array(mono, MAX_PIXELS), rgb[..., 0])

    @pytest.mark.fault(12)
    @pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'mono8', '8UC1', '8UC3'])
    @pytest.mark.parametrize('extra', [0, 1, 5, 64])
    @pytest.mark.parametrize('big', [0, 1])
    def test_8_bit_padding_and_byte_order(self, rgb, encoding, extra, big):
        source = rgb[..., 0] if encoding in ('mono8', '8UC1') else rgb
        sent = np.ascontiguousarray(source[..., ::-1]) if encoding in ('bgr8', '8UC3') else source
        sent = np.ascontiguousarray(sent)
        row = sent[0].nbytes + extra
        message = image_message(padded(sent, extra), encoding, 8, 6, row, big)
        array = image_decoding.image_to_array(message, MAX_PIXELS)
        np.testing.assert_array_equal(array, source)
        assert array.flags.c_contiguous

    @pytest.mark.parametrize('encoding', ['rgba8', 'bgra8'])
    def test_alpha_is_dropped(self, rgb, encoding):
        sent = np.dstack([rgb if encoding == 'rgba8' else rgb[..., ::-1], rgb[..., 0]])
        message = image_message(sent.tobytes(), encoding, 8, 6)
        np.testing.assert_array_equal(image_decoding.image_to_array(message, MAX_PIXELS), rgb)

    @pytest.mark.fault(12)
    @pytest.mark.parametrize('encoding', ['mono16', 'rgb16', 'bgr16', 'rgba16'])
    @pytest.mark.parametrize('order', ['<', '>'])
    @pytest.mark.parametrize('extra', [0, 2, 6])
    def test_16_bit_byte_orders(self, rgb, encoding, order, extra):
        source = rgb[..., 0] if encoding == 'mono16' else rgb
        wide = source.astype(np.uint16) * 257
        if encoding == 'bgr16':
            wide = wide[..., ::-1]
        if encoding == 'rgba16':
            wide = np.dstack([wide, wide[..., 0]])
        sent = np.ascontiguousarray(wide.astype(f'{order}u2'))
        message = image_message(
            padded(sent, extra), encoding, 8, 6, sent[0].nbytes + extra, int(order == '>')
        )
        array = image_decoding.image_to_array(message, MAX_PIXELS)
        assert array.dtype == np.uint8
        assert np.abs(array.astype(int) - source).max() <= 1

    @pytest.mark.fault(14)
    @pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
    @pytest.mark.parametrize('bits', [8, 16])
    def test_bayer_pattern_of_flat_colour(self, pattern, bits):
        colour = {'r': 200, 'g': 120, 'b': 40}
        cell = np.array([[colour[c] for c in pattern[:2]], [colour[c] for c in pattern[2:]]])
        mosaic = np.tile(cell, (6, 8)).astype(np.uint8 if bits == 8 else np.uint16)
        if bits == 16:
            mosaic *= 257
        message = image_message(mosaic.tobytes(), f'bayer_{pattern}{bits}', 16, 12)
        array = image_decoding.image_to_array(message, MAX_PIXELS)
        assert array.shape == (12, 16, 3)
        np.testing.assert_allclose(array[4:-4, 4:-4].reshape(-1, 3), [[200, 120, 40]] * 32, atol=2)

    @pytest.mark.fault(14)
    @pytest.mark.parametrize(
        ('encoding', 'order'),
        [
            ('yuv422', 'uyvy'),
            ('uyvy', 'uyvy'),
            ('yuv422_yuy2', 'yuyv'),
            ('yuyv', 'yuyv'),
        ],
    )
    def test_yuv422_grey_ramp(self, encoding, order):
        luma = np.tile(np.linspace(40, 200, 8).astype(np.uint8), (6, 1))
        packed = np.full((6, 8, 2), 128, np.uint8)
        packed[..., 1 if order == 'uyvy' else 0] = luma
        array = image_decoding.image_to_array(
            image_message(packed.tobytes(), encoding, 8, 6), MAX_PIXELS
        )
        expected = (luma.astype(float) - 16) * 255 / 219
        assert np.abs(array - expected[..., None]).max() <= 2

    @pytest.mark.fault(12, 14)
    @pytest.mark.parametrize('encoding', ['nv12', 'nv21'])
    @pytest.mark.parametrize('extra', [0, 8])
    def test_semi_planar_yuv(self, encoding, extra):
        rgb = np.zeros((6, 8, 3), np.uint8)
        rgb[...] = (180, 60, 90)
        flat = cv2.cvtColor(rgb, cv2.COLOR_RGB2YUV_I420)
        u, v = flat[6:].ravel()[:12], flat[6:].ravel()[12:]
        first, second = (u, v) if encoding == 'nv12' else (v, u)
        chroma = np.stack([first, second], axis=-1).reshape(3, 8)
        data = padded(np.vstack([flat[:6], chroma]), extra)
        array = image_decoding.image_to_array(
            image_message(data, encoding, 8, 6, 8 + extra), MAX_PIXELS
        )
        assert np.abs(array.astype(int) - rgb).max() <= 3

    @pytest.mark.fault(14)
    @pytest.mark.parametrize('encoding', ['', '32FC1', '16UC1', 'yuv444', 'nonsense'])
    def test_rejection_lists_supported_encodings(self, encoding):
        with pytest.raises(MessageError, match=r'rgb8.*bayer_rggb8') as error:
            image_decoding.image_to_array(image_message(bytes(96), encoding, 4, 3), MAX_PIXELS)
        assert error.value.reason == 'encoding'


class TestContradictions:
    @pytest.mark.fault(12, 13)
    @pytest.mark.parametrize(
        ('change', 'reason'),
        [
            ({'width': 0}, 'empty'),
            ({'height': 0}, 'empty'),
            ({'width': 2**31, 'height': 2**31}, 'too_large'),
            ({'width': 2**32 - 1, 'step': 2**32 - 1}, 'too_large'),
            ({'step': 23}, 'row_step'),
            ({'step': 0}, 'row_step'),
            ({'step': 25}, 'data_size'),
            ({'height': 7}, 'data_size'),
            ({'encoding': 'rgba8'}, 'row_step'),
        ],
    )
    def test_sizes_are_checked_first(self, rgb, change, reason):
        message = image_message(rgb.tobytes(), 'rgb8', 8, 6)
        for name, value in change.items():
            setattr(message, name, value)
        with pytest.raises(MessageError) as error:
            image_decoding.image_to_array(message, MAX_PIXELS)
        assert error.value.reason == reason

    @pytest.mark.fault(13)
    def test_max_pixels_is_exact_and_named(self, rgb):
        message = image_message(rgb.tobytes(), 'rgb8', 8, 6)
        assert image_decoding.image_to_array(message, 48).shape == (6, 8, 3)
        with pytest.raises(MessageError, match=r'8x6 is more than the 47 pixels'):
            image_decoding.image_to_array(message, 47)

    @pytest.mark.fault(12)
    @given(
        st.sampled_from([*image_decoding.PIXEL_LAYOUTS, 'x']),
        st.integers(0, 12),
        st.integers(0, 12),
        st.integers(0, 100),
        st.integers(0, 1),
        st.binary(max_size=600),
    )
    @settings(max_examples=500, deadline=None)
    def test_random_fields_give_image_or_error(self, encoding, width, height, step, big, data):
        message = Image(width=width, height=height, encoding=encoding, step=step, is_bigendian=big)
        message.data = data
        try:
            array = image_decoding.image_to_array(message, 100)
        except MessageError as error:
            assert error.reason
            assert str(error)
        else:
            assert array.shape[:2] == (height, width)
            assert array.dtype == np.uint8

    @given(
        st.sampled_from(list(image_decoding.PIXEL_LAYOUTS)),
        st.integers(1, 8),
        st.integers(1, 8),
        st.integers(0, 9),
        st.integers(0, 1),
    )
    @settings(max_examples=300, deadline=None)
    def test_consistent_fields_give_an_image(self, encoding, width, height, extra, big):
        even = encoding.startswith(('nv', 'yuv', 'uyvy', 'yuyv', 'bayer'))
        width, height = (2 * width, 2 * height) if even else (width, height)
        layout = image_decoding.PIXEL_LAYOUTS[encoding]
        step = width * layout.pixel + extra
        rows = height * 3 // 2 if encoding.startswith('nv') else height
        message = Image(width=width, height=height, encoding=encoding, step=step, is_bigendian=big)
        message.data = bytes(step * rows)
        array = image_decoding.image_to_array(message, MAX_PIXELS)
        assert array.shape == ((height, width) if layout.mono else (height, width, 3))


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
