# SPDX-License-Identifier: Apache-2.0
"""Field curvature: formula, correction of a simulated wall, and fit."""

from dataclasses import replace

import numpy as np
import pytest

from dualfocus_ros.calibration.field_curvature_fit import TargetFocus, fit_field_curvature
from dualfocus_ros.camera.field_curvature import field_curvature_map, field_curvature_offset
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.evaluation.classical import focus_volume, refined_peak
from dualfocus_ros.exceptions import CalibrationError
from dualfocus_ros.simulation.ray_casting import SceneImage
from dualfocus_ros.simulation.simulated_camera import SimulatedCamera, SimulatedCameraSettings
from lens_bench import settled_images

WIDTH, HEIGHT = 160, 120
LENS = Lens(0.016, 1.4, 1.2e-5)  # 15 pixels of blur per dioptre
CAMERA = PinholeCamera(WIDTH, HEIGHT, 0.016 / 1.2e-5, 0.016 / 1.2e-5, 79.5, 59.5)
FOCUS = np.linspace(0.4, 2.2, 13)


def wall(curvature, **settings):
    """Return a camera facing a wall at 0.8 m, without noise and breathing."""
    colour = np.random.default_rng(0).random((1, HEIGHT, WIDTH), dtype=np.float32)
    scene = SceneImage(
        np.repeat(0.2 + 0.6 * colour, 3, axis=0), np.full((HEIGHT, WIDTH), 0.8, np.float32), CAMERA
    )
    still = SimulatedCameraSettings(noise=0.0, breathing=False, field_curvature=curvature)
    return SimulatedCamera(scene, LENS, replace(still, **settings))


def measured(camera):
    """Return the (H, W) inverse depth of the classical method."""
    images = settled_images(camera, FOCUS)
    volume = focus_volume(np.stack([image.pixels for image in images]), 'sml')
    return refined_peak(volume, np.array([image.dioptres for image in images]))


def test_curved_wall_is_flat_after_correction():
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


def test_ground_truth_is_independent_of_field_curvature():
    camera = wall((0.3, 0.0))
    frame = camera.capture(1.0)
    assert camera.depth(frame) == pytest.approx(np.full((HEIGHT, WIDTH), 0.8, np.float32))


def test_simulated_image_without_curvature_is_unchanged():
    first, second = (
        settled_images(camera, [1.6])[0].pixels for camera in (wall((0.0, 0.0)), wall((0.3, 0.0)))
    )
    plain = SimulatedCamera(
        wall((0.0, 0.0)).scene, LENS, SimulatedCameraSettings(noise=0.0, breathing=False)
    )
    assert np.array_equal(first, settled_images(plain, [1.6])[0].pixels)
    assert not np.array_equal(first, second)


def test_rejects_other_than_two_coefficients():
    with pytest.raises(ValueError, match='two numbers'):
        wall((0.3,))


def target(coefficients, plane=(1.25, 0.3, 0.4), noise=0.005, reach=0.8, seed=0):
    """Return the measured focus of a plane, on a grid of 300 blocks with errors."""
    y, x = (n.ravel() for n in np.mgrid[-0.75 * reach : 0.75 * reach : 15j, -reach:reach:20j])
    q = plane[0] + plane[1] * x + plane[2] * y - field_curvature_offset(x**2 + y**2, coefficients)
    return TargetFocus(x, y, q + np.random.default_rng(seed).normal(0.0, noise, len(x)))


def test_fits_two_planes_with_outliers():
    first, second = target((0.3, -0.1)), target((0.3, -0.1), (0.8, -0.2, 0.0), seed=1)
    first.dioptres[::9] += 0.5
    found = fit_field_curvature([first, second])
    assert found.coefficients == pytest.approx((0.3, -0.1), abs=0.01)
    off = np.subtract(found.coefficients, (0.3, -0.1))
    assert np.all(np.abs(off) < 3.0 * np.array(found.errors))
    assert found.after.rms < 0.02 < found.before.rms
    assert found.reach == pytest.approx(1.0)


def test_standard_error_matches_repetitions():
    fits = [fit_field_curvature([target((0.2, 0.0), seed=seed)]) for seed in range(40)]
    taken = [fit for fit in fits if fit.coefficients[1] == 0.0]
    assert len(taken) > 35
    scatter = np.std([fit.coefficients[0] for fit in taken])
    stated = np.mean([fit.errors[0] for fit in taken])
    assert scatter < 1.3 * stated and stated < 2.0 * scatter


def test_omits_fourth_power_without_the_corners():
    found = fit_field_curvature([target((0.3, -0.2), noise=1e-4, reach=0.5)])
    assert found.coefficients[1] == 0.0 and np.isnan(found.errors[1])
    assert fit_field_curvature([target((0.3, -0.2), noise=1e-4)]).coefficients[1] != 0.0


def test_correlated_errors_increase_standard_errors():
    rng = np.random.default_rng(2)
    patches = rng.normal(0.0, 0.01, (5, 5)).repeat(3, 0).repeat(4, 1).ravel()
    shared, alone = target((0.3, 0.0)), target((0.3, 0.0))
    shared.dioptres[:] += patches
    alone.dioptres[:] += rng.permutation(patches)
    one, other = fit_field_curvature([alone]), fit_field_curvature([shared])
    assert other.after.rms == pytest.approx(one.after.rms, rel=0.1)
    assert other.errors[0] > 1.5 * one.errors[0]


def test_rejects_targets_that_are_not_flat():
    bent = target((0.3, 0.0))
    bent.dioptres[bent.x > 0.2] += 0.8 * np.sign(np.sin(40.0 * bent.y[bent.x > 0.2]))
    with pytest.raises(CalibrationError, match='one flat target'):
        fit_field_curvature([bent])
