# SPDX-License-Identifier: Apache-2.0
"""The public Python API: exported names, lazy imports, ``estimate_depth``."""

from __future__ import annotations

from pathlib import Path
import re
import subprocess
import sys

import cv2
import numpy as np
import pytest

import dualfocus_ros as df

ROOT = Path(__file__).parents[2]
TABLE = sorted((ROOT / 'examples' / 'table').glob('*.jpg'))
DISTANCES = [0.35, 0.50, 0.90, 1.33, 2.21]
HEIGHT, WIDTH = 96, 128


@pytest.fixture(scope='module')
def wall() -> list[np.ndarray]:
    """Return three images of a wall that is sharp in the second one."""
    noise = np.random.default_rng(4).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    return [cv2.GaussianBlur(noise, (0, 0), blur) for blur in (1.2, 0.3, 1.2)]


def estimate(images, **options) -> df.DepthResult:
    return df.estimate_depth(images, device='cpu', **options)


def test_exports_are_exactly_the_documented_names():
    page = (ROOT / 'docs' / 'api.md').read_text('utf-8')
    assert sorted(re.findall(r'^## `(\w+)`$', page, re.M)) == sorted(df.__all__)
    assert sorted(df.__all__) == df.__all__
    assert dir(df) == sorted([*df.__all__, '__version__'])


def test_the_api_page_is_up_to_date():
    made = subprocess.run(
        [sys.executable, 'tools/api_page.py'], cwd=ROOT, capture_output=True, text=True, check=True
    )
    page = (ROOT / 'docs' / 'api.md').read_text('utf-8')
    assert made.stdout == page, 'out of date: python tools/api_page.py > docs/api.md'


@pytest.mark.parametrize('name', df.__all__)
def test_every_export_is_public_and_documented(name):
    exported = getattr(df, name)
    assert exported.__name__ == name and exported.__doc__


def test_other_names_do_not_exist():
    with pytest.raises(AttributeError, match="'dualfocus_ros' has no attribute 'nonsense'"):
        _ = df.nonsense


def test_the_import_loads_neither_torch_nor_ros():
    code = (
        'import sys, dualfocus_ros; dualfocus_ros.DataError, dualfocus_ros.__version__\n'
        'print(sorted({"torch", "rclpy", "cv2", "numpy"} & set(sys.modules)))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.stdout.strip() == '[]', done.stderr


def test_the_python_lines_of_the_readme_run(monkeypatch):
    (code,) = re.findall(r'```python\n(.*?)```', (ROOT / 'README.md').read_text('utf-8'), re.S)
    monkeypatch.chdir(ROOT)
    names: dict = {}
    exec(compile(code, 'README.md', 'exec'), names)
    assert np.nanmedian(names['depth']) == pytest.approx(0.68, abs=0.07)


def test_paths_arrays_distances_and_dioptres_agree():
    images = [cv2.imread(str(path))[..., ::-1] for path in TABLE]
    one = estimate(TABLE, focus_distances=DISTANCES)
    two = estimate(images, focus_dioptres=[1.0 / metres for metres in DISTANCES])
    assert np.array_equal(one.depth, two.depth, equal_nan=True)
    assert one.sigma is not None and one.all_in_focus is not None
    assert one.confidence is None and one.points is None
    assert np.isfinite(one.depth).mean() > 0.9


def test_the_network_is_loaded_once(wall, monkeypatch):
    made = []
    init = df.DepthEstimator.__init__
    monkeypatch.setattr(
        df.DepthEstimator, '__init__', lambda *given, **named: made.append(init(*given, **named))
    )
    for _ in range(2):
        estimate(wall, focus_distances=[0.4, 0.6, 1.0], model='dualfocus-lite')
    assert len(made) <= 1


def test_pixels_outside_an_aligned_image_are_invalid(wall):
    shifted = [wall[0], wall[1], np.roll(wall[2], 8, axis=1)]
    request = df.OutputRequest(sigma=True, confidence=True, points=True)
    camera = df.PinholeCamera(WIDTH, HEIGHT, 100.0, 100.0, 63.5, 47.5)
    focus = [2.5, 1.7, 1.0]
    result = estimate(shifted, focus_dioptres=focus, request=request, camera=camera)
    lost = np.isnan(result.depth)
    assert lost.any() and not lost.all()
    assert lost[:, -4:].all() or lost[:, :4].all()
    assert np.array_equal(lost, np.isnan(result.sigma))
    assert (result.confidence[lost] == 0).all()
    assert np.array_equal(lost, np.isnan(result.points[..., :3]).any(axis=-1))
    off = df.EstimatorSettings(alignment='off')
    assert np.isfinite(
        estimate(shifted, focus_dioptres=focus, align=False, settings=off).depth
    ).all()


def test_settings_are_those_of_the_call(wall):
    near = df.EstimatorSettings(depth_max=0.2)
    assert np.isposinf(estimate(wall, focus_distances=[0.4, 0.6, 1.0], settings=near).depth).any()
    assert not np.isposinf(estimate(wall, focus_distances=[0.4, 0.6, 1.0]).depth).any()


def test_a_lens_with_breathing_is_accepted(wall):
    lens = df.Lens(focal_length=0.016, f_number=1.4, pixel_pitch=1.3e-5)
    settings = df.EstimatorSettings(lens=lens, breathing='thin_lens')
    for align in (True, False):
        result = estimate(wall, focus_distances=[0.4, 0.6, 1.0], settings=settings, align=align)
        assert np.isfinite(result.depth).mean() > 0.5


GREY = np.zeros((8, 8), np.uint8)


@pytest.mark.parametrize(
    'images, options, text',
    [
        ([GREY, GREY], {}, 'give either focus_distances'),
        ([GREY, GREY], {'focus_distances': [1], 'focus_dioptres': [1]}, 'give either'),
        ([GREY, GREY], {'focus_distances': [1.0]}, 'focus_distances: 1 values for 2 images'),
        ([GREY, GREY], {'focus_distances': [1.0, 0.0]}, 'focus_distances: 0 is not a focus in m'),
        ([GREY, GREY], {'focus_dioptres': [1.0, -1.0]}, 'focus_dioptres: -1 is not a focus in di'),
        ([GREY, GREY], {'focus_dioptres': [1.0, 1.0]}, 'at least 2 different focus distances'),
        ([GREY], {'focus_dioptres': [1.0]}, '2 to 32 planes, got 1'),
        ([GREY, GREY[1:]], {'focus_dioptres': [1.0, 2.0]}, 'differ in size'),
        ([GREY, GREY.astype(float)], {'focus_dioptres': [1.0, 2.0], 'align': False}, 'float64'),
        (['no_such.png', GREY], {'focus_dioptres': [1.0, 2.0]}, 'no_such.png'),
    ],
)
def test_errors_name_the_argument(images, options, text):
    with pytest.raises(df.DataError, match=re.escape(text)):
        estimate(images, **options)


def test_unknown_models_and_devices_are_refused(wall):
    with pytest.raises(df.WeightsError, match='no_such'):
        estimate(wall, focus_distances=[0.4, 0.6, 1.0], model='no_such')
    with pytest.raises(df.DeviceError, match='abacus'):
        df.estimate_depth(wall, focus_distances=[0.4, 0.6, 1.0], device='abacus')
    request = df.OutputRequest(points_decimated=True)
    with pytest.raises(df.DataError, match='align=False'):
        estimate(wall, focus_distances=[0.4, 0.6, 1.0], request=request)


def test_load_stack_and_an_estimator_give_the_same_as_one_call():
    stack = df.load_stack(TABLE[0].parent, focus=DISTANCES)
    estimator = df.DepthEstimator(device='cpu', settings=df.EstimatorSettings(alignment='off'))
    two_steps = estimator.estimate(stack, df.OutputRequest())
    settings = df.EstimatorSettings(alignment='off')
    one_call = estimate(TABLE, focus_distances=DISTANCES, align=False, settings=settings)
    assert np.array_equal(two_steps.depth, one_call.depth, equal_nan=True)
