# SPDX-License-Identifier: Apache-2.0
"""Input that is wrong or odd: at every level a clear error, or a result that is defined."""

import json

import cv2
import numpy as np
import pytest
import torch

from dualfocus_ros.cli.main import main
from dualfocus_ros.datasets.samples import StackSample
from dualfocus_ros.exceptions import DataError
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.inference.estimator import DepthEstimator
from dualfocus_ros.inference.result import OutputRequest
from dualfocus_ros.inference.settings import EstimatorSettings
from dualfocus_ros.models.weights import load_model

FOCUS = (0.4, 2.0, 1.2, 0.8)
SHARP_AT = 1.2


@pytest.fixture(scope='module')
def estimator():
    return DepthEstimator(device='cpu', threads=1)


@pytest.fixture(scope='module')
def network():
    return load_model().network


def wall(focus=FOCUS, height=64, width=80):
    """Return uint8 images of a textured wall that is sharp at 1.2 dioptres."""
    noise = np.random.default_rng(1).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return [cv2.GaussianBlur(noise, (0, 0), 0.5 + 2.5 * abs(q - SHARP_AT)) for q in focus]


def stack(images, focus=FOCUS):
    return FocalStack(tuple(Plane(image, q) for image, q in zip(images, focus)))


def tensors(images, focus=FOCUS):
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255.0
    return pixels[None], torch.tensor([focus])


# -- the network ---------------------------------------------------------------------------------


def test_network_keeps_the_order_of_the_batch(network):
    with torch.inference_mode():
        prediction = network(*tensors(wall()))
    assert prediction.dioptres.median().item() == pytest.approx(SHARP_AT, abs=0.1)
    best = prediction.probability[0].mean(dim=(1, 2)).argmax().item()
    assert FOCUS[best] == SHARP_AT


def test_network_accepts_a_repeated_plane(network):
    focus = (0.4, 1.2, 1.2, 2.0)
    with torch.inference_mode():
        prediction = network(*tensors(wall(focus), focus))
    assert torch.isfinite(prediction.dioptres).all() and torch.isfinite(prediction.sigma).all()
    assert prediction.dioptres.median().item() == pytest.approx(SHARP_AT, abs=0.15)


@pytest.mark.parametrize('level', [0, 90, 255])
def test_network_is_uncertain_about_constant_images(network, level):
    blank = [np.full((64, 80, 3), level, np.uint8)] * 4
    with torch.inference_mode():
        known, unknown = network(*tensors(wall())), network(*tensors(blank))
    assert torch.isfinite(unknown.dioptres).all() and torch.isfinite(unknown.sigma).all()
    assert unknown.dioptres.min() >= min(FOCUS) - 1e-4
    assert unknown.dioptres.max() <= max(FOCUS) + 1e-4
    assert unknown.sigma.median() > 2.0 * known.sigma.median()


def test_network_accepts_focus_at_infinity(network):
    focus = (0.0, 0.6, 1.2, 1.8)
    with torch.inference_mode():
        prediction = network(*tensors(wall(focus), focus))
    assert prediction.dioptres.median().item() == pytest.approx(SHARP_AT, abs=0.1)


# -- stacks and the estimator --------------------------------------------------------------------


@pytest.mark.parametrize(
    ('images', 'focus', 'says'),
    [
        (wall((1.0,)), (1.0,), '2 to 32 planes, got 1'),
        (wall((1.0, 1.0)), (1.0, 1.0), 'focused at 1.000 dioptres'),
        (wall((1.0,)) + wall((2.0,), 32), (1.0, 2.0), 'differ in size'),
        ([*wall((1.0,)), wall((2.0,))[0][..., 0]], (1.0, 2.0), 'differ in size'),
        ([np.full((8, 8, 3), np.nan)] * 2, (1.0, 2.0), 'must be uint8'),
        ([np.zeros((8, 8, 1), np.uint8)] * 2, (1.0, 2.0), r'\(H, W\) or \(H, W, 3\)'),
        (wall((1.0, 2.0)), (1.0, float('inf')), 'must be a finite number'),
        (wall((1.0, 2.0)), (1.0, float('nan')), 'must be a finite number'),
    ],
)
def test_rejects_invalid_stacks(images, focus, says):
    with pytest.raises(ValueError, match=says):
        stack(images, focus)


def test_estimator_accepts_planes_in_any_order(estimator):
    images = wall()
    order = [2, 0, 3, 1]
    wanted = OutputRequest(sigma=True, all_in_focus=True)
    expected = estimator.estimate(stack(images), wanted)
    shuffled = stack([images[k] for k in order], [FOCUS[k] for k in order])
    found = estimator.estimate(shuffled, wanted)
    np.testing.assert_allclose(found.depth, expected.depth, atol=1e-4)
    np.testing.assert_allclose(found.sigma, expected.sigma, atol=1e-4)
    assert found.focus_dioptres.tolist() == [FOCUS[k] for k in order]
    assert found.reference == order.index(expected.reference)


def test_estimator_accepts_mono_images(estimator):
    grey = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in wall()]
    result = estimator.estimate(stack(grey), OutputRequest(all_in_focus=True))
    assert np.nanmedian(result.depth) == pytest.approx(1.0 / SHARP_AT, abs=0.1)
    assert result.all_in_focus.shape == (64, 80, 3)


def test_wall_at_infinity_is_beyond_depth_max(estimator, monkeypatch):
    """Focus at infinity is 0 dioptres; pixels sharp there are +inf (REP 117)."""
    focus = (0.0, 1.0, 2.0)
    images = wall(tuple(q + SHARP_AT for q in focus))
    settings = EstimatorSettings(depth_max=4.0, edge_filter=0.0)
    monkeypatch.setattr(estimator, 'settings', settings)
    depth = estimator.estimate(stack(images, focus)).depth
    assert np.isposinf(depth).mean() > 0.5
    assert not np.isnan(depth).any() and (depth > 0.0).all()


def test_estimator_is_uncertain_about_constant_images(estimator):
    wanted = OutputRequest(sigma=True, confidence=True, all_in_focus=True)
    blank = [np.full((64, 80, 3), 90, np.uint8)] * 4
    result = estimator.estimate(stack(blank), wanted)
    seen = estimator.estimate(stack(wall()), wanted)
    assert np.isfinite(result.depth).all() and np.isfinite(result.sigma).all()
    relative = np.median(result.sigma / result.depth**2), np.median(seen.sigma / seen.depth**2)
    assert relative[0] > 2.0 * relative[1]
    assert np.median(result.confidence) < np.median(seen.confidence)
    assert (np.abs(result.all_in_focus.astype(int) - 90) <= 1).all()


# -- data sets -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('images', 'focus', 'unit', 'says'),
    [
        (wall((1.0,)), (1.0,), 'metres', '2 or more planes'),
        (wall((1.0, 1.0)), (1.0, 1.0), 'metres', 'different focus'),
        ([i.astype(float) for i in wall((1.0, 2.0))], (1.0, 2.0), 'metres', 'uint8 images'),
        ([i[..., :1] for i in wall((1.0, 2.0))], (1.0, 2.0), 'metres', 'uint8 images'),
        (wall((1.0, 2.0)), (1.0, float('inf')), 'dioptres', 'finite'),
        (wall((1.0, 2.0)), (0.0, 1.0), 'metres', 'positive'),
        (wall((1.0, 2.0)), (1.0, 2.0, 3.0), 'metres', '3 focus values'),
    ],
)
def test_rejects_invalid_samples(images, focus, unit, says):
    with pytest.raises(DataError, match=says):
        StackSample('s', np.stack(images), np.array(focus), unit)


# -- the command line ----------------------------------------------------------------------------


def files(folder, images):
    folder.mkdir()
    for index, image in enumerate(images):
        assert cv2.imwrite(str(folder / f'{index}.tif'), image)
    return [str(folder / f'{index}.tif') for index in range(len(images))]


def estimate(names, focus, out, capsys):
    """Run ``dualfocus estimate``; return status, summary and error output."""
    words = ['estimate', *names, '--focus-dioptres', *map(str, focus), '-o', str(out), '--json']
    status = main([*words, '--device', 'cpu', '--no-align'])
    printed = capsys.readouterr()
    errors = [line for line in printed.err.splitlines() if 'error: ' in line]
    assert 'Traceback' not in printed.err
    return status, json.loads(printed.out) if printed.out else {}, errors


@pytest.mark.parametrize(
    ('images', 'focus', 'status', 'says'),
    [
        (wall((1.0,)), (1.0,), 1, 'only one image'),
        (wall((1.0, 1.0)), (1.0, 1.0), 2, 'one distance'),
        (wall((1.0,)) + wall((2.0,), 32), (1.0, 2.0), 1, 'differ in size'),
        ([np.full((32, 32, 3), np.nan, np.float32)] * 2, (1.0, 2.0), 1, 'float32 pixels'),
        (wall((1.0, 2.0)), (1.0, float('inf')), 2, 'not a focus'),
        (wall((1.0, 2.0)), (1.0, float('nan')), 2, 'not a focus'),
        (wall((1.0, 2.0)), (1.0, -2.0), 2, 'not a focus'),
        (wall((1.0, 2.0)), (1.0,), 2, '1 values for 2 images'),
    ],
)
def test_command_errors_are_one_line(tmp_path, capsys, images, focus, status, says):
    names = files(tmp_path / 'in', images)
    found, _, errors = estimate(names, focus, tmp_path / 'out', capsys)
    assert found == status
    assert len(errors) == 1 and says in errors[0]
    assert not (tmp_path / 'out' / 'depth.npy').exists()


@pytest.mark.parametrize('order', [(0, 1, 2, 3), (2, 0, 3, 1)])
def test_command_accepts_any_order_mono_and_infinity(tmp_path, capsys, order):
    focus = (0.0, 0.6, 1.2, 1.8)
    images = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in wall(focus)]
    names = files(tmp_path / 'in', [images[k] for k in order])
    status, _, errors = estimate(names, [focus[k] for k in order], tmp_path / 'out', capsys)
    assert status == 0 and not errors
    depth = np.load(tmp_path / 'out' / 'depth.npy')
    assert np.nanmedian(depth) == pytest.approx(1.0 / SHARP_AT, abs=0.1)


@pytest.mark.parametrize('align', ['--align', '--no-align'])
def test_command_on_constant_images(tmp_path, capsys, align):
    names = files(tmp_path / 'in', [np.full((64, 80, 3), 90, np.uint8)] * 3)
    words = [*names, '--focus-dioptres', '0.5', '1', '2', '-o', str(tmp_path / 'out'), align]
    assert main(['estimate', *words, '--device', 'cpu']) == 0
    sigma = np.load(tmp_path / 'out' / 'sigma.npy')
    assert np.isfinite(sigma).any() and 'Traceback' not in capsys.readouterr().err
