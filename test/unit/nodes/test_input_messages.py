# SPDX-License-Identifier: Apache-2.0
"""Messages in and out: every encoding, every contradiction, REP 117 and 118, clouds."""

import struct

import cv2
from hypothesis import given, settings, strategies as st
import numpy as np
import pytest

pytest.importorskip('sensor_msgs', reason='needs the ROS message packages')
pytest.importorskip('dualfocus_ros.msg', reason='needs the built messages: make build')

from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointField
from sensor_msgs_py import point_cloud2
from std_msgs.msg import Header

from dualfocus_ros import stamps
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.msg import FocalStack as FocalStackMsg
from dualfocus_ros.nodes import (
    compressed_images,
    image_decoding,
    input_messages,
    output_messages,
    raw_images,
)
from dualfocus_ros.nodes.message_checks import MessageError

MAX_PIXELS = 1 << 20


def image_message(data, encoding, width, height, step=None, big=0):
    message = Image(
        width=width,
        height=height,
        encoding=encoding,
        is_bigendian=big,
        step=len(data) // height if step is None else step,
    )
    message.data = data
    return message


def padded(array, extra):
    """Return the bytes of an image whose rows have ``extra`` bytes behind them."""
    rows = array.reshape(array.shape[0], -1).view(np.uint8)
    return np.pad(rows, ((0, 0), (0, extra)), constant_values=255).tobytes()


@pytest.fixture
def rgb():
    return np.random.default_rng(5).integers(0, 256, (6, 8, 3), dtype=np.uint8)


class TestEncodings:
    def test_rgb8_and_mono8_are_views_of_the_message(self, rgb):
        message = image_message(rgb.tobytes(), 'rgb8', 8, 6)
        array = raw_images.image_to_array(message, MAX_PIXELS)
        np.testing.assert_array_equal(array, rgb)
        assert np.shares_memory(array, np.frombuffer(message.data, np.uint8))
        mono = image_message(rgb[..., 0].tobytes(), 'mono8', 8, 6)
        np.testing.assert_array_equal(raw_images.image_to_array(mono, MAX_PIXELS), rgb[..., 0])

    @pytest.mark.fault(12)
    @pytest.mark.parametrize('encoding', ['rgb8', 'bgr8', 'mono8', '8UC1', '8UC3'])
    @pytest.mark.parametrize('extra', [0, 1, 5, 64])
    @pytest.mark.parametrize('big', [0, 1])
    def test_eight_bits_with_padding_and_any_byte_order(self, rgb, encoding, extra, big):
        source = rgb[..., 0] if encoding in ('mono8', '8UC1') else rgb
        sent = np.ascontiguousarray(source[..., ::-1]) if encoding in ('bgr8', '8UC3') else source
        sent = np.ascontiguousarray(sent)
        row = sent[0].nbytes + extra
        message = image_message(padded(sent, extra), encoding, 8, 6, row, big)
        array = raw_images.image_to_array(message, MAX_PIXELS)
        np.testing.assert_array_equal(array, source)
        assert array.flags.c_contiguous

    @pytest.mark.parametrize('encoding', ['rgba8', 'bgra8'])
    def test_alpha_is_dropped(self, rgb, encoding):
        sent = np.dstack([rgb if encoding == 'rgba8' else rgb[..., ::-1], rgb[..., 0]])
        message = image_message(sent.tobytes(), encoding, 8, 6)
        np.testing.assert_array_equal(raw_images.image_to_array(message, MAX_PIXELS), rgb)

    @pytest.mark.fault(12)
    @pytest.mark.parametrize('encoding', ['mono16', 'rgb16', 'bgr16', 'rgba16'])
    @pytest.mark.parametrize('order', ['<', '>'])
    @pytest.mark.parametrize('extra', [0, 2, 6])
    def test_sixteen_bits_in_both_byte_orders(self, rgb, encoding, order, extra):
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
        array = raw_images.image_to_array(message, MAX_PIXELS)
        assert array.dtype == np.uint8
        assert np.abs(array.astype(int) - source).max() <= 1

    @pytest.mark.fault(14)
    @pytest.mark.parametrize('pattern', ['rggb', 'bggr', 'gbrg', 'grbg'])
    @pytest.mark.parametrize('bits', [8, 16])
    def test_bayer_of_a_flat_colour(self, pattern, bits):
        colour = {'r': 200, 'g': 120, 'b': 40}
        cell = np.array([[colour[c] for c in pattern[:2]], [colour[c] for c in pattern[2:]]])
        mosaic = np.tile(cell, (6, 8)).astype(np.uint8 if bits == 8 else np.uint16)
        if bits == 16:
            mosaic *= 257
        message = image_message(mosaic.tobytes(), f'bayer_{pattern}{bits}', 16, 12)
        array = raw_images.image_to_array(message, MAX_PIXELS)
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
    def test_yuv422_of_a_grey_ramp(self, encoding, order):
        luma = np.tile(np.linspace(40, 200, 8).astype(np.uint8), (6, 1))
        packed = np.full((6, 8, 2), 128, np.uint8)
        packed[..., 1 if order == 'uyvy' else 0] = luma
        array = raw_images.image_to_array(
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
        array = raw_images.image_to_array(
            image_message(data, encoding, 8, 6, 8 + extra), MAX_PIXELS
        )
        assert np.abs(array.astype(int) - rgb).max() <= 3

    @pytest.mark.fault(14)
    @pytest.mark.parametrize('encoding', ['', '32FC1', '16UC1', 'yuv444', 'nonsense'])
    def test_other_encodings_are_refused_and_the_accepted_named(self, encoding):
        with pytest.raises(MessageError, match=r'rgb8.*bayer_rggb8') as error:
            raw_images.image_to_array(image_message(bytes(96), encoding, 4, 3), MAX_PIXELS)
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
    def test_sizes_are_checked_before_anything_else(self, rgb, change, reason):
        message = image_message(rgb.tobytes(), 'rgb8', 8, 6)
        for name, value in change.items():
            setattr(message, name, value)
        with pytest.raises(MessageError) as error:
            raw_images.image_to_array(message, MAX_PIXELS)
        assert error.value.reason == reason

    @pytest.mark.fault(13)
    def test_the_limit_is_exact_and_named(self, rgb):
        message = image_message(rgb.tobytes(), 'rgb8', 8, 6)
        assert raw_images.image_to_array(message, 48).shape == (6, 8, 3)
        with pytest.raises(MessageError, match=r'8x6 is more than the 47 pixels'):
            raw_images.image_to_array(message, 47)

    @pytest.mark.fault(12)
    @given(
        st.sampled_from([*raw_images.PIXEL_LAYOUTS, 'x']),
        st.integers(0, 12),
        st.integers(0, 12),
        st.integers(0, 100),
        st.integers(0, 1),
        st.binary(max_size=600),
    )
    @settings(max_examples=500, deadline=None)
    def test_any_fields_give_an_image_or_an_error(self, encoding, width, height, step, big, data):
        message = Image(width=width, height=height, encoding=encoding, step=step, is_bigendian=big)
        message.data = data
        try:
            array = raw_images.image_to_array(message, 100)
        except MessageError as error:
            assert error.reason
            assert str(error)
        else:
            assert array.shape[:2] == (height, width)
            assert array.dtype == np.uint8

    @given(
        st.sampled_from(list(raw_images.PIXEL_LAYOUTS)),
        st.integers(1, 8),
        st.integers(1, 8),
        st.integers(0, 9),
        st.integers(0, 1),
    )
    @settings(max_examples=300, deadline=None)
    def test_consistent_fields_give_an_image(self, encoding, width, height, extra, big):
        even = encoding.startswith(('nv', 'yuv', 'uyvy', 'yuyv', 'bayer'))
        width, height = (2 * width, 2 * height) if even else (width, height)
        layout = raw_images.PIXEL_LAYOUTS[encoding]
        step = width * layout.pixel + extra
        rows = height * 3 // 2 if encoding.startswith('nv') else height
        message = Image(width=width, height=height, encoding=encoding, step=step, is_bigendian=big)
        message.data = bytes(step * rows)
        array = raw_images.image_to_array(message, MAX_PIXELS)
        assert array.shape == ((height, width) if layout.mono else (height, width, 3))


class TestCompressed:
    def encode(self, image, ending, kind='jpeg'):
        message = CompressedImage(format=f'rgb8; {kind} compressed bgr8')
        message.data = cv2.imencode(ending, image)[1].tobytes()
        return message

    def test_png_is_exact_and_rgb(self, rgb):
        message = self.encode(rgb[..., ::-1], '.png', 'png')
        np.testing.assert_array_equal(
            compressed_images.compressed_to_array(message, MAX_PIXELS), rgb
        )

    def test_jpeg_colour_and_mono(self):
        image = np.full((16, 24, 3), (30, 90, 200), np.uint8)
        array = compressed_images.compressed_to_array(self.encode(image, '.jpg'), MAX_PIXELS)
        assert np.abs(array.astype(int) - (200, 90, 30)).max() <= 4
        mono = compressed_images.compressed_to_array(
            self.encode(image[..., 0], '.jpg'), MAX_PIXELS
        )
        assert mono.shape == (16, 24)

    @pytest.mark.fault(13)
    def test_the_size_is_known_before_decoding(self, monkeypatch):
        for ending in ('.jpg', '.png'):
            message = self.encode(np.zeros((40, 50, 3), np.uint8), ending)
            assert compressed_images.encoded_size(message.data) == (50, 40)
            monkeypatch.setattr(cv2, 'imdecode', lambda *a: pytest.fail('decoded'))
            with pytest.raises(MessageError) as error:
                compressed_images.compressed_to_array(message, 1999)
            assert error.value.reason == 'too_large'
            monkeypatch.undo()

    @pytest.mark.fault(13)
    def test_a_png_that_claims_to_be_huge_is_not_decoded(self):
        header = b'\x89PNG\r\n\x1a\n' + struct.pack('>I4sII', 13, b'IHDR', 2**31 - 1, 2**31 - 1)
        message = CompressedImage(format='png')
        message.data = header + bytes(100)
        with pytest.raises(MessageError) as error:
            compressed_images.compressed_to_array(message, MAX_PIXELS)
        assert error.value.reason == 'too_large'

    @pytest.mark.fault(13)
    @pytest.mark.parametrize('length', [2**30, 2**31 - 1, 2**31, 2**32 - 1, 200])
    @pytest.mark.parametrize('chunk', [b'IDAT', b'IEND'])
    def test_a_part_of_a_png_that_claims_to_be_huge_is_not_read(self, chunk, length, monkeypatch):
        message = self.encode(np.zeros((4, 4, 3), np.uint8), '.png')
        data = bytearray(message.data)
        at = data.index(chunk) - 4
        data[at : at + 4] = struct.pack('>I', length)
        message.data = bytes(data)
        # The decoder would allocate it.
        monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('was decoded'))
        with pytest.raises(MessageError, match='truncated or damaged') as error:
            compressed_images.compressed_to_array(message, MAX_PIXELS)
        assert error.value.reason == 'undecodable'

    @pytest.mark.parametrize('chunk', [b'IHDR' + bytes(13), b'acTL' + bytes(8)])
    def test_a_png_of_several_pictures_is_refused(self, chunk, monkeypatch):
        message = self.encode(np.zeros((4, 4, 3), np.uint8), '.png')
        data = bytes(message.data)
        at = data.index(b'IDAT') - 4
        length = struct.pack('>I', len(chunk) - 4)
        message.data = data[:at] + length + chunk + bytes(4) + data[at:]
        monkeypatch.setattr(cv2, 'imdecode', lambda *_: pytest.fail('was decoded'))
        with pytest.raises(MessageError, match='several frames'):
            compressed_images.compressed_to_array(message, MAX_PIXELS)

    @pytest.mark.fault(12)
    @pytest.mark.parametrize('ending', ['.jpg', '.png'])
    def test_damaged_data_is_refused(self, ending):
        image = np.random.default_rng(0).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        message = self.encode(image, ending)
        whole = bytes(message.data)
        for keep in (0, 1, 8, 24, 40):
            message.data = whole[:keep]
            with pytest.raises(MessageError):
                compressed_images.compressed_to_array(message, MAX_PIXELS)

    def test_a_compressed_depth_image_is_no_picture(self):
        with pytest.raises(MessageError, match='depth'):
            compressed_images.compressed_to_array(
                CompressedImage(format='32FC1; compressedDepth png'), MAX_PIXELS
            )

    @pytest.mark.fault(12)
    @given(st.binary(max_size=200), st.sampled_from([b'', b'\xff\xd8', b'\x89PNG\r\n\x1a\n']))
    @settings(max_examples=300, deadline=None)
    def test_any_bytes_give_an_image_or_an_error(self, data, start):
        message = CompressedImage(format='jpeg')
        message.data = start + data
        with pytest.raises(MessageError):
            compressed_images.compressed_to_array(message, MAX_PIXELS)


def camera_info(width=640, height=480, fx=500.0, **changes):
    message = CameraInfo(
        width=width,
        height=height,
        distortion_model='plumb_bob',
        d=[0.0] * 5,
        k=[fx, 0.0, 320.0, 0.0, fx + 5, 240.0, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[fx, 0.0, 320.0, 0.0, 0.0, fx + 5, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0],
    )
    for name, value in changes.items():
        setattr(message, name, value)
    return message


class TestOutline:
    def test_it_has_the_shape_of_the_image_and_no_memory(self, rgb):
        message = image_message(rgb.tobytes(), 'bgr8', 8, 6)
        blank = image_decoding.blank_image(message, MAX_PIXELS)
        assert blank.shape == raw_images.image_to_array(message, MAX_PIXELS).shape
        assert blank.strides == (0, 0, 0)
        mono = image_message(rgb[..., 0].tobytes(), 'mono8', 8, 6)
        assert image_decoding.blank_image(mono, MAX_PIXELS).shape == (6, 8)

    def test_a_compressed_image_is_not_decoded(self, rgb, monkeypatch):
        message = TestCompressed().encode(rgb, '.png', 'png')
        monkeypatch.setattr(cv2, 'imdecode', lambda *a: pytest.fail('decoded'))
        assert image_decoding.blank_image(message, MAX_PIXELS).shape == (6, 8, 3)

    @pytest.mark.fault(12)
    def test_what_the_header_contradicts_is_refused(self, rgb):
        with pytest.raises(MessageError):
            image_decoding.blank_image(image_message(rgb.tobytes(), 'rgb8', 9, 6), MAX_PIXELS)
        with pytest.raises(MessageError):
            image_decoding.blank_image(CompressedImage(format='jpeg'), MAX_PIXELS)


class TestCalibration:
    def test_plain(self):
        found = input_messages.calibration_from_msg(camera_info())
        assert found.camera == PinholeCamera(640, 480, 500.0, 505.0, 320.0, 240.0)
        assert found.is_rectified

    def test_without_p_and_r_the_image_is_its_own_rectified_one(self):
        found = input_messages.calibration_from_msg(camera_info(p=[0.0] * 12, r=[0.0] * 9))
        assert found.output == found.camera
        assert found.is_rectified

    @pytest.mark.fault(15)
    def test_k_of_zero_is_uncalibrated(self):
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
    def test_what_makes_no_sense_is_refused(self, changes):
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

    def test_stamps_are_exact_both_ways(self):
        nanoseconds = 1_700_000_123_456_789_012
        assert stamps.to_ns(stamps.to_stamp(nanoseconds)) == nanoseconds


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
    def test_what_is_wrong_is_named(self, rgb, change, reason):
        message = self.message(rgb)
        change(message)
        with pytest.raises(MessageError) as error:
            input_messages.focal_stack_from_msg(message, MAX_PIXELS)
        assert error.value.reason == reason

    @pytest.mark.fault(13)
    @pytest.mark.parametrize('count', [0, 1, 33])
    def test_too_few_or_too_many_planes(self, rgb, count):
        with pytest.raises(MessageError, match='2 to 32'):
            input_messages.focal_stack_from_msg(self.message(rgb, focus=range(count)), MAX_PIXELS)


class TestOutgoing:
    DEPTH = np.array(
        [[1.2345, np.nan, np.inf], [-np.inf, 65.535, 65.536], [0.0004, 0.0006, 2.0]], np.float32
    )

    def test_32fc1_keeps_the_special_values(self):
        message = output_messages.depth_message(Header(frame_id='c'), self.DEPTH, '32FC1')
        assert (message.encoding, message.step, message.header.frame_id) == ('32FC1', 12, 'c')
        back = np.frombuffer(message.data, np.float32).reshape(3, 3)
        np.testing.assert_array_equal(back, self.DEPTH)

    def test_16uc1_is_millimetres_and_zero_where_there_is_no_distance(self):
        message = output_messages.depth_message(Header(), self.DEPTH, '16UC1')
        assert (message.encoding, message.step) == ('16UC1', 6)
        back = np.frombuffer(message.data, np.uint16).reshape(3, 3)
        np.testing.assert_array_equal(back, [[1234, 0, 0], [0, 65535, 0], [0, 1, 2000]])

    def test_camera_info_is_that_of_a_rectified_image(self):
        camera = PinholeCamera(640, 480, 500.0, 505.0, 321.0, 242.0)
        message = output_messages.camera_message(Header(frame_id='c'), camera)
        k, p = np.array(message.k).reshape(3, 3), np.array(message.p).reshape(3, 4)
        np.testing.assert_array_equal(p[:, :3], k)
        np.testing.assert_array_equal(k, [[500, 0, 321], [0, 505, 242], [0, 0, 1]])
        assert not any(message.d)
        np.testing.assert_array_equal(np.array(message.r).reshape(3, 3), np.eye(3))
        assert input_messages.calibration_from_msg(message).camera == camera

    def test_an_organised_cloud_reads_back_with_sensor_msgs_py(self):
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

    def test_without_colour_a_point_still_has_16_bytes(self):
        message = output_messages.cloud_message(
            Header(), np.zeros((2, 3, 4), np.float32), color=False
        )
        assert [field.name for field in message.fields] == ['x', 'y', 'z']
        assert message.point_step == 16

    @pytest.mark.parametrize('count', [0, 7])
    def test_an_unorganised_cloud(self, count):
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
    def test_stamp_policy_takes_the_stamp_of_a_plane(self, policy, expected):
        image = np.zeros((2, 2), np.uint8)
        stack = FocalStack(
            tuple(
                Plane(image, focus, stamp) for focus, stamp in ((0.2, 100), (0.9, 200), (1.5, 400))
            )
        )
        assert output_messages.output_stamp(stack, policy) == expected
