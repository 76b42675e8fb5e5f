# SPDX-License-Identifier: Apache-2.0
"""Protocols A and B: blur, focus distances and independence of the truth."""

import numpy as np
import pytest
import torch

from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.datasets.registry import open_dataset
from dualfocus_ros.datasets.samples import Dataset, RgbdSample
from dualfocus_ros.evaluation.method_interface import evenly_spaced_planes
from dualfocus_ros.evaluation.protocols import (
    ProtocolA,
    ProtocolB,
    blur_radius,
    gather_blur,
    make_protocol,
)
from dualfocus_ros.exceptions import DataError
from dualfocus_ros.simulation.aberrations import FieldAberrations
from dualfocus_ros.simulation.psf import Aperture

NYU = Lens(50e-3, 8.0, 12e-6)


def dataset(kind='rgbd'):
    return Dataset('x', kind, 'x', 1, lambda index: None)


def sample(depth, name='s', seed=0):
    colour = np.random.default_rng(seed).integers(0, 256, (*depth.shape, 3), dtype=np.uint8)
    return RgbdSample(name, colour, depth.astype(np.float32))


def ramp(height=48, width=64, near=0.8, far=5.0):
    return np.tile(np.linspace(near, far, width, dtype=np.float32), (height, 1))


def test_gather_blur_is_the_published_sum():
    rng = np.random.default_rng(1)
    image = rng.random((3, 9, 11), dtype=np.float32)
    c = rng.uniform(0.5, 5.0, (9, 11)).astype(np.float32)
    expected = image.copy()
    for y in range(9):
        for x in range(11):
            if c[y, x] <= 1.0:
                continue
            total, weights = np.zeros(3), 0.0
            for v in range(max(y - 3, 0), min(y + 4, 9)):
                for u in range(max(x - 3, 0), min(x + 4, 11)):
                    if c[v, u] > 1.0:
                        r2 = (v - y) ** 2 + (u - x) ** 2
                        w = np.exp(-2.0 * r2 / c[v, u] ** 2) / c[v, u] ** 2
                        total, weights = total + w * image[:, v, u], weights + w
            expected[:, y, x] = total / weights
    found = gather_blur(torch.from_numpy(image), torch.from_numpy(c)).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_blur_radius_of_the_published_camera():
    depth = torch.tensor([[1.0, 2.0, 0.0]])
    radius = blur_radius(depth, 1.0, NYU)[0]
    assert radius[0] == pytest.approx(0.0, abs=1e-3)
    assert 2.0 * radius[1] / 0.5 == pytest.approx(27.4, abs=0.1)  # kappa = (F/A) v / pitch
    assert radius[2] > 1e6  # a hole


def test_holes_in_protocol_a_spread_no_light():
    image = torch.zeros((3, 9, 9))
    image[:, 4, 4] = 1.0
    radius = torch.full((9, 9), 2.0)
    radius[4, 4] = 1e9
    assert float(gather_blur(image, radius).max()) < 1e-6


def test_protocol_a_takes_focus_from_truth_and_crops_nyu():
    depth = ramp(480, 640)
    case = ProtocolA(5).render(sample(depth), dataset('nyu'))
    assert case.images.shape == (5, 384, 512, 3) and case.images.dtype == np.float32
    inner = depth[48:432, 64:576]
    np.testing.assert_allclose(
        1.0 / case.focus, np.linspace(inner.min(), inner.max(), 5), rtol=1e-6
    )
    assert 1.0 / case.middle == pytest.approx((inner.min() + inner.max()) / 2, rel=1e-6)
    assert 'LEAKY' in ProtocolA().describe(dataset('nyu'))
    assert '2.9 mm f/0.5' in ProtocolA().describe(dataset('arkitscenes'))
    assert ProtocolA(5).render(sample(ramp()), dataset()).images.shape == (5, 48, 64, 3)


def test_protocol_a_needs_a_range():
    with pytest.raises(DataError, match='more than one depth'):
        ProtocolA().render(sample(np.full((8, 8), 2.0)), dataset())


def test_protocol_b_uses_the_truth_only_for_rendering():
    near = ProtocolB().render(sample(ramp(near=0.6, far=1.0)), dataset())
    far = ProtocolB().render(sample(ramp(near=3.0, far=9.0)), dataset())
    np.testing.assert_array_equal(near.focus, far.focus)
    assert near.focus[[0, -1]] == pytest.approx([0.1, 2.0])
    assert np.diff(near.focus) == pytest.approx(np.full(9, 1.9 / 9))
    assert near.middle == far.middle == pytest.approx(1.05)
    assert near.images.dtype == np.uint8 and near.images.shape == (10, 48, 64, 3)
    # Contrast is highest in the plane that is focused at the scene.
    flat = ProtocolB().render(sample(np.full((64, 320), 1.0)), dataset())
    contrast = flat.images.astype(float).std(axis=(1, 2, 3))
    assert abs(flat.focus[contrast.argmax()] - 1.0) < 0.11


def test_protocol_b_gives_the_same_again_and_fills_holes():
    depth = ramp()
    depth[10:20, 10:20] = np.nan
    one, two = (ProtocolB(3).render(sample(depth), dataset()) for _ in range(2))
    np.testing.assert_array_equal(one.images, two.images)
    assert np.isnan(one.truth[10:20, 10:20]).all()
    other = ProtocolB(3, seed=1).render(sample(depth), dataset())
    assert (one.images != other.images).any()


def test_planes_are_chosen_as_ddff12_is_evaluated():
    assert evenly_spaced_planes(10, 5).tolist() == [0, 2, 4, 6, 9]
    assert (
        evenly_spaced_planes(4, 0).tolist() == evenly_spaced_planes(4, 9).tolist() == [0, 1, 2, 3]
    )


def test_an_unknown_protocol_is_refused():
    with pytest.raises(ValueError, match='A or B'):
        make_protocol('C')
    assert (make_protocol('A').planes, make_protocol('B').planes) == (5, 10)


def test_describe_names_aberrations_of_protocol_b():
    data = open_dataset('shapes:3,count=1,size=64')
    plain = ProtocolB(3)
    lens = ProtocolB(3, aperture=Aperture(spherical=0.5), field=FieldAberrations(cat_eye=0.5))
    assert 'spherical 0.5, cat_eye 0.5)' in lens.describe(data)
    assert plain.describe(data).endswith('8 bits)')
    assert (lens.render(data[0], data).images != plain.render(data[0], data).images).any()
