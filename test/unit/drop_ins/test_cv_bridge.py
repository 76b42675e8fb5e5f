# SPDX-License-Identifier: Apache-2.0
"""Behaviour of ``cv_bridge`` that this project uses, in the original and our replacement."""

from __future__ import annotations

import array
import sys

import numpy as np
import pytest

cv2 = pytest.importorskip('cv2')
pytest.importorskip('sensor_msgs.msg')
cv_bridge = pytest.importorskip('cv_bridge')

from cv_bridge import CvBridge, CvBridgeError  # noqa: E402
from sensor_msgs.msg import CompressedImage, Image  # noqa: E402
from std_msgs.msg import Header  # noqa: E402

# (encoding, type of a sample, channels)
ENCODINGS = [
    ('mono8', 'uint8', 1),
    ('mono16', 'uint16', 1),
    ('rgb8', 'uint8', 3),
    ('bgr8', 'uint8', 3),
    ('rgba8', 'uint8', 4),
    ('bgra8', 'uint8', 4),
    ('rgb16', 'uint16', 3),
    ('bgr16', 'uint16', 3),
    ('rgba16', 'uint16', 4),
    ('bgra16', 'uint16', 4),
    ('bayer_rggb8', 'uint8', 1),
    ('bayer_bggr8', 'uint8', 1),
    ('bayer_gbrg8', 'uint8', 1),
    ('bayer_grbg8', 'uint8', 1),
    ('bayer_rggb16', 'uint16', 1),
    ('bayer_bggr16', 'uint16', 1),
    ('bayer_gbrg16', 'uint16', 1),
    ('bayer_grbg16', 'uint16', 1),
    ('yuv422', 'uint8', 2),
    ('yuv422_yuy2', 'uint8', 2),
    ('8UC1', 'uint8', 1),
    ('8UC2', 'uint8', 2),
    ('8UC3', 'uint8', 3),
    ('8SC1', 'int8', 1),
    ('16UC1', 'uint16', 1),
    ('16SC2', 'int16', 2),
    ('32SC1', 'int32', 1),
    ('32FC1', 'float32', 1),
    ('32FC3', 'float32', 3),
    ('64FC4', 'float64', 4),
    ('16U', 'uint16', 1),
    ('32F', 'float32', 1),
]


def random_image(dtype: str, channels: int, height: int = 6, width: int = 8) -> np.ndarray:
    """Return (H, W) or (H, W, C) over the full range of the type (0 to 1 for floats)."""
    rng = np.random.default_rng(7)
    shape = (height, width) if channels == 1 else (height, width, channels)
    if np.dtype(dtype).kind == 'f':
        return rng.random(shape).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)


def make_message(image: np.ndarray, encoding: str, padding: int = 0) -> Image:
    """Return a message with ``padding`` bytes of 0xA5 at the end of each row."""
    rows = [row.tobytes() + b'\xa5' * padding for row in image]
    message = Image(height=image.shape[0], width=image.shape[1], encoding=encoding)
    message.step = len(rows[0])
    message.is_bigendian = image.dtype.byteorder == '>'
    message.data = array.array('B', b''.join(rows))
    return message


def convert(image: np.ndarray, source: str, target: str) -> np.ndarray:
    return CvBridge().imgmsg_to_cv2(make_message(image, source), target)


class TestMessageToArray:
    @pytest.mark.parametrize(('encoding', 'dtype', 'channels'), ENCODINGS)
    def test_passthrough_returns_unchanged_pixels(self, encoding, dtype, channels):
        image = random_image(dtype, channels)
        result = CvBridge().imgmsg_to_cv2(make_message(image, encoding))
        assert result.dtype == image.dtype
        np.testing.assert_array_equal(result, image)

    @pytest.mark.parametrize(('encoding', 'dtype', 'channels'), ENCODINGS)
    def test_row_padding_is_removed(self, encoding, dtype, channels):
        image = random_image(dtype, channels)
        padding = 5 * np.dtype(dtype).itemsize * channels
        result = CvBridge().imgmsg_to_cv2(make_message(image, encoding, padding))
        assert result.flags['C_CONTIGUOUS']
        np.testing.assert_array_equal(result, image)

    @pytest.mark.parametrize('dtype', ['uint16', 'float32'])
    @pytest.mark.parametrize('padded', [False, True])
    def test_big_endian_values_are_kept(self, dtype, padded):
        image = random_image(dtype, 1)
        encoding = {'uint16': 'mono16', 'float32': '32FC1'}[dtype]
        message = make_message(image.astype(np.dtype(dtype).newbyteorder('>')), encoding)
        if padded:
            padding = 3 * image.dtype.itemsize
            swapped = image.astype(np.dtype(dtype).newbyteorder('>'))
            message = make_message(swapped, encoding, padding)
        assert message.is_bigendian
        np.testing.assert_array_equal(CvBridge().imgmsg_to_cv2(message), image)

    def test_passthrough_without_padding_is_a_view(self):
        message = make_message(random_image('uint8', 3), 'rgb8')
        result = CvBridge().imgmsg_to_cv2(message)
        assert np.shares_memory(result, np.frombuffer(message.data, np.uint8))

    @pytest.mark.parametrize('target', ['rgb8', 'bgr8', 'mono8'])
    def test_conversions_copy_the_data(self, target):
        message = make_message(random_image('uint8', 3), 'rgb8')
        result = CvBridge().imgmsg_to_cv2(message, target)
        assert not np.shares_memory(result, np.frombuffer(message.data, np.uint8))

    def test_too_little_data_is_refused(self):
        message = make_message(random_image('uint8', 3), 'rgb8')
        message.data = message.data[:-1]
        with pytest.raises(TypeError):
            CvBridge().imgmsg_to_cv2(message)

    @pytest.mark.parametrize('encoding', ['', 'nonsense', 'rgb', 'nv12', 'jpeg', '8UC', '24UC1'])
    def test_unknown_encodings_are_named_in_the_error(self, encoding):
        message = make_message(random_image('uint8', 1), encoding)
        with pytest.raises(CvBridgeError, match=rf'Unrecognized image encoding \[{encoding}\]'):
            CvBridge().imgmsg_to_cv2(message)


class TestColours:
    def test_order_of_channels(self):
        image = random_image('uint8', 3)
        np.testing.assert_array_equal(convert(image, 'rgb8', 'bgr8'), image[..., ::-1])

    @pytest.mark.parametrize('bits', ['8', '16'])
    @pytest.mark.parametrize('source', ['mono', 'rgb', 'bgr', 'rgba', 'bgra'])
    @pytest.mark.parametrize('target', ['mono', 'rgb', 'bgr', 'rgba', 'bgra'])
    def test_every_pair_of_colour_formats(self, bits, source, target):
        channels = {'mono': 1, 'rgb': 3, 'bgr': 3, 'rgba': 4, 'bgra': 4}
        image = random_image('uint' + bits, channels[source])
        result = convert(image, source + bits, target + bits)
        if source == target:
            np.testing.assert_array_equal(result, image)
            return
        names = {'mono': 'GRAY'}
        code = f'COLOR_{names.get(source, source.upper())}2{names.get(target, target.upper())}'
        np.testing.assert_array_equal(result, cv2.cvtColor(image, getattr(cv2, code)))

    @pytest.mark.parametrize(
        ('pattern', 'red', 'blue'),
        [
            ('rggb', (0, 0), (1, 1)),
            ('bggr', (1, 1), (0, 0)),
            ('gbrg', (1, 0), (0, 1)),
            ('grbg', (0, 1), (1, 0)),
        ],
    )
    @pytest.mark.parametrize('dtype', ['uint8', 'uint16'])
    def test_bayer_mosaic_of_one_colour(self, pattern, red, blue, dtype):
        scale = 1 if dtype == 'uint8' else 257
        mosaic = np.full((8, 8), 60 * scale, dtype)
        mosaic[red[0] :: 2, red[1] :: 2] = 200 * scale
        mosaic[blue[0] :: 2, blue[1] :: 2] = 20 * scale
        bits = '8' if dtype == 'uint8' else '16'
        result = convert(mosaic, f'bayer_{pattern}{bits}', f'rgb{bits}')
        np.testing.assert_array_equal(
            result[2:-2, 2:-2], np.broadcast_to(np.array([200, 60, 20]) * scale, (4, 4, 3))
        )
        np.testing.assert_array_equal(
            convert(mosaic, f'bayer_{pattern}{bits}', f'bgr{bits}'), result[..., ::-1]
        )

    @pytest.mark.parametrize('target', ['mono8', 'rgb8', 'bgr8', 'rgba8', 'bgra8'])
    @pytest.mark.parametrize(('encoding', 'suffix'), [('yuv422', 'UYVY'), ('yuv422_yuy2', 'YUY2')])
    def test_yuv(self, encoding, suffix, target):
        image = random_image('uint8', 2)
        name = {'mono8': 'GRAY'}.get(target, target[:-1].upper())
        expected = cv2.cvtColor(image, getattr(cv2, f'COLOR_YUV2{name}_{suffix}'))
        np.testing.assert_array_equal(convert(image, encoding, target), expected)

    def test_grey_yuv_is_grey_in_rgb(self):
        image = np.full((4, 6, 2), 128, np.uint8)
        image[..., 1] = 90  # U Y V Y: the first channel is chroma, the second luma
        red, green, blue = convert(image, 'yuv422', 'rgb8').reshape(-1, 3).T
        np.testing.assert_array_equal(red, green)
        np.testing.assert_array_equal(green, blue)


class TestDepthOfSamples:
    def test_8_and_16_bits_are_scaled_to_full_range(self):
        image = np.arange(256, dtype=np.uint8).reshape(16, 16)
        wide = convert(image, 'mono8', 'mono16')
        np.testing.assert_array_equal(wide, image.astype(np.uint16) * 257)
        np.testing.assert_array_equal(convert(wide, 'mono16', 'mono8'), image)

    def test_16_bits_are_rounded_to_8_bits(self):
        image = np.arange(65536, dtype=np.uint16).reshape(256, 256)
        expected = np.rint(image.astype(np.float64) / 257).astype(np.uint8)
        np.testing.assert_array_equal(convert(image, 'mono16', 'mono8'), expected)

    def test_colour_and_depth_conversion_combined(self):
        image = random_image('uint16', 3)
        swapped = image[..., ::-1].astype(np.float64)
        np.testing.assert_array_equal(
            convert(image, 'rgb16', 'bgr8'), np.rint(swapped / 257).astype(np.uint8)
        )

    def test_generic_types_keep_values(self):
        image = random_image('uint16', 1)
        result = convert(image, '16UC1', '32FC1')
        assert result.dtype == np.float32
        np.testing.assert_array_equal(result, image.astype(np.float32))

    def test_floats_are_rounded_half_to_even_and_clipped(self):
        image = np.array([[-3.0, 0.5, 1.5, 2.5, 65534.6, 70000.0, np.nan]], np.float32)
        np.testing.assert_array_equal(
            convert(image, '32FC1', '16UC1'), [[0, 0, 2, 2, 65535, 65535, 0]]
        )

    def test_mono_to_a_generic_type(self):
        image = random_image('uint8', 1)
        np.testing.assert_array_equal(convert(image, 'mono8', '32FC1'), image.astype(np.float32))
        np.testing.assert_array_equal(convert(image, 'mono8', '8UC1'), image)


class TestRefusedConversions:
    @pytest.mark.parametrize(
        ('source', 'dtype', 'channels', 'target', 'reason'),
        [
            ('16UC1', 'uint16', 1, 'mono16', 'is not a color format'),
            ('8UC3', 'uint8', 3, 'bgr8', 'is not a color format'),
            ('8UC3', 'uint8', 3, '8UC1', 'do not have the same number of channel'),
            ('rgb8', 'uint8', 3, '8UC1', 'is a color format but'),
            ('rgb8', 'uint8', 3, 'yuv422', 'Unsupported conversion'),
            ('mono8', 'uint8', 1, 'bayer_rggb8', 'Unsupported conversion'),
            ('bayer_rggb8', 'uint8', 1, 'rgba8', 'Unsupported conversion'),
            ('bayer_rggb8', 'uint8', 1, 'bayer_rggb16', 'Unsupported conversion'),
        ],
    )
    def test_errors_name_the_reason(self, source, dtype, channels, target, reason):
        with pytest.raises(CvBridgeError, match=reason):
            convert(random_image(dtype, channels), source, target)

    def test_unknown_target_is_refused(self):
        with pytest.raises(CvBridgeError):
            convert(random_image('uint8', 3), 'rgb8', 'nonsense')


class TestArrayToMessage:
    @pytest.mark.parametrize(('encoding', 'dtype', 'channels'), ENCODINGS)
    def test_round_trip(self, encoding, dtype, channels):
        if not encoding[-1].isdigit() or encoding == 'yuv422_yuy2':
            encoding = f'{encoding}C1' if channels == 1 else encoding
        image = random_image(dtype, channels)
        message = CvBridge().cv2_to_imgmsg(image, encoding)
        assert (message.height, message.width) == (6, 8)
        assert message.encoding == encoding
        assert message.step == 8 * channels * np.dtype(dtype).itemsize
        assert isinstance(message.data, array.array)
        assert message.data.tobytes() == image.tobytes()
        assert message.is_bigendian == (sys.byteorder == 'big')
        np.testing.assert_array_equal(CvBridge().imgmsg_to_cv2(message), image)

    @pytest.mark.parametrize(
        ('dtype', 'channels', 'encoding'),
        [
            ('uint8', 1, '8UC1'),
            ('uint8', 3, '8UC3'),
            ('uint16', 1, '16UC1'),
            ('float32', 1, '32FC1'),
            ('float64', 2, '64FC2'),
            ('int32', 1, '32SC1'),
        ],
    )
    def test_passthrough_names_a_generic_encoding(self, dtype, channels, encoding):
        message = CvBridge().cv2_to_imgmsg(random_image(dtype, channels))
        assert message.encoding == encoding

    def test_non_contiguous_arrays(self):
        image = random_image('uint8', 3, width=16)[:, ::2, ::-1]
        message = CvBridge().cv2_to_imgmsg(image, 'bgr8')
        np.testing.assert_array_equal(CvBridge().imgmsg_to_cv2(message), image)

    def test_big_endian_arrays_are_marked(self):
        image = random_image('uint16', 1)
        message = CvBridge().cv2_to_imgmsg(image.astype('>u2'), 'mono16')
        assert message.is_bigendian
        np.testing.assert_array_equal(CvBridge().imgmsg_to_cv2(message), image)

    def test_header_is_copied(self):
        header = Header(frame_id='camera_optical_frame')
        header.stamp.sec, header.stamp.nanosec = 12, 345
        message = CvBridge().cv2_to_imgmsg(random_image('uint8', 1), 'mono8', header=header)
        assert message.header == header

    @pytest.mark.parametrize(
        ('dtype', 'channels', 'encoding'),
        [
            ('uint8', 3, 'mono8'),
            ('uint8', 3, 'rgba8'),
            ('float32', 1, '16UC1'),
            ('uint16', 3, 'rgb8'),
        ],
    )
    def test_an_encoding_of_another_type_is_refused(self, dtype, channels, encoding):
        with pytest.raises(CvBridgeError, match=f'encoding specified as {encoding}'):
            CvBridge().cv2_to_imgmsg(random_image(dtype, channels), encoding)

    def test_other_types_than_arrays_are_refused(self):
        with pytest.raises(TypeError, match='not a numpy array'):
            CvBridge().cv2_to_imgmsg([[1, 2], [3, 4]])


class TestCompressed:
    @pytest.mark.parametrize('channels', [1, 3, 4])
    def test_png_is_lossless(self, channels):
        image = random_image('uint8', channels)
        message = CvBridge().cv2_to_compressed_imgmsg(image, 'png')
        assert message.format == 'png'
        assert isinstance(message.data, array.array)
        np.testing.assert_array_equal(CvBridge().compressed_imgmsg_to_cv2(message), image)

    def test_png_of_16_bits(self):
        image = random_image('uint16', 1)
        message = CvBridge().cv2_to_compressed_imgmsg(image, 'png')
        np.testing.assert_array_equal(CvBridge().compressed_imgmsg_to_cv2(message), image)

    def test_jpeg_is_close_to_the_image(self):
        rows, columns = np.mgrid[0:64, 0:64]
        image = np.stack([rows * 2, columns * 2, rows + columns], axis=-1).astype(np.uint8)
        message = CvBridge().cv2_to_compressed_imgmsg(image)
        assert message.format == 'jpg'
        result = CvBridge().compressed_imgmsg_to_cv2(message)
        assert np.abs(result.astype(int) - image).mean() < 3

    def test_colour_comes_as_bgr_and_can_be_converted(self):
        image = random_image('uint8', 3)
        message = CvBridge().cv2_to_compressed_imgmsg(image, 'png')
        result = CvBridge().compressed_imgmsg_to_cv2(message, 'rgb8')
        np.testing.assert_array_equal(result, image[..., ::-1])

    def test_data_that_are_not_an_image_give_none(self):
        message = CompressedImage(format='jpeg')
        message.data = array.array('B', b'not an image at all')
        assert CvBridge().compressed_imgmsg_to_cv2(message) is None

    def test_other_types_than_arrays_are_refused(self):
        with pytest.raises(TypeError, match='not a numpy array'):
            CvBridge().cv2_to_compressed_imgmsg('image')


class TestTypes:
    @pytest.mark.parametrize(('encoding', 'dtype', 'channels'), ENCODINGS)
    def test_encoding_to_type(self, encoding, dtype, channels):
        assert CvBridge().encoding_to_dtype_with_channels(encoding) == (dtype, channels)

    def test_type_numbers_are_those_of_opencv(self):
        assert cv_bridge.getCvType('bgr8') == cv2.CV_8UC3
        assert cv_bridge.getCvType('bayer_grbg16') == cv2.CV_16UC1
        assert cv_bridge.getCvType('32FC4') == cv2.CV_32FC4
        assert CvBridge().encoding_to_cvtype2('64F') == cv2.CV_64FC1

    def test_type_of_an_unknown_encoding(self):
        with pytest.raises(RuntimeError, match='Unrecognized image encoding'):
            cv_bridge.getCvType('nonsense')
        with pytest.raises(CvBridgeError):
            CvBridge().encoding_to_cvtype2('nonsense')
