# SPDX-License-Identifier: Apache-2.0
"""Encoding of sweeps and the page built from it."""

import json
import re

import numpy as np
import pytest

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.visualization import sweep_encoding
from dualfocus_ros.visualization.sweep_page import build_page
from dualfocus_ros.visualization.sweep_view import SweepView
from sweep_pages import decode_lengths, unpack


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


def test_codes_keep_depth_to_250_ppm_and_special_values():
    values = np.array([np.nan, -np.inf, np.inf, 1e-3, 0.1, 0.5, 1.0, 7.3, 20.0, 1e4], np.float32)
    back = decode_lengths(
        sweep_encoding.encode_lengths(values, sweep_encoding.DEPTH_STEP), sweep_encoding.DEPTH_STEP
    )
    assert np.array_equal(np.isnan(back), np.isnan(values))
    assert back[1] == -np.inf and back[2] == np.inf
    assert back[3:] == pytest.approx(values[3:], rel=2.6e-4)
    # Lengths outside the range of codes do not wrap around.
    extreme = sweep_encoding.encode_lengths(
        np.array([0.0, 1e-30, 1e30]), sweep_encoding.DEPTH_STEP
    )
    assert extreme.tolist() == [
        sweep_encoding.FIRST_LENGTH_CODE,
        sweep_encoding.FIRST_LENGTH_CODE,
        65535,
    ]


def test_encoded_maps_can_be_decoded():
    sweep = made_sweep()
    page = sweep_encoding.encode_sweep(sweep, sweep_encoding.encode_scales([sweep]))
    codes = unpack(page['depth']['data'], np.uint16)
    assert np.array_equal(
        codes, sweep_encoding.encode_lengths(sweep.depth, sweep_encoding.DEPTH_STEP).reshape(-1)
    )
    assert np.array_equal(unpack(page['confidence'], np.uint8), sweep.confidence.reshape(-1))
    json.dumps(page, allow_nan=False)


def test_focus_curves_sum_to_one():
    rng = np.random.default_rng(0)
    peaked = rng.dirichlet(np.full(7, 0.1), (40, 50)).transpose(2, 0, 1)
    codes = sweep_encoding.quantise_probability(peaked)
    assert codes.dtype == np.uint8
    assert (codes.astype(int).sum(axis=0) == sweep_encoding.PROBABILITY_SUM).all()
    assert np.abs(codes / 255.0 - peaked).max() < 1.0 / 255.0


def test_page_of_five_vga_planes_is_below_1_5_megabytes():
    # Smooth detail everywhere, as in photographs; JPEG does not compress noise.
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


def test_page_loads_nothing_and_escapes_text():
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
