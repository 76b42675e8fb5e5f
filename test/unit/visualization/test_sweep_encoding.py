# SPDX-License-Identifier: Apache-2.0
"""What a page of ``dualfocus view`` holds: codes of depth, focus curves, size; and its server."""

import base64
import json
import re
import urllib.error
import urllib.request
import zlib

import numpy as np
import pytest

from dualfocus_ros.bags.image_messages import output_image_to_array
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.visualization import colour_scales, sweep_encoding
from dualfocus_ros.visualization.page_server import PageServer
from dualfocus_ros.visualization.sweep_page import build_page
from dualfocus_ros.visualization.sweep_view import SweepView


def made_sweep(height=48, width=64, count=4, **more) -> SweepView:
    rng = np.random.default_rng(3)
    depth = np.linspace(0.4, 2.5, height * width, dtype=np.float32).reshape(height, width)
    depth[0, :3] = np.nan, -np.inf, np.inf
    p = rng.dirichlet(np.ones(count), (height, width)).transpose(2, 0, 1).astype(np.float32)
    fields = {
        'name': 'a sweep',
        'depth': depth,
        'sigma': (0.02 * depth**2).astype(np.float32),
        'confidence': rng.integers(0, 256, (height, width), dtype=np.uint8),
        'all_in_focus': rng.integers(0, 255, (height, width, 3), dtype=np.uint8),
        'focus_dioptres': np.linspace(0.4, 2.4, count),
        'planes': tuple(rng.integers(0, 255, (count, height, width, 3), dtype=np.uint8)),
        'probability': p,
        'camera': PinholeCamera(width, height, 60.0, 60.0, 31.5, 23.5),
        'limits': (0.1, 20.0),
    }
    return SweepView(**{**fields, **more})


def unpacked(text: str, kind: type) -> np.ndarray:
    """Undo what ``encode`` packs, as the page does."""
    data = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8)
    if kind is np.uint16:
        high, low = data.reshape(2, -1).astype(np.uint16)
        data = (high << 8 | low).astype(np.uint16)
    return np.cumsum(data, dtype=kind)


def test_codes_keep_depth_to_a_quarter_of_a_per_mille_and_the_special_values():
    values = np.array([np.nan, -np.inf, np.inf, 1e-3, 0.1, 0.5, 1.0, 7.3, 20.0, 1e4], np.float32)
    back = sweep_encoding.decode_lengths(
        sweep_encoding.encode_lengths(values, sweep_encoding.DEPTH_STEP), sweep_encoding.DEPTH_STEP
    )
    assert np.array_equal(np.isnan(back), np.isnan(values))
    assert back[1] == -np.inf and back[2] == np.inf
    assert back[3:] == pytest.approx(values[3:], rel=2.6e-4)
    # What no lens tells does not wrap around.
    extreme = sweep_encoding.encode_lengths(
        np.array([0.0, 1e-30, 1e30]), sweep_encoding.DEPTH_STEP
    )
    assert extreme.tolist() == [
        sweep_encoding.FIRST_LENGTH_CODE,
        sweep_encoding.FIRST_LENGTH_CODE,
        65535,
    ]


def test_what_is_packed_comes_back():
    sweep = made_sweep()
    page = sweep_encoding.encode_sweep(sweep, sweep_encoding.encode_scales([sweep]))
    codes = unpacked(page['depth']['data'], np.uint16)
    assert np.array_equal(
        codes, sweep_encoding.encode_lengths(sweep.depth, sweep_encoding.DEPTH_STEP).reshape(-1)
    )
    assert np.array_equal(unpacked(page['confidence'], np.uint8), sweep.confidence.reshape(-1))
    json.dumps(page, allow_nan=False)


def test_every_focus_curve_sums_to_one():
    rng = np.random.default_rng(0)
    peaked = rng.dirichlet(np.full(7, 0.1), (40, 50)).transpose(2, 0, 1)
    codes = sweep_encoding.quantise_probability(peaked)
    assert codes.dtype == np.uint8
    assert (codes.astype(int).sum(axis=0) == sweep_encoding.PROBABILITY_SUM).all()
    assert np.abs(codes / 255.0 - peaked).max() < 1.0 / 255.0


def test_a_page_of_640x480_and_five_planes_stays_small():
    # A scene that has detail everywhere, as pictures have: noise would be unfair to JPEG.
    v, u = np.mgrid[:480, :640]
    scene = (127 + 60 * np.sin(u / 7.0) + 60 * np.cos(v / 9.0 + u / 31.0)).astype(np.uint8)
    p = np.exp(-0.5 * (np.arange(5)[:, None, None] - 4.0 * u / 640) ** 2)
    depth = 0.5 + v / 400 + 0.002 * np.random.default_rng(0).standard_normal(v.shape)
    sweep = made_sweep(
        480,
        640,
        all_in_focus=scene,
        planes=(scene,) * 5,
        depth=depth.astype(np.float32),
        sigma=(0.01 * depth).astype(np.float32),
        confidence=np.full(v.shape, 250, np.uint8),
        probability=(p / p.sum(axis=0)).astype(np.float32),
        focus_dioptres=np.arange(5) + 0.2,
    )
    page = build_page(
        'size', [sweep_encoding.encode_sweep(sweep, sweep_encoding.encode_scales([sweep]))]
    )
    assert len(page.encode()) < 1_500_000


def test_the_page_loads_nothing_and_text_cannot_leave_its_place():
    sweep = made_sweep(name='</script><script>alert(1)</script>')
    page = build_page(
        '<b>& "bag"', [sweep_encoding.encode_sweep(sweep, sweep_encoding.encode_scales([sweep]))]
    )
    assert not re.findall(r'\{\{[a-z]+\}\}', page)
    assert '<b>&' not in page and '&lt;b&gt;&amp;' in page
    assert page.count('<script') == 2 and '<script>alert' not in page
    assert not re.findall(r'(?:src|href)\s*=\s*["\'](?!data:)', page)
    assert "default-src 'none'" in page and "connect-src 'none'" in page
    assert "connect-src 'self'" in build_page('live', [], live=True)


def test_special_colours_are_told_from_every_colour_of_the_scale():
    scale = colour_scales.log_depth_scale(0.5, 2.0).colours.astype(int)
    special = np.array(
        [colour_scales.INVALID_COLOUR, colour_scales.NEARER_COLOUR, colour_scales.FARTHER_COLOUR]
    )
    for one in special:
        assert np.abs(scale - one).sum(axis=1).min() > 90
    # By their brightness too, for who does not see the hue.
    brightness = sorted(special @ (0.299, 0.587, 0.114))
    assert min(np.diff(brightness)) > 25


def test_scales_are_perceptually_uniform():
    """Equal steps of the scale are about equal steps of lightness, always in one direction."""
    for scale in (
        colour_scales.log_depth_scale(0.5, 2.0),
        colour_scales.sigma_scale(np.ones((2, 2))),
        colour_scales.confidence_scale(),
    ):
        light = (scale.colours / 255.0) ** 2.2 @ (0.2126, 0.7152, 0.0722)
        lightness = 116.0 * np.cbrt(np.maximum(light, 0.008856)) - 16.0
        steps = np.diff(lightness[::16])
        assert (steps > 0).all() or (steps < 0).all()
        assert np.abs(steps).max() < 2.6 * np.abs(steps).min() + 2.0


@pytest.mark.parametrize('big', [False, True])
def test_images_of_messages_with_padding_in_either_byte_order(big):
    class Message:
        encoding, height, width, step, is_bigendian = '32FC1', 2, 3, 16, big
        data = np.zeros(32, np.uint8)

    values = np.arange(6, dtype='>f4' if big else '<f4').reshape(2, 3)
    Message.data.reshape(2, 16)[:, :12] = values.view(np.uint8)
    assert np.array_equal(output_image_to_array(Message), np.arange(6).reshape(2, 3))
    Message.encoding, Message.width = '16UC1', 6
    assert output_image_to_array(Message).dtype == np.float32
    assert np.isnan(output_image_to_array(Message)[0, 0])
    Message.step = 8
    with pytest.raises(ValueError, match='do not make 32 bytes'):
        output_image_to_array(Message)
    Message.encoding = 'bayer_rggb8'
    with pytest.raises(ValueError, match='bayer_rggb8'):
        output_image_to_array(Message)


def get(url: str, **headers: str):
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20.0) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), dict(error.headers)


def test_the_server_serves_one_page_to_this_machine_and_new_sweeps_once():
    with PageServer('<p>here</p>', '127.0.0.1', 0) as server:
        assert re.fullmatch(r'http://127\.0\.0\.1:\d+/', server.url)
        status, body, headers = get(server.url)
        assert (status, body) == (200, '<p>here</p>')
        assert headers['Cache-Control'] == 'no-store'
        assert not server.has_viewers
        server.state('waiting for depth')
        assert get(f'{server.url}sweeps?after=0')[:2] == (202, 'waiting for depth')
        assert server.has_viewers
        for name in ('first', 'second'):
            server.show({'name': name})
        status, body, _ = get(f'{server.url}sweeps?after=1')
        assert status == 200 and json.loads(body) == {'number': 2, 'sweep': {'name': 'second'}}
        # A page that was opened before the server was started again.
        assert json.loads(get(f'{server.url}sweeps?after=900')[1])['number'] == 2
        for path in ('etc/passwd', '../setup.py', 'sweeps/x'):
            assert get(server.url + path)[0] == 404
        # A name of elsewhere that was made to point here.
        assert get(server.url, Host='evil.example:80')[0] == 403
        assert get(server.url, Host=server.url.split('/')[2])[0] == 200
        url = server.url
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=2.0)
