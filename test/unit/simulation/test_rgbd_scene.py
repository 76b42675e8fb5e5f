# SPDX-License-Identifier: Apache-2.0
"""Scenes from RGB-D pairs."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from dualfocus_ros.camera.lens_state import PlaneTarget
from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.simulation.rgbd_scene import load_rgbd
from dualfocus_ros.simulation.simulated_camera import SimulatedCamera, SimulatedCameraSettings

K = (50.0, 50.0, 31.5, 23.5)
DATA = Path(__file__).resolve().parents[4] / 'shared' / 'data' / 'rgbd'


@pytest.fixture
def pair(tmp_path):
    """Write a colour image and 16-bit depth with both invalid codes; return paths and image."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)
    depth = np.full((48, 64), 1500, np.uint16)
    depth[:10] = 0
    depth[-5:] = 65535
    paths = tmp_path / 'colour.png', tmp_path / 'depth.png'
    cv2.imwrite(str(paths[0]), image[..., ::-1])
    cv2.imwrite(str(paths[1]), depth)
    return (*paths, image)


def test_16_bit_depth_is_millimetres_with_invalid_codes(pair):
    colour, depth, image = pair
    scene = load_rgbd(colour, depth, K)
    assert np.isnan(scene.depth[:10]).all() and np.isnan(scene.depth[-5:]).all()
    assert np.all(scene.depth[10:-5] == np.float32(1.5))
    assert scene.colour.shape == (3, 48, 64)
    brighter = image[..., 0] > 200
    assert scene.colour[0][brighter].min() > scene.colour[0][~brighter].max()
    assert (scene.camera.fx, scene.camera.cx) == (50.0, 31.5)


def test_array_file_is_in_metres(pair, tmp_path):
    colour, _, _ = pair
    metres = np.full((48, 64), 2.5, np.float32)
    metres[0, 0], metres[0, 1], metres[0, 2] = -1.0, np.inf, np.nan
    np.save(tmp_path / 'depth.npy', metres)
    scene = load_rgbd(colour, tmp_path / 'depth.npy', K)
    assert np.isnan(scene.depth[0, :3]).all() and scene.depth[5, 5] == 2.5


def test_resizing_scales_the_intrinsics(pair):
    colour, depth, _ = pair
    scene = load_rgbd(colour, depth, K, size=(32, 24))
    assert scene.depth.shape == (24, 32)
    assert scene.camera.fx == pytest.approx(25.0)
    assert scene.camera.cx == pytest.approx(15.5)
    known = scene.depth[np.isfinite(scene.depth)]
    assert np.allclose(known, 1.5, atol=1e-6)


def test_invalid_files_raise_with_their_name(pair, tmp_path):
    colour, depth, _ = pair
    with pytest.raises(ValueError, match=r'missing\.png: no such file'):
        load_rgbd(tmp_path / 'missing.png', depth, K)
    with pytest.raises(ValueError, match='16-bit'):
        load_rgbd(colour, colour, K)
    (tmp_path / 'broken.npy').write_bytes(b'not an array')
    with pytest.raises(ValueError, match='not a NumPy array'):
        load_rgbd(colour, tmp_path / 'broken.npy', K)
    np.save(tmp_path / 'small.npy', np.ones((4, 4), np.float32))
    with pytest.raises(ValueError, match='differ in size'):
        load_rgbd(colour, tmp_path / 'small.npy', K)
    np.save(tmp_path / 'empty.npy', np.zeros((48, 64), np.float32))
    with pytest.raises(ValueError, match='no pixel'):
        load_rgbd(colour, tmp_path / 'empty.npy', K)


@pytest.mark.skipif(not DATA.is_dir(), reason='no RGB-D data on this machine')
@pytest.mark.parametrize(
    ('colour', 'depth', 'intrinsics'),
    [
        (
            'kitchen/frame-000000.color.jpg',
            'kitchen/frame-000000.depth.png',
            (585.0, 585.0, 320.0, 240.0),
        ),
        ('livingroom/image/*', 'livingroom/depth/*', (525.0, 525.0, 319.5, 239.5)),
    ],
)
def test_recorded_pairs_render(colour, depth, intrinsics):
    files = [sorted(DATA.glob(pattern))[0] for pattern in (colour, depth)]
    scene = load_rgbd(*files, intrinsics, size=(160, 120))
    assert 0.2 < np.nanmin(scene.depth) < np.nanmax(scene.depth) < 12.0
    lens = Lens(0.016, 1.4, 0.016 / scene.camera.fx)
    camera = SimulatedCamera(scene, lens, SimulatedCameraSettings(noise=0.0, near_limit=2.0))
    camera.command(PlaneTarget(1.0), 0.0)
    camera.capture(0.05)
    frame = camera.capture(2.0)
    assert frame.image.shape == (120, 160, 3) and frame.image.std() > 10.0
    assert np.isnan(camera.depth(frame)).mean() < 0.4
