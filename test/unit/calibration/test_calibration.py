# SPDX-License-Identifier: Apache-2.0
"""The fits of ``dualfocus calibrate``: what they find, and what they refuse and why."""

import itertools
import math

import cv2
import numpy as np
import pytest
from scipy import integrate
import torch
import yaml

from dualfocus_ros.calibration.blur_scale import BlurWidths, fit_blur_scale, measure_blur
from dualfocus_ros.calibration.breathing import (
    RegisteredView,
    equalize_blur,
    fit_breathing,
    measure_views,
)
from dualfocus_ros.calibration.edge_blur import disc_edge, edge_width, find_edge
from dualfocus_ros.calibration.focus_scale import find_sharpness_peak, fit_focus_scale
from dualfocus_ros.calibration.parameter_file import write_parameters
from dualfocus_ros.calibration.robust_fit import fit_linear
from dualfocus_ros.calibration.settling import (
    LensCommand,
    Thumbnail,
    commands_from_reports,
    measure_settling,
)
from dualfocus_ros.calibration.target_images import (
    FocusImage,
    Region,
    gradient_energy,
    group_by_focus,
)
from dualfocus_ros.calibration.texture_blur import power_spectrum, relative_radius
from dualfocus_ros.exceptions import CalibrationError
from dualfocus_ros.simulation.psf import Aperture, blur_kernels


def refuses(match):
    return pytest.raises(CalibrationError, match=match)


def test_robust_fit_ignores_an_outlier_and_knows_it():
    rng = np.random.default_rng(0)
    x = np.linspace(0.0, 1.0, 20)
    y = 2.0 + 3.0 * x + rng.normal(0.0, 0.01, 20)
    y[7] += 1.0
    fit = fit_linear(np.stack([np.ones_like(x), x], axis=1), y)
    assert fit.coefficients == pytest.approx([2.0, 3.0], abs=0.03)
    assert np.nonzero(fit.outliers)[0].tolist() == [7]
    assert np.all(np.abs(fit.coefficients - [2.0, 3.0]) < 5.0 * fit.errors)


class TestFocusScale:
    distances = np.array([0.3, 0.4, 0.6, 1.0, 2.0, 5.0])

    def positions(self, a, b):
        return (1.0 / self.distances - a) / b

    def test_line(self):
        scale = fit_focus_scale(self.positions(-0.4, 0.016), self.distances)
        assert scale.coefficients == pytest.approx((-0.4, 0.016), rel=1e-6)
        positions, dioptres = scale.table
        assert np.all(np.diff(positions) > 0.0) and np.all(np.diff(dioptres) > 0.0)
        assert np.interp(37.5, positions, dioptres) == pytest.approx(-0.4 + 0.016 * 37.5)

    def test_units_that_fall_towards_near(self):
        scale = fit_focus_scale(self.positions(6.0, -0.02), self.distances)
        positions, dioptres = scale.table
        assert np.all(np.diff(positions) > 0.0) and np.all(np.diff(dioptres) < 0.0)

    def test_quadratic_where_it_pays(self):
        u = np.linspace(10.0, 200.0, 8)
        true = 0.1 + 0.01 * u + 2e-5 * u**2
        noisy = true + np.random.default_rng(0).normal(0.0, 0.003, 8)
        scale = fit_focus_scale(u, 1.0 / noisy)
        assert len(scale.coefficients) == 3
        linear, quadratic = scale.left_out_rms
        assert quadratic < 0.5 * linear
        assert np.abs(scale.at(u) / true - 1.0).max() < 0.02
        # Of a straight scale the curve would only follow the noise.
        straight = 0.1 + 0.015 * u + np.random.default_rng(2).normal(0.0, 0.003, 8)
        assert len(fit_focus_scale(u, 1.0 / straight).coefficients) == 2

    def test_one_wrong_distance_is_told_and_does_not_count(self):
        distances = np.array([0.3, 0.35, 0.42, 0.55, 0.75, 1.2, 2.0, 4.0])
        positions = (1.0 / distances - 0.1) / 0.01
        distances[4] = 0.57
        scale = fit_focus_scale(positions, distances)
        assert np.nonzero(scale.fit.outliers)[0].tolist() == [4]
        assert scale.coefficients == pytest.approx((0.1, 0.01), rel=0.02)

    def test_refusals(self):
        with refuses('2 different distances'):
            fit_focus_scale([10, 20], [1.0, 2.0])
        with refuses('reach only from 0.5 m to 0.55 m'):
            fit_focus_scale([10, 20, 30], [0.5, 0.52, 0.55])
        with refuses('do not lie on one curve'):
            fit_focus_scale([10, 20, 30, 40, 50], [0.3, 2.0, 0.4, 5.0, 0.35])
        u = np.linspace(0.0, 100.0, 9)
        with refuses('turns round'):
            fit_focus_scale(u, 1.0 / (0.5 + ((u - 40.0) / 40.0) ** 2))
        with refuses('positive metres'):
            fit_focus_scale([1, 2, 3], [1.0, -2.0, 3.0])


class TestSharpest:
    u = np.linspace(0.0, 300.0, 31)

    def test_between_positions_and_from_repeated_sweeps(self):
        measure = (1.0 + ((self.u - 123.4) / 30.0) ** 2) ** -1.3
        peak = find_sharpness_peak([*self.u, *self.u[::-1]], [*measure, *measure[::-1]])
        assert peak.position == pytest.approx(123.4, abs=0.3)
        assert peak.contrast > 10.0 and len(peak.positions) == 31

    def test_refusals(self):
        with refuses('3 lens positions'):
            find_sharpness_peak([1, 2, 3], [1.0, 2.0, 1.0])
        with refuses('hardly sharper'):
            find_sharpness_peak(self.u, 1.0 + 0.01 * np.sin(self.u))
        with refuses('end of the sweep'):
            find_sharpness_peak(self.u, 1.0 + self.u)
        two = sum((1.0 + ((self.u - at) / 12.0) ** 2) ** -2.0 for at in (80.0, 230.0))
        with refuses('no clear single peak'):
            find_sharpness_peak(self.u, two)


class TestBreathing:
    q = np.linspace(0.2, 2.4, 7)

    def views(self, g1=0.016, g2=3e-4, drift=(4e-4, -2e-4), noise=0.0, reference=1.3, width=640):
        rng = np.random.default_rng(1)
        m = 1.0 + g1 * self.q + g2 * self.q**2
        r = 1.0 + g1 * reference + g2 * reference**2
        s = m / r + rng.normal(0.0, noise, len(m))
        shift = width * np.outer(self.q - s * reference, drift)
        return (
            [RegisteredView(q, a, tuple(b), 0.05) for q, a, b in zip(self.q, s, shift)],
            reference,
            width,
        )

    def test_model_is_recovered_exactly(self):
        found = fit_breathing(*self.views())
        assert found.coefficients == pytest.approx((0.016, 3e-4), rel=1e-6)
        assert found.drift == pytest.approx((4e-4, -2e-4), rel=1e-6)
        assert found.left_out_px < 1e-6

    def test_errors_are_honest(self):
        found = fit_breathing(*self.views(noise=3e-5))
        off = np.array(found.coefficients) - [0.016, 3e-4]
        assert np.all(np.abs(off) < 4.0 * np.array(found.errors))
        assert found.errors[0] < 1e-3

    def test_a_lens_that_does_not_breathe(self):
        found = fit_breathing(*self.views(g1=0.0, g2=0.0, drift=(0.0, 0.0), noise=1e-5))
        assert abs(found.coefficients[0]) < 4.0 * found.errors[0] < 1e-3

    def test_refusals(self):
        views, reference, width = self.views()
        with refuses('4 focus settings'):
            fit_breathing(views[:4], reference, width)
        narrow = [
            RegisteredView(2.0 + 0.05 * n, 1.0 + 8e-4 * n, (0.0, 0.0), 0.0) for n in range(6)
        ]
        with refuses('reach only from 2.00 to 2.25'):
            fit_breathing(narrow, 2.1, width)
        bad = [
            RegisteredView(v.dioptres, v.scale + 0.01 * (-1) ** n, v.shift, 0.1)
            for n, v in enumerate(views)
        ]
        with refuses('not what the others predict'):
            fit_breathing(bad, reference, width)
        with refuses('2.50 pixels apart'):
            fit_breathing(
                [RegisteredView(v.dioptres, v.scale, v.shift, 2.5) for v in views],
                reference,
                width,
            )
        rng = np.random.default_rng(0)
        unrelated = [
            [FocusImage(rng.integers(0, 255, (120, 160), dtype=np.uint8), q)] for q in self.q
        ]
        with refuses('could be registered'):
            measure_views(unrelated)

    def test_blur_is_equalised(self):
        rng = np.random.default_rng(3)
        sharp = cv2.GaussianBlur(rng.uniform(0, 255, (160, 200)).astype(np.float32), (0, 0), 1.0)
        blurred = cv2.GaussianBlur(sharp, (0, 0), 3.0)
        for pair in ((sharp, blurred), (blurred, sharp)):
            smooth = [cv2.GaussianBlur(i, (0, 0), 1.5) for i in equalize_blur(*pair)]
            energies = [gradient_energy(i) for i in smooth]
            assert energies[0] == pytest.approx(energies[1], rel=0.05)


def edge_image(slant=5.0, dark=0.06, bright=0.75):
    """An edge through (161, 120), area-sampled from four times the resolution."""
    y, x = (np.mgrid[0:960, 0:1280] - 1.5) / 4.0
    c, s = math.cos(math.radians(slant)), math.sin(math.radians(slant))
    side = (x - 161.0) * c + (y - 120.0) * s > 0.0
    fine = np.where(side, bright, dark).astype(np.float32)
    return cv2.resize(fine, (320, 240), interpolation=cv2.INTER_AREA)


def blurred(image, radius):
    kernel = blur_kernels(torch.tensor([radius]), Aperture('disc', softness=0.5))[0].numpy()
    half = kernel.shape[0] // 2
    across = np.sum(kernel.sum(axis=0) * np.arange(-half, half + 1) ** 2)
    border = cv2.copyMakeBorder(image, *[half] * 4, cv2.BORDER_REFLECT_101)
    return cv2.filter2D(border, -1, kernel)[half:-half, half:-half], math.sqrt(across)


class TestBlur:
    def test_edge_profile_has_the_variance_of_a_disc(self):
        x = np.arange(-40.0, 40.0, 0.01)
        line = np.gradient(disc_edge(x, 8.0, 1.0), x)
        assert integrate.trapezoid(line, x) == pytest.approx(1.0, abs=1e-3)
        assert integrate.trapezoid(line * x**2, x) == pytest.approx(16.0 + 1.0, rel=0.01)

    @pytest.mark.parametrize('slant', [5.0, -7.0, 84.0, 187.0])
    def test_width_at_an_edge(self, slant):
        sharp = edge_image(slant)
        edge = find_edge(sharp)
        assert edge is not None
        off = (math.degrees(edge.angle) - slant + 90.0) % 180.0 - 90.0
        assert abs(off) < 1.0
        for radius in (1.5, 4.0, 9.0):
            image, truth = blurred(sharp, radius)
            noisy = image + np.random.default_rng(0).normal(0, 0.01, image.shape)
            measured = edge_width(noisy.astype(np.float32), edge)
            assert measured is not None
            # A pixel is as wide as one.
            wide = math.hypot(truth, math.sqrt(1 / 12))
            assert measured[0] == pytest.approx(wide, rel=0.015, abs=0.04)

    def test_no_edge_in_texture_or_upright(self):
        texture = np.random.default_rng(0).uniform(0, 1, (240, 320)).astype(np.float32)
        assert find_edge(cv2.GaussianBlur(texture, (0, 0), 2.0)) is None
        assert find_edge(edge_image(0.0)) is None

    def test_radius_from_texture(self):
        rng = np.random.default_rng(1)
        texture = cv2.GaussianBlur(rng.uniform(0, 1, (480, 640)).astype(np.float32), (0, 0), 0.6)
        _, sharp = power_spectrum(texture)
        for radius in (2.0, 5.0, 9.0):
            image, truth = blurred(texture, radius)
            image = 0.8 * image + rng.normal(0, 0.002, image.shape)  # darker and noisy
            found = relative_radius(*power_spectrum(image.astype(np.float32)), sharp)
            assert found == pytest.approx(2.0 * math.sqrt(truth**2 - 0.1), rel=0.04)
        with pytest.raises(ValueError, match='64 x 64'):
            power_spectrum(texture[:40, :40])

    def widths(self, kappa=16.0, focus=1.2, floor=0.5, low=0.4, high=2.0, count=11, noise=0.0):
        q = np.linspace(low, high, count)
        sigma = np.hypot(floor, 0.25 * kappa * (q - focus))
        sigma = sigma * (1.0 + np.random.default_rng(0).normal(0.0, noise, count))
        return BlurWidths(q, sigma, 'edge')

    def test_parabola(self):
        found = fit_blur_scale(self.widths())
        assert found.kappa == pytest.approx(16.0, rel=1e-6)
        assert found.focus == pytest.approx(1.2, abs=1e-6)
        assert found.floor == pytest.approx(0.5, rel=1e-5)
        noisy = fit_blur_scale(self.widths(noise=0.01))
        assert abs(noisy.kappa - 16.0) < 4.0 * noisy.kappa_error < 2.0

    def test_one_side_needs_the_distance(self):
        one_side = self.widths(focus=0.5, low=0.8, high=2.0)
        with refuses('does not pass the focus of the target'):
            fit_blur_scale(one_side)
        assert fit_blur_scale(one_side, focus=0.5).kappa == pytest.approx(16.0, rel=1e-6)

    def test_refusals(self):
        with refuses('5 focus settings'):
            fit_blur_scale(self.widths(count=5))
        with refuses('changes by only'):
            fit_blur_scale(self.widths(kappa=2.0))
        with refuses('6 are needed'):  # of the six too few have any blur to speak of
            fit_blur_scale(self.widths(count=6, low=0.6, high=1.8))
        falling = self.widths()
        with refuses('does not'):
            fit_blur_scale(BlurWidths(falling.dioptres, 8.0 - falling.sigma, 'edge'))
        with refuses('does not follow a thin lens'):
            fit_blur_scale(self.widths(noise=0.4))
        flat = [[FocusImage(np.full((240, 320), 90, np.uint8), 0.2 * n)] for n in range(8)]
        with refuses('no slanted edge'):
            measure_blur(flat, 'edge')
        with pytest.raises(ValueError, match='auto, edge, texture'):
            measure_blur(flat, 'guess')


class TestSettling:
    """A world whose image at a focus is a point on a bent line, and a lens of first order."""

    planes = (0.0, 0.5, 1.0, 1.5, 2.0)

    def scene(self, focus):
        rng = np.random.default_rng(0)
        a, b, c = rng.normal(0.0, 1.0, (3, 400))
        return (3.0 + a * focus + 0.4 * b * focus**2 + 0.3 * c * np.sin(2 * focus)).astype(
            np.float32
        )

    def record(
        self,
        constant=0.03,
        latency=0.02,
        dwell=0.4,
        sweeps=4,
        rate=60.0,
        off=0.0,
        noise=0.003,
        planes=planes,
        report=None,
    ):
        rng = np.random.default_rng(5)
        order = [q for n in range(sweeps) for q in (planes if n % 2 == 0 else planes[::-1])]
        orders, traces, time, here = [], [], 100.0, order[0]
        previous = order[0]
        for target in order:
            command = time + rng.uniform(0.0, 1.0 / rate)
            orders.append(LensCommand(round(command * 1e9), target))
            goal = target + (off if target > previous else 0.0)
            start, previous = here, target
            for _ in range(round(dwell * rate)):
                moved = max(time - command - latency, 0.0)
                here = goal + (start - goal) * math.exp(-moved / constant)
                values = self.scene(here) + rng.normal(0, noise, 400).astype(np.float32)
                reported = math.nan
                if report == 'echo':
                    reported = (
                        target
                        if time > command
                        else orders[-2].dioptres
                        if len(orders) > 1
                        else math.nan
                    )
                traces.append(Thumbnail(round(time * 1e9), values, reported))
                time += 1.0 / rate
        return orders, traces

    def test_time_latency_and_no_hysteresis(self):
        found = measure_settling(*self.record())
        truth = 0.02 + 0.03 * math.log(50.0)
        assert found.settling_time == pytest.approx(truth, rel=0.03)
        # 10 % are done 3 ms after the latency; frames come every 17 ms.
        assert found.latency_frames == 2
        assert found.settle_time == found.settling_time and not found.reported
        assert found.model_time > truth + 1.0 / 60.0
        assert abs(found.hysteresis) < 0.005

    def test_hysteresis(self):
        found = measure_settling(*self.record(off=0.06))
        assert found.hysteresis == pytest.approx(0.06, abs=0.01)
        assert found.hysteresis > 5.0 * found.hysteresis_error

    def test_report_that_only_repeats_the_command_is_found_out(self):
        orders, traces = self.record(report='echo')
        found = measure_settling(orders, traces)
        assert found.reported and 8 <= found.settle_frames <= 10
        from_reports = commands_from_reports(traces)
        assert [o.dioptres for o in from_reports] == [
            b.dioptres for a, b in itertools.pairwise(orders) if a.dioptres != b.dioptres
        ]
        again = measure_settling(from_reports, traces)
        # From the first frame that reports it, half a frame later on average.
        assert again.settling_time == pytest.approx(found.settling_time - 0.008, abs=0.006)

    def test_lens_faster_than_the_frames(self):
        found = measure_settling(*self.record(constant=1e-4, latency=0.0, rate=30.0))
        assert found.curve == () and found.settling_time <= 1.01 / 30.0
        assert found.latency_frames <= 1

    def test_refusals(self):
        with refuses('3 whole steps'):
            measure_settling(*self.record(sweeps=1, planes=(0.0, 0.5, 1.0, 1.5)))
        with refuses('3 different positions'):
            measure_settling(*self.record(planes=(0.0, 1.0, 2.0)))
        with refuses('fewer than 5 frames'):
            measure_settling(*self.record(dwell=0.05))
        with refuses('still moving'):
            measure_settling(*self.record(constant=0.3, noise=0.0005))
        with refuses('at rest the images still differ'):
            measure_settling(*self.record(noise=3.0))
        orders, traces = self.record()
        mirrored = [
            Thumbnail(t.stamp_ns, self.scene(abs(1.0 - 0.02)).astype(np.float32)) for t in traces
        ]
        with refuses('tell where the lens is|at rest the images still differ'):
            measure_settling(orders, mirrored)


def test_settings_are_grouped_and_bounded():
    pixels = np.zeros((20, 20), np.uint8)
    images = [
        FocusImage(pixels, q, moving=moving)
        for q, moving in ((1.0, False), (0.5, True), (1.001, False), (0.25, False), (1.0, False))
    ]
    groups = group_by_focus(images, keep=2)
    assert [[round(i.dioptres, 2) for i in group] for group in groups] == [[0.25], [1.0, 1.0]]
    with refuses('more than 64'):
        group_by_focus((FocusImage(pixels, 0.02 * n) for n in range(100)), keep=1)
    with refuses('differ in size'):
        group_by_focus([images[0], FocusImage(np.zeros((8, 8), np.uint8), 2.0)], keep=1)
    with pytest.raises(ValueError, match='must lie in the image of 20 x 20'):
        Region(5, 5, 30, 16).cut(pixels)


def test_light_is_linear_unless_said_to_be():
    pixels = np.full((4, 4, 3), 188, np.uint8)
    assert FocusImage(pixels).light() == pytest.approx(0.503, abs=0.002)
    assert FocusImage(pixels, linear=True).light() == pytest.approx(188 / 255, abs=1e-6)


def test_parameter_file_has_numbers_that_ros_takes_for_such(tmp_path):
    path = tmp_path / 'a.yaml'
    values = {'x.small': 1e-7, 'x.list': [1.0, 2.5e-5], 'n': 3, 'm': 'polynomial', 'is': True}
    write_parameters(path, values, ['why'])
    assert path.read_text().startswith('# why\n/**:\n  ros__parameters:\n')
    assert '[1.0, 2.5e-05]' in path.read_text()
    assert yaml.safe_load(path.read_text()) == {'/**': {'ros__parameters': values}}
