# SPDX-License-Identifier: Apache-2.0
"""Decoded values of a known picture in every encoding, padded and in both byte orders."""

import cv2
import numpy as np
import pytest

pytest.importorskip('sensor_msgs', reason='needs the ROS message packages')
pytest.importorskip('dualfocus_ros.msg', reason='needs the built messages: make build')

from sensor_msgs.msg import CompressedImage, Image

from dualfocus_ros.nodes.messages import image_decoding

WIDTH, HEIGHT = 32, 24
_V, _U = np.mgrid[:HEIGHT, :WIDTH]
# Linear in both directions and different in each channel: chroma subsampling loses nothing, and
# swapped channels or rows and shifts by a pixel are visible.
PICTURE = np.dstack([40 + 5 * _U, 60 + 6 * _V, 230 - 4 * _U - 2 * _V]).astype(np.uint8)
GREY = PICTURE[..., 0] // 2 + PICTURE[..., 1] // 2


def yuv(picture):
    """Return Y, Cb and Cr of a picture by ITU-R BT.601, video range, as floats."""
    r, g, b = (picture[..., n].astype(float) / 255.0 for n in range(3))
    return (
        16.0 + 65.481 * r + 128.553 * g + 24.966 * b,
        128.0 - 37.797 * r - 74.203 * g + 112.0 * b,
        128.0 + 112.0 * r - 93.786 * g - 18.214 * b,
    )


def packed_yuv(order):
    """Return (H, W, 2) samples: each pair of pixels has one Cb and one Cr."""
    luma, cb, cr = yuv(PICTURE)
    out = np.empty((HEIGHT, WIDTH, 2), np.uint8)
    at = order.index('y')
    out[..., at] = np.rint(luma)
    for chroma, name in ((cb, 'u'), (cr, 'v')):
        mean = np.rint(0.5 * (chroma[:, ::2] + chroma[:, 1::2]))
        out[:, order.index(name) // 2 :: 2, 1 - at] = mean
    return out


def semi_planar(order):
    """Return (1.5 H, W) samples: luma, then interleaved Cb and Cr of every 2 x 2 pixels."""
    luma, *chroma = yuv(PICTURE)
    small = [c.reshape(HEIGHT // 2, 2, WIDTH // 2, 2).mean(axis=(1, 3)) for c in chroma]
    if order == 'vu':
        small.reverse()
    below = np.stack(small, axis=-1).reshape(HEIGHT // 2, WIDTH)
    return np.rint(np.vstack([luma, below])).astype(np.uint8)


def mosaic(pattern):
    """Return (H, W) samples of a 2 x 2 Bayer pattern."""
    out = np.empty((HEIGHT, WIDTH), np.uint8)
    for n, colour in enumerate(pattern):
        rows, columns = np.s_[n // 2 :: 2], np.s_[n % 2 :: 2]
        out[rows, columns] = PICTURE[rows, columns, 'rgb'.index(colour)]
    return out


def with_alpha(picture):
    return np.dstack([picture, 255 - picture[..., 1]])


BGR = PICTURE[..., ::-1]
# Encoding: sent samples, expected picture, tolerance of the values.
CASES = {
    'mono8': (GREY, GREY, 0),
    '8UC1': (GREY, GREY, 0),
    'rgb8': (PICTURE, PICTURE, 0),
    'bgr8': (BGR, PICTURE, 0),
    '8UC3': (BGR, PICTURE, 0),
    'rgba8': (with_alpha(PICTURE), PICTURE, 0),
    'bgra8': (with_alpha(BGR), PICTURE, 0),
    'yuv422': (packed_yuv('uyvy'), PICTURE, 5),
    'uyvy': (packed_yuv('uyvy'), PICTURE, 5),
    'yuv422_yuy2': (packed_yuv('yuyv'), PICTURE, 5),
    'yuyv': (packed_yuv('yuyv'), PICTURE, 5),
    'nv12': (semi_planar('uv'), PICTURE, 8),
    'nv21': (semi_planar('vu'), PICTURE, 8),
    **{f'bayer_{p}8': (mosaic(p), PICTURE, 1) for p in ('rggb', 'bggr', 'gbrg', 'grbg')},
}
WIDE = {
    'mono16': (GREY, GREY, 1),
    'rgb16': (PICTURE, PICTURE, 1),
    'bgr16': (BGR, PICTURE, 1),
    'rgba16': (with_alpha(PICTURE), PICTURE, 1),
    'bgra16': (with_alpha(BGR), PICTURE, 1),
    **{f'bayer_{p}16': (mosaic(p), PICTURE, 1) for p in ('rggb', 'bggr', 'gbrg', 'grbg')},
}


def message(sent, encoding, extra, big=0):
    """Return the message of an array with ``extra`` bytes of padding per row."""
    rows = np.ascontiguousarray(sent).reshape(sent.shape[0], -1).view(np.uint8)
    msg = Image(
        width=WIDTH,
        height=HEIGHT,
        encoding=encoding,
        is_bigendian=big,
        step=rows.shape[1] + extra,
    )
    # Padding must not reach the picture.
    msg.data = np.pad(rows, ((0, 0), (0, extra)), constant_values=170).tobytes()
    return msg


def worst(found, expected):
    """Return the largest difference without the border, where interpolation lacks neighbours."""
    assert found.dtype == np.uint8 and found.shape == expected.shape
    inner = np.s_[2:-2, 2:-2]
    return int(np.abs(found[inner].astype(int) - expected[inner]).max())


def test_cases_cover_every_encoding():
    assert set(CASES) | set(WIDE) == set(image_decoding.PIXEL_LAYOUTS)


@pytest.mark.fault(12, 14)
@pytest.mark.parametrize('encoding', CASES)
@pytest.mark.parametrize('extra', [0, 6])
@pytest.mark.parametrize('big', [0, 1])
def test_decodes_8_bit_encodings(encoding, extra, big):
    sent, expected, tolerance = CASES[encoding]
    found = image_decoding.image_to_array(message(sent, encoding, extra, big), 10**6)
    assert worst(found, expected) <= tolerance


@pytest.mark.fault(12, 14)
@pytest.mark.parametrize('encoding', WIDE)
@pytest.mark.parametrize('extra', [0, 6])
@pytest.mark.parametrize('order', ['<', '>'])
def test_decodes_16_bit_encodings(encoding, extra, order):
    narrow, expected, tolerance = WIDE[encoding]
    sent = (narrow.astype(np.uint16) * 257).astype(f'{order}u2')
    found = image_decoding.image_to_array(message(sent, encoding, extra, int(order == '>')), 10**6)
    assert worst(found, expected) <= tolerance


@pytest.mark.fault(12)
@pytest.mark.parametrize('encoding', WIDE)
def test_byte_order_of_16_bit_images_is_respected(encoding):
    """Only the high byte carries the picture, so swapped bytes give another one."""
    narrow, expected, _ = WIDE[encoding]
    sent = narrow.astype(np.uint16) << 8
    found = image_decoding.image_to_array(message(sent.astype('>u2'), encoding, 0, big=1), 10**6)
    assert worst(found, expected) <= 2
    swapped = image_decoding.image_to_array(message(sent.astype('>u2'), encoding, 0, big=0), 10**6)
    assert worst(swapped, expected) > 30


@pytest.mark.parametrize(
    ('encoder', 'format_', 'picture', 'tolerance'),
    [
        ('.png', 'rgb8; png compressed bgr8', PICTURE, 0),
        ('.png', 'mono8; png compressed ', GREY, 0),
        ('.jpg', 'rgb8; jpeg compressed bgr8', PICTURE, 8),
        ('.jpg', 'jpeg', GREY, 4),
    ],
)
def test_compressed(encoder, format_, picture, tolerance):
    encoded = cv2.imencode(encoder, picture[..., ::-1] if picture.ndim == 3 else picture)[1]
    msg = CompressedImage(format=format_)
    msg.data = encoded.tobytes()
    assert worst(image_decoding.compressed_to_array(msg, 10**6), picture) <= tolerance
