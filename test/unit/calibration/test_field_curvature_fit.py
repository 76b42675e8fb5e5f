# SPDX-License-Identifier: Apache-2.0
"""The bowed surface that a lens focuses on: the formula, and a simulated wall made flat by it."""

from dataclasses import replace

import numpy as np
import pytest

from dualfocus_ros.calibration.field_curvature_fit import TargetFocus, fit_field_curvature
from dualfocus_ros.camera.field_curvature import field_curvature_map, field_curvature_offset
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.datasets.samples import StackSample
from dualfocus_ros.evaluation.cases import case_from_stack
from dualfocus_ros.evaluation.classical import focus_volume, refined_peak
from dualfocus_ros.evaluation.method_interface import Estimate
from dualfocus_ros.evaluation.metric_accumulator import plane_fit_metrics
from dualfocus_ros.exceptions import CalibrationError
from dualfocus_ros.simulation.ray_casting import SceneImage
from dualfocus_ros.simulation.simulated_camera import SimulatedCamera, SimulatedCameraSettings
from lens_bench import settled_images
from research.transfer import case_field_curvature, remove_field_curvature

WIDTH, HEIGHT = 160, 120
LENS = Lens(0.016, 1.4, 1.2e-5)  # 15 pixels of blur per dioptre
CAMERA = PinholeCamera(WIDTH, HEIGHT, 0.016 / 1.2e-5, 0.016 / 1.2e-5, 79.5, 59.5)
FOCUS = np.linspace(0.4, 2.2, 13)


def wall(curvature, **settings):
    """Return a camera before a wall at 0.8 m, without noise and breathing."""
    colour = np.random.default_rng(0).random((1, HEIGHT, WIDTH), dtype=np.float32)
    scene = SceneImage(
        np.repeat(0.2 + 0.6 * colour, 3, axis=0), np.full((HEIGHT, WIDTH), 0.8, np.float32), CAMERA
    )
    still = SimulatedCameraSettings(noise=0.0, breathing=False, field_curvature=curvature)
    return SimulatedCamera(scene, LENS, replace(still, **settings))


def measured(camera):
    """Return the (H, W) inverse depth by the classical method."""
    images = settled_images(camera, FOCUS)
    volume = focus_volume(np.stack([image.pixels for image in images]), 'sml')
    return refined_peak(volume, np.array([image.dioptres for image in images]))


def test_a_bowed_wall_is_flat_after_correction():
    found = measured(wall((0.3, 0.0)))
    inner = np.zeros((HEIGHT, WIDTH), bool)
    inner[6:-6, 6:-6] = True
    corner, centre = found[6:20, 6:20], found[50:70, 70:90]
    assert np.median(centre) == pytest.approx(1.25, abs=0.02)
    assert np.median(corner) == pytest.approx(1.25 - 0.3 * 0.76, abs=0.03)
    flat = found + field_curvature_map(HEIGHT, WIDTH, (0.3, 0.0))
    assert np.abs(found - 1.25)[inner].mean() > 0.08
    assert np.abs(flat - 1.25)[inner].mean() < 0.02
    assert np.median(flat[6:20, 6:20]) == pytest.approx(np.median(flat[50:70, 70:90]), abs=0.03)


def test_the_truth_of_a_bowed_camera_is_the_true_depth():
    camera = wall((0.3, 0.0))
    frame = camera.capture(1.0)
    assert camera.depth(frame) == pytest.approx(np.full((HEIGHT, WIDTH), 0.8, np.float32))


def test_without_curvature_the_simulated_image_is_the_same():
    first, second = (
        settled_images(camera, [1.6])[0].pixels for camera in (wall((0.0, 0.0)), wall((0.3, 0.0)))
    )
    plain = SimulatedCamera(
        wall((0.0, 0.0)).scene, LENS, SimulatedCameraSettings(noise=0.0, breathing=False)
    )
    assert np.array_equal(first, settled_images(plain, [1.6])[0].pixels)
    assert not np.array_equal(first, second)


def test_a_camera_refuses_other_than_two_numbers():
    with pytest.raises(ValueError, match='two numbers'):
        wall((0.3,))


def target(coefficients, plane=(1.25, 0.3, 0.4), noise=0.005, reach=0.8, seed=0):
    """Return what is measured of a plane, on a grid of 300 blocks with errors."""
    y, x = (n.ravel() for n in np.mgrid[-0.75 * reach : 0.75 * reach : 15j, -reach:reach:20j])
    q = plane[0] + plane[1] * x + plane[2] * y - field_curvature_offset(x**2 + y**2, coefficients)
    return TargetFocus(x, y, q + np.random.default_rng(seed).normal(0.0, noise, len(x)))


def test_the_fit_of_two_planes_and_outliers():
    first, second = target((0.3, -0.1)), target((0.3, -0.1), (0.8, -0.2, 0.0), seed=1)
    first.dioptres[::9] += 0.5
    found = fit_field_curvature([first, second])
    assert found.coefficients == pytest.approx((0.3, -0.1), abs=0.01)
    off = np.subtract(found.coefficients, (0.3, -0.1))
    assert np.all(np.abs(off) < 3.0 * np.array(found.errors))
    assert found.after.rms < 0.02 < found.before.rms
    assert found.reach == pytest.approx(1.0)


def test_the_standard_error_is_the_scatter_of_repetitions():
    fits = [fit_field_curvature([target((0.2, 0.0), seed=seed)]) for seed in range(40)]
    taken = [fit for fit in fits if fit.coefficients[1] == 0.0]
    assert len(taken) > 35
    scatter = np.std([fit.coefficients[0] for fit in taken])
    stated = np.mean([fit.errors[0] for fit in taken])
    assert scatter < 1.3 * stated and stated < 2.0 * scatter


def test_the_fourth_power_is_left_out_where_the_corners_were_not_seen():
    found = fit_field_curvature([target((0.3, -0.2), noise=1e-4, reach=0.5)])
    assert found.coefficients[1] == 0.0 and np.isnan(found.errors[1])
    assert fit_field_curvature([target((0.3, -0.2), noise=1e-4)]).coefficients[1] != 0.0


def test_errors_that_neighbours_share_count_as_such():
    rng = np.random.default_rng(2)
    patches = rng.normal(0.0, 0.01, (5, 5)).repeat(3, 0).repeat(4, 1).ravel()
    shared, alone = target((0.3, 0.0)), target((0.3, 0.0))
    shared.dioptres[:] += patches
    alone.dioptres[:] += rng.permutation(patches)
    one, other = fit_field_curvature([alone]), fit_field_curvature([shared])
    assert other.after.rms == pytest.approx(one.after.rms, rel=0.1)
    assert other.errors[0] > 1.5 * one.errors[0]


def test_what_is_not_flat_is_refused():
    bent = target((0.3, 0.0))
    bent.dioptres[bent.x > 0.2] += 0.8 * np.sign(np.sin(40.0 * bent.y[bent.x > 0.2]))
    with pytest.raises(CalibrationError, match='one flat target'):
        fit_field_curvature([bent])


def test_a_recorded_wall_is_judged_with_the_bow_taken_out():
    images = settled_images(wall((0.3, 0.0)), FOCUS)
    whole = slice(0, HEIGHT), slice(0, WIDTH)
    sample = StackSample(
        'wall', np.stack([image.pixels for image in images]), FOCUS, 'dioptres', plane=whole
    )
    case = case_from_stack(sample)
    field = case_field_curvature(case, whole[0])
    bowed = Estimate(1.25 - field_curvature_map(HEIGHT, WIDTH, (0.3, 0.0)))
    texture = np.ones((HEIGHT, WIDTH))
    before = plane_fit_metrics(case, bowed, texture)['plane_rms']
    after = plane_fit_metrics(case, remove_field_curvature(bowed, field), texture)['plane_rms']
    assert before > 0.05 and after < 0.2 * before
    assert case_field_curvature(case_from_stack(sample, planes=2), whole[0]) is None
