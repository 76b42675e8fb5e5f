# SPDX-License-Identifier: Apache-2.0
"""Hypothesis strategies for valid, nearly valid and hostile messages.

A fully random message fails at the first check. So most fields are valid, and each is sometimes
one that a broken driver or an attacker would send.
"""

from __future__ import annotations

import struct
from typing import Any
import zlib

from builtin_interfaces.msg import Time
import cv2
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from hypothesis import strategies as st
import numpy as np
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header

from dualfocus_ros.msg import FocalStack, FocusCommand, FocusState
from dualfocus_ros.nodes.messages.image_decoding import PIXEL_LAYOUTS

MAX_PIXELS = 4096
_U32 = 2**32 - 1

hostile_u32 = st.sampled_from([0, 1, 2**15, 2**16, 2**31 - 1, 2**31, _U32]) | st.integers(0, _U32)
hostile_u16 = st.sampled_from([0, 1, 31, 32, 33, 2**15, 2**16 - 1]) | st.integers(0, 2**16 - 1)
hostile_floats = (
    st.sampled_from(
        [float('nan'), float('inf'), float('-inf'), 0.0, -0.0, -1.0, 1e-300, 1e300, -1e300]
    )
    | st.floats()
)
hostile_floats32 = st.floats(width=32) | st.sampled_from([0.0, -1.0, 1e-38, 3e38, -3e38])
names = st.text(max_size=20) | st.sampled_from(
    ['camera', '', 'a' * 10_000, '\0', '../../etc/passwd', 'ü\n%s{}']
)
# Few values, so that messages have equal stamps.
_seconds = st.integers(1_700_000_000, 1_700_000_003) | st.sampled_from(
    [0, -1, 2**31 - 1, -(2**31)]
)
_nanoseconds = st.sampled_from([0, 1, 10**8, 5 * 10**8, 999_999_999, 10**9, _U32])
stamps = st.builds(Time, sec=_seconds, nanosec=_nanoseconds)
headers = st.builds(Header, stamp=stamps, frame_id=st.just('camera') | names)


def mostly(usual: st.SearchStrategy[Any], hostile: st.SearchStrategy[Any]) -> Any:
    """Return the ordinary value nine times of ten."""
    return st.integers(0, 9).flatmap(lambda n: hostile if n == 0 else usual)


@st.composite
def filling(draw: st.DrawFn, length: int) -> bytes:
    """Return bytes of this length."""
    pattern = draw(st.binary(min_size=1, max_size=8))
    return (pattern * (length // len(pattern) + 1))[:length]


@st.composite
def images(draw: st.DrawFn) -> Image:
    """Return an image whose fields sometimes contradict each other."""
    encoding = draw(mostly(st.sampled_from(sorted(PIXEL_LAYOUTS)), names))
    width = draw(mostly(st.integers(1, 16), hostile_u32))
    height = draw(mostly(st.integers(1, 16), hostile_u32))
    layout = PIXEL_LAYOUTS.get(encoding)
    row = width * (layout.pixel if layout else 1)
    step = min(row + draw(st.sampled_from([0, 0, 0, 1, 3, 64])), _U32)
    step = draw(mostly(st.just(step), hostile_u32))
    rows = height + height // 2 if encoding in ('nv12', 'nv21') else height
    right = step * rows
    length = draw(
        mostly(
            st.just(right if right <= 8192 else 64),
            st.integers(0, 4096)
            | st.sampled_from([0, max(right - 1, 0) % 8192, (right + 1) % 8192]),
        )
    )
    message = Image(
        header=draw(headers),
        height=height,
        width=width,
        encoding=encoding,
        step=step,
        is_bigendian=draw(st.sampled_from([0, 1, 255])),
    )
    message.data = draw(filling(length))
    return message


def _encoded(extension: str, shape: tuple[int, ...], kind: type = np.uint8) -> bytes:
    values = np.random.default_rng(1).integers(0, 255, shape).astype(kind)
    return bytes(cv2.imencode(extension, values)[1])


PICTURES = [
    _encoded('.jpg', (16, 24, 3)),
    _encoded('.jpg', (16, 24)),
    _encoded('.png', (8, 12, 3)),
    _encoded('.png', (8, 12)),
    _encoded('.png', (8, 12, 4)),
    _encoded('.png', (8, 12, 3), np.uint16),
    _encoded('.bmp', (8, 12, 3)),
    _encoded('.tiff', (8, 12, 3)),
    _encoded('.webp', (8, 12, 3)),
]


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body))


@st.composite
def _png_with_wrong_size(draw: st.DrawFn) -> bytes:
    """Return a PNG with valid checksums and a wrong size or length."""
    width, height = draw(hostile_u32), draw(hostile_u32)
    depth, colour = draw(st.sampled_from([1, 8, 16])), draw(st.sampled_from([0, 2, 3, 4, 6]))
    body = draw(st.sampled_from([b'', bytes(10), zlib.compress(bytes(1 << 20))]))
    header = struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, draw(st.integers(0, 1)))
    extra = draw(
        st.sampled_from(
            [
                b'',
                _chunk(b'acTL', struct.pack('>II', _U32, 0)),
                _chunk(b'zTXt', b'k\0\0' + zlib.compress(bytes(1 << 22))),
            ]
        )
    )
    return (
        b'\x89PNG\r\n\x1a\n'
        + _chunk(b'IHDR', header)
        + extra
        + _chunk(b'IDAT', body)
        + _chunk(b'IEND', b'')
    )


@st.composite
def _jpeg_with_wrong_size(draw: st.DrawFn) -> bytes:
    """Return a JPEG whose frame has another size than its data, or two sizes."""
    data = bytearray(PICTURES[draw(st.integers(0, 1))])
    at = data.index(b'\xff\xc0')
    frame = bytes(data[at : at + 2 + int.from_bytes(data[at + 2 : at + 4], 'big')])
    size = struct.pack('>HH', draw(hostile_u16), draw(hostile_u16))
    if draw(st.booleans()):
        data[at + 5 : at + 9] = size
    else:
        data[at + len(frame) : at + len(frame)] = frame[:5] + size + frame[9:]
    return bytes(data)


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    """Return an encoded image with bytes changed, removed or added."""
    data = bytearray(draw(st.sampled_from(PICTURES)))
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2, 4]))):
        at = draw(st.integers(0, len(data)))
        what = draw(st.integers(0, 3))
        if what == 0:
            data[at : at + 1] = draw(st.binary(max_size=2))
        elif what == 1:
            del data[at:]
        elif what == 2:
            del data[at : at + draw(st.integers(1, 20))]
        else:
            data[at:at] = draw(st.binary(max_size=20))
    return bytes(data)


raw_bytes = (
    st.binary(max_size=200)
    | st.binary(max_size=60).map(lambda b: b'\xff\xd8\xff' + b)
    | st.binary(max_size=60).map(lambda b: b'\x89PNG\r\n\x1a\n' + b)
)
pictures = raw_bytes | _damaged() | _damaged() | _png_with_wrong_size() | _jpeg_with_wrong_size()
compressed_images = st.builds(
    CompressedImage,
    header=headers,
    data=pictures,
    format=mostly(
        st.sampled_from(['jpeg', 'png', 'rgb8; jpeg compressed bgr8']),
        names | st.just('16UC1; compressedDepth png'),
    ),
)


@st.composite
def camera_infos(draw: st.DrawFn) -> CameraInfo:
    """Return a valid calibration, or one with impossible numbers."""
    damaged = draw(st.booleans())

    def one_of(good: st.SearchStrategy[Any], bad: st.SearchStrategy[Any]) -> Any:
        return draw(mostly(good, bad) if damaged else good)

    focal = st.floats(1.0, 1000.0)
    fx, cx, fy, cy = (one_of(focal, hostile_floats) for _ in range(4))
    k = [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]
    p = [*k[:3], 0.0, *k[3:6], 0.0, *k[6:], 0.0]
    message = CameraInfo(
        header=draw(headers),
        width=one_of(st.integers(1, 16), hostile_u32),
        height=one_of(st.integers(1, 16), hostile_u32),
        distortion_model=one_of(
            st.sampled_from(['plumb_bob', 'rational_polynomial', 'equidistant', '']), names
        ),
        d=one_of(
            st.sampled_from([[], [0.0] * 4, [0.0] * 5, [0.0] * 8]),
            st.lists(st.floats(-1.0, 1.0) | hostile_floats, max_size=15),
        ),
        k=one_of(st.just(k), st.just([0.0] * 9)),
        r=one_of(
            st.just([1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]),
            st.lists(hostile_floats, min_size=9, max_size=9),
        ),
        p=one_of(st.just(p), st.lists(hostile_floats, min_size=12, max_size=12)),
        binning_x=one_of(st.integers(0, 2), hostile_u32),
        binning_y=one_of(st.integers(0, 2), hostile_u32),
    )
    for name in ('x_offset', 'y_offset', 'width', 'height'):
        setattr(message.roi, name, one_of(st.just(0), hostile_u32))
    return message


dioptres = mostly(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0]), hostile_floats32)
_of_sweep: dict[str, Any] = {
    'focus_dioptres': dioptres,
    'sweep_id': mostly(st.integers(1, 3), hostile_u32),
    'plane_index': mostly(st.integers(0, 3), hostile_u16),
    'plane_count': mostly(st.sampled_from([0, 3, 4]), hostile_u16),
}
focus_states = st.builds(
    FocusState,
    header=headers,
    focus_sigma=hostile_floats32,
    **_of_sweep,
    lens_position=st.integers(-(2**31), 2**31 - 1),
    state=mostly(st.just(FocusState.SETTLED), st.integers(0, 255)),
)
focus_commands = st.builds(FocusCommand, header=headers, **_of_sweep)
_numbers = st.text(max_size=10) | st.sampled_from(
    ['0.5', '1.0', '2', '-1', '1e400', 'nan', '-inf', '0x10', '1_0', '１', '', '9' * 5000]
)
_pairs = st.builds(
    KeyValue,
    key=mostly(st.just('LensPosition'), names),
    value=_numbers,
)
metadata = st.builds(
    DiagnosticArray,
    header=headers,
    status=st.lists(
        st.builds(
            DiagnosticStatus, name=mostly(st.just(''), names), values=st.lists(_pairs, max_size=4)
        ),
        max_size=3,
    ),
)


@st.composite
def focal_stacks(draw: st.DrawFn) -> FocalStack:
    """Return a stack, mostly of images of equal format."""
    count = draw(mostly(st.integers(2, 5), st.sampled_from([0, 1, 32, 33, 40])))
    like = draw(images())
    planes = []
    for _ in range(count):
        header = draw(headers) if draw(st.booleans()) else Header()
        plane = draw(mostly(st.just(like), images()))
        copy = Image(
            header=header,
            height=plane.height,
            width=plane.width,
            step=plane.step,
            encoding=plane.encoding,
            is_bigendian=plane.is_bigendian,
        )
        copy.data = plane.data
        planes.append(copy)
    focus = [draw(mostly(st.just(0.5 + 0.25 * n), hostile_floats32)) for n in range(count)]
    if draw(st.integers(0, 9)) == 0:
        focus = focus[:-1]
    return FocalStack(
        header=draw(headers),
        images=planes,
        focus_dioptres=focus,
        camera_info=draw(st.just(CameraInfo()) | camera_infos()),
    )
