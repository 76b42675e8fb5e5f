# SPDX-License-Identifier: Apache-2.0
"""Simulated camera: focus, breathing, truth, noise and cache."""

import cv2
import numpy as np
import pytest

from dualfocus_ros.camera.lens_state import PlaneTarget
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.srgb import decode_srgb8
from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.simulation import simulated_camera
from dualfocus_ros.simulation.ray_casting import SceneImage
from dualfocus_ros.simulation.simulated_camera import SimulatedCamera, SimulatedCameraSettings

WIDTH, HEIGHT = 96, 72
LENS = Lens(0.016, 1.4, 7.5e-5)
CAMERA = PinholeCamera(WIDTH, HEIGHT, 0.016 / 7.5e-5, 0.016 / 7.5e-5, 47.5, 35.5)
QUIET = SimulatedCameraSettings(noise=0.0)


def textured_scene(near=0.5, far=2.0):
    """Return a random texture, near in the left half and far in the right half."""
    rng = np.random.default_rng(0)
    colour = np.repeat(rng.random((1, HEIGHT, WIDTH), dtype=np.float32), 3, axis=0)
    depth = np.full((HEIGHT, WIDTH), near, np.float32)
    depth[:, WIDTH // 2 :] = far
    return SceneImage(colour, depth, CAMERA)


def settled(camera, focus, time):
    camera.command(PlaneTarget(focus), time)
    camera.capture(time + 0.1)
    return camera.capture(time + 5.0)


def sharpness(image, columns):
    return decode_srgb8(image)[:, columns].astype(float).std()


class TestSimulatedCamera:
    def test_only_the_half_in_focus_is_sharp(self):
        camera = SimulatedCamera(textured_scene(), LENS, QUIET)
        near_focus = settled(camera, 2.0, 0.0).image
        far_focus = settled(camera, 0.5, 10.0).image
        left, right = slice(8, WIDTH // 2 - 8), slice(WIDTH // 2 + 8, -8)
        assert sharpness(near_focus, left) > 1.5 * sharpness(near_focus, right)
        assert sharpness(far_focus, right) > 1.5 * sharpness(far_focus, left)

    def test_breathing_follows_the_image_distance(self):
        """A mark moves away from the principal point by v(s)/F, and camera and truth with it."""
        scene = textured_scene(2.0, 2.0)
        scene.colour[:] = 0.1
        scene.colour[:, 34:37, 79:82] = 1.0
        scene.depth[35, 80] = 1.9
        camera = SimulatedCamera(scene, LENS, QUIET)
        for time, focus in enumerate((0.0, 1.0, 2.5)):
            frame = settled(camera, focus, 10.0 * time)
            weight = decode_srgb8(frame.image)[..., 0].astype(float) - 0.1
            weight[weight < 0.02] = 0.0
            column = (weight.sum(axis=0) * np.arange(WIDTH)).sum() / weight.sum()
            ratio = LENS.image_distance(focus) / LENS.focal_length
            assert frame.camera.fx == pytest.approx(CAMERA.fx * ratio)
            assert column - CAMERA.cx == pytest.approx((80 - CAMERA.cx) * ratio, abs=0.1)
            marked = np.argwhere(camera.depth(frame) < 1.95)
            assert abs(marked[:, 1].mean() - column) < 0.8

    def test_breathing_off_keeps_the_geometry(self):
        settings = SimulatedCameraSettings(noise=0.0, breathing=False)
        camera = SimulatedCamera(textured_scene(), LENS, settings)
        frame = settled(camera, 2.0, 0.0)
        assert frame.camera == CAMERA
        assert np.array_equal(camera.depth(frame), camera.scene.depth)

    def test_frame_reports_the_command_in_effect(self):
        camera = SimulatedCamera(textured_scene(), LENS, QUIET)
        camera.command(PlaneTarget(1.0, 5, 3, 9), 0.0)
        assert camera.capture(0.001).lens.plane_count == 0
        moving = camera.capture(0.06)
        assert moving.lens.moving and moving.lens.plane_id == (5, 3, 9)
        done = camera.capture(1.0)
        assert not done.lens.moving and done.lens.dioptres == 1.0

    def test_commands_are_clipped_to_the_limits(self):
        camera = SimulatedCamera(textured_scene(), LENS, QUIET)
        assert camera.command(PlaneTarget(99.0), 0.0).dioptres == 2.5
        assert camera.command(PlaneTarget(-1.0), 0.0).dioptres == 0.0
        with pytest.raises(ValueError, match='finite'):
            camera.command(PlaneTarget(float('nan')), 0.0)

    def test_cache_renders_once_and_limits_memory(self, monkeypatch):
        calls = []
        real = simulated_camera.render
        monkeypatch.setattr(
            simulated_camera, 'render', lambda *a, **k: (calls.append(a[2]), real(*a, **k))[1]
        )
        size = WIDTH * HEIGHT * 3 * 2
        settings = SimulatedCameraSettings(noise=0.0, settling_time=0.0, cache_bytes=4 * size)
        camera = SimulatedCamera(textured_scene(), LENS, settings)
        images = [settled(camera, 0.1 * step, float(10 * step)).image for step in range(3)]
        again = settled(camera, 0.1, 100.0).image
        assert np.array_equal(images[1], again)
        assert calls == pytest.approx([0.0, 0.1, 0.2])
        for step in range(20):
            settled(camera, 0.11 * step, 200.0 + 10 * step)
        calls.clear()
        for step in (19, 18, 17, 16):
            settled(camera, 0.11 * step, 600.0 - 10 * step + 190)
        assert calls == []
        settled(camera, 0.11 * 15, 1000.0)
        assert calls == pytest.approx([0.11 * 15])

    def test_moving_frames_are_blended(self):
        camera = SimulatedCamera(textured_scene(), LENS, QUIET)
        low, high = settled(camera, 1.0, 0.0), settled(camera, 1.2, 10.0)
        camera.command(PlaneTarget(1.0), 20.0)
        frame = camera.capture(20.06)
        assert frame.lens.moving and 1.0 < frame.lens.dioptres < 1.2
        assert low.camera.fx < frame.camera.fx < high.camera.fx
        first, second = low.image.astype(float), high.image.astype(float)
        between = np.abs(frame.image - 0.5 * (first + second)).mean()
        assert between < np.abs(second - first).mean()

    def test_jitter_shifts_image_and_truth_together(self):
        scene = textured_scene(1.0, 1.0)
        scene.colour[:] = cv2.GaussianBlur(scene.colour[0], (0, 0), 2.0)
        still = settled(SimulatedCamera(scene, LENS, QUIET), 1.0, 0.0)
        scene.depth[30:40, 40:50] = 1.02
        shaky = SimulatedCamera(
            scene, LENS, SimulatedCameraSettings(noise=0.0, jitter=2.0, seed=4)
        )
        shaky.command(PlaneTarget(1.0), 0.0)
        frames = [shaky.capture(5.0 + 0.1 * i) for i in range(6)]
        assert len({frame.shift for frame in frames}) == 6
        for frame in frames:
            one, other = (decode_srgb8(i.image)[..., 1] for i in (still, frame))
            (x, y), _ = cv2.phaseCorrelate(one, other, cv2.createHanningWindow(one.shape[::-1], 5))
            assert (x, y) == pytest.approx(frame.shift, abs=0.3)
            square = np.argwhere(shaky.depth(frame) > 1.01).mean(axis=0)
            ratio = frame.camera.fx / CAMERA.fx
            expected = (35.5 + (34.5 - 35.5) * ratio, 47.5 + (44.5 - 47.5) * ratio)
            assert square == pytest.approx(
                [expected[0] + frame.shift[1], expected[1] + frame.shift[0]], abs=0.6
            )

    def test_near_focus_darkens_with_the_squared_extension(self):
        scene = textured_scene(1.0, 1.0)
        scene.colour[:] = 0.5
        plain = SimulatedCamera(scene, LENS, QUIET)
        camera = SimulatedCamera(
            scene, LENS, SimulatedCameraSettings(noise=0.0, exposure_breathing=True)
        )
        for time, focus in ((0.0, 0.0), (10.0, 2.5)):
            light, dark = (
                decode_srgb8(settled(c, focus, time).image).mean() for c in (plain, camera)
            )
            # 1 / (1 + m)^2 with m = F q / (1 - F q).
            assert dark / light == pytest.approx((1.0 - 0.016 * focus) ** 2, abs=0.01)

    def test_exposure_jitter_scales_whole_frames(self):
        scene = textured_scene(1.0, 1.0)
        scene.colour[:] *= 0.5
        camera = SimulatedCamera(
            scene, LENS, SimulatedCameraSettings(noise=0.0, exposure_jitter=0.1)
        )
        still = decode_srgb8(settled(SimulatedCamera(scene, LENS, QUIET), 1.0, 0.0).image)
        camera.command(PlaneTarget(1.0), 0.0)
        factors = []
        for n in range(40):
            light = decode_srgb8(camera.capture(5.0 + n).image)
            bright = still > 0.05
            factors.append(np.median(light[bright] / still[bright]))
            assert np.ptp(np.quantile(light[bright] / still[bright], [0.1, 0.9])) < 0.05
        assert np.std(np.log(factors)) == pytest.approx(0.1, rel=0.35)

    def test_holes_stay_unknown_in_the_truth(self):
        scene = textured_scene()
        scene.depth[10:20, 10:20] = np.nan
        camera = SimulatedCamera(scene, LENS, QUIET)
        frame = settled(camera, 1.0, 0.0)
        assert 80 < np.isnan(camera.depth(frame)).sum() < 130
        assert frame.image[12:18, 12:18].std() > 0.0

    def test_invalid_settings_raise(self):
        with pytest.raises(ValueError, match='fx = 213'):
            SimulatedCamera(textured_scene(), Lens(0.008, 1.4, 7.5e-5))
        with pytest.raises(ValueError, match='cannot focus'):
            SimulatedCamera(textured_scene(), LENS, SimulatedCameraSettings(near_limit=80.0))
        with pytest.raises(ValueError, match='far < near'):
            SimulatedCameraSettings(far_limit=3.0, near_limit=1.0)
        with pytest.raises(ValueError, match='jitter'):
            SimulatedCameraSettings(jitter=-1.0)
        with pytest.raises(ValueError, match='exposure_jitter'):
            SimulatedCameraSettings(exposure_jitter=1.5)
