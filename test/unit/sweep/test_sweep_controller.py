# SPDX-License-Identifier: Apache-2.0
"""State machine of a sweep, with simulated cameras and their faults."""

import itertools
import math

import pytest

from dualfocus_ros.camera.lens_state import LensReading, LensState, PlaneTarget
from dualfocus_ros.sweep.sweep_controller import SweepController, SweepSettings, uniform_planes

PLANES = (2.0, 1.5, 1.0, 0.5)
PERIOD = 0.05


class FakeCamera:
    """A camera with a delay, which repeats the plane of its command or not."""

    def __init__(self, delay=0.12, repeats_plane=True, reports=True):
        self.delay, self.repeats_plane, self.reports = delay, repeats_plane, reports
        self.ignores_until = -math.inf
        self.limit = math.inf
        self.position, self.target = 1.25, PlaneTarget(1.25)
        self.pending = None
        self.captured = []

    def command(self, target, now):
        if now >= self.ignores_until:
            self.pending = (now + self.delay, target)

    def frame(self, now):
        """Return the lens reading of the frame exposed now."""
        state = LensState.SETTLED
        if self.pending is not None:
            arrival, target = self.pending
            self.target = target
            if now >= arrival:
                self.position, self.pending = min(target.dioptres, self.limit), None
            else:
                state = LensState.MOVING
        target = self.target if self.repeats_plane else PlaneTarget(self.position)
        if state == LensState.SETTLED:
            self.captured.append(self.target)
        return LensReading(round(now * 1e9), self.position, state, *target.plane_id)


def drive(controller, camera, seconds, start=0.0, listeners=1):
    """Run controller and camera; return (time, command) pairs."""
    sent = []
    for tick in range(round(seconds / 0.01)):
        now = start + 0.01 * tick
        controller.set_listeners(listeners, now)
        if camera.reports and tick % 5 == 0:
            controller.add_reading(camera.frame(now), now)
        target = controller.update(now)
        if target is not None:
            sent.append((now, target))
            camera.command(target, now)
    return sent


def planes_of(sent):
    """Return plane indices by sweep."""
    sweeps = {}
    for _, target in sent:
        if target.plane_count:
            indices = sweeps.setdefault(target.sweep_id, [])
            if not indices or indices[-1] != target.plane_index:
                indices.append(target.plane_index)
    return list(sweeps.values())


def test_triangle_reverses_with_each_sweep():
    controller, camera = SweepController(SweepSettings(PLANES)), FakeCamera()
    sent = drive(controller, camera, 4.0)
    sweeps = planes_of(sent)
    assert len(sweeps) >= 3 and controller.counts.sweeps >= 2
    assert sweeps[:3] == [[0, 1, 2, 3], [3, 2, 1, 0], [0, 1, 2, 3]]
    assert all(target.dioptres == PLANES[target.plane_index] for _, target in sent)
    assert all(target.plane_count == 4 for _, target in sent)
    ids = sorted({target.sweep_id for _, target in sent})
    assert ids == list(range(1, len(ids) + 1))
    assert controller.counts.rate > 0.0 and controller.problem == ''


def test_sawtooth_starts_at_the_first_plane():
    controller = SweepController(SweepSettings(PLANES, pattern='sawtooth'))
    sweeps = planes_of(drive(controller, FakeCamera(), 4.0))
    assert sweeps[:3] == [[0, 1, 2, 3]] * 3


@pytest.mark.parametrize('repeats_plane', [True, False])
@pytest.mark.parametrize('frames', [1, 3])
def test_every_plane_has_its_settled_frames(repeats_plane, frames):
    controller = SweepController(SweepSettings(PLANES, settle_frames=frames))
    camera = FakeCamera(repeats_plane=repeats_plane)
    drive(controller, camera, 8.0)
    for sweep in range(1, controller.counts.sweeps + 1):
        for index in range(4):
            seen = [s for s in camera.captured if (s.sweep_id, s.plane_index) == (sweep, index)]
            assert len(seen) >= frames
    assert controller.counts.sweeps >= 2


def test_waits_for_the_settle_time():
    slow = drive(SweepController(SweepSettings(PLANES, settle_time=0.3)), FakeCamera(), 4.0)
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(slow)]
    assert min(gaps) >= 0.3


def test_mode_once_sweeps_on_request():
    controller, camera = SweepController(SweepSettings(PLANES, mode='once')), FakeCamera()
    assert planes_of(drive(controller, camera, 1.0)) == []
    assert controller.request_sweep() == 1
    with pytest.raises(ValueError, match='in progress'):
        controller.request_sweep()
    sent = drive(controller, camera, 4.0, start=1.0)
    assert planes_of(sent) == [[0, 1, 2, 3]]
    # Frames after the sweep must not count as part of it.
    assert sent[-1][1] == PlaneTarget(PLANES[-1]) and camera.target.plane_count == 0
    assert controller.waiting_for == 'a capture request'
    assert controller.request_sweep() == 2
    assert planes_of(drive(controller, camera, 4.0, start=5.0)) == [[3, 2, 1, 0]]


def test_request_in_another_mode_is_refused():
    for mode in ('continuous', 'hold'):
        with pytest.raises(ValueError, match=f'the mode is {mode}'):
            SweepController(SweepSettings(PLANES, mode=mode)).request_sweep()


def test_mode_hold_stays_at_its_position():
    controller, camera = (
        SweepController(SweepSettings(PLANES, mode='hold', hold=0.7)),
        FakeCamera(),
    )
    sent = drive(controller, camera, 3.0)
    assert {target for _, target in sent} == {PlaneTarget(0.7)}
    assert len(sent) <= 2 and camera.position == 0.7


def test_uses_the_model_without_readings():
    controller = SweepController(SweepSettings(PLANES, model_time=0.3, report_timeout=0.5))
    sent = drive(controller, FakeCamera(reports=False), 4.0)
    # Only the first plane waits for the timeout, and its command is repeated.
    first = [target for _, target in sent].count(sent[0][1])
    assert sent[first][0] == pytest.approx(3 * 0.5, abs=0.1)
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(sent[first:])]
    assert planes_of(sent)[0] == [0, 1, 2, 3]
    assert all(gap == pytest.approx(0.3, abs=0.03) for gap in gaps)
    assert 'model' in controller.waiting_for and controller.problem == ''


def test_waits_for_a_camera_that_is_discovered_late():
    controller, camera = SweepController(SweepSettings(PLANES)), FakeCamera(reports=False)
    camera.ignores_until = 2.0
    sent = drive(controller, camera, 2.0)
    assert {target for _, target in sent} == {sent[0][1]}
    camera.reports = True
    drive(controller, camera, 1.0, start=2.0)
    assert (
        camera.target.plane_index > 0
        and controller.counts.skipped_planes == 0
        and controller.problem == ''
    )


def test_reports_ceasing_readings():
    controller, camera = SweepController(SweepSettings(PLANES)), FakeCamera()
    drive(controller, camera, 1.0)
    camera.reports = False
    drive(controller, camera, 3.0, start=1.0)
    assert 'no focus report' in controller.problem


def test_repeats_a_lost_command():
    controller, camera = SweepController(SweepSettings(PLANES, resend_time=0.3)), FakeCamera()
    camera.ignores_until = 1.0
    sent = drive(controller, camera, 1.0)
    assert [target for _, target in sent] == [sent[0][1]] * len(sent) and len(sent) >= 3
    assert 'commanded 2.000' in controller.problem
    drive(controller, camera, 3.0, start=1.0)
    assert (
        controller.counts.sweeps >= 1
        and controller.counts.skipped_planes == 0
        and controller.problem == ''
    )


def test_skips_a_plane_out_of_reach():
    controller, camera = (
        SweepController(SweepSettings(PLANES, plane_timeout=1.0)),
        FakeCamera(),
    )
    camera.limit = 1.7
    drive(controller, camera, 1.15)
    assert controller.counts.skipped_planes == 1
    drive(controller, camera, 6.0, start=1.15)
    assert controller.counts.sweeps >= 1
    assert controller.counts.skipped_planes <= 3 * controller.counts.sweeps


def test_new_camera_gets_the_newest_command():
    controller, camera = SweepController(SweepSettings(PLANES)), FakeCamera()
    assert drive(controller, camera, 1.0, listeners=0) == [] and 'no camera' in controller.problem
    drive(controller, camera, 0.4, start=1.0)
    target = controller.target
    assert drive(controller, FakeCamera(reports=False), 5.0, start=1.4, listeners=0) == []
    assert controller.target == target and 'no camera' in controller.problem
    restarted = FakeCamera()
    sent = drive(controller, restarted, 3.0, start=6.4)
    assert sent[0][1] == target and controller.counts.resent >= 1
    assert controller.counts.sweeps >= 1


def test_restarted_camera_gets_the_command_again():
    """A fast restart, between two updates: readings no longer repeat the command."""
    controller, camera = SweepController(SweepSettings(PLANES)), FakeCamera()
    drive(controller, camera, 0.5)
    sent = drive(controller, FakeCamera(), 3.0, start=0.5)
    assert controller.counts.resent >= 1 and controller.counts.sweeps >= 1
    assert planes_of(sent)


def test_fault_is_counted_and_stops_the_sweep():
    controller = SweepController(SweepSettings(PLANES))
    controller.set_listeners(1, 0.0)
    target = controller.update(0.0)
    controller.add_reading(LensReading(0, target.dioptres, LensState.FAULT, *target.plane_id), 0.1)
    assert controller.update(0.2) is None
    assert controller.counts.faults == 1 and 'fault' in controller.waiting_for


def test_unknown_position_is_not_on_target():
    controller = SweepController(SweepSettings(PLANES))
    controller.set_listeners(1, 0.0)
    target = controller.update(0.0)
    controller.add_reading(LensReading(0, math.nan, LensState.UNKNOWN, *target.plane_id), 0.1)
    assert controller.update(0.2) is None


def test_sweep_continues_after_a_clock_jump():
    controller, camera = SweepController(SweepSettings(PLANES)), FakeCamera()
    drive(controller, camera, 2.0, start=1000.0)
    done = controller.counts.sweeps
    camera.pending = None
    drive(controller, camera, 3.0, start=5.0)
    assert controller.counts.sweeps > done
    assert controller.counts.rate >= 0.0


def test_new_settings_start_a_new_sweep():
    controller, camera = SweepController(SweepSettings(PLANES)), FakeCamera()
    drive(controller, camera, 0.5)
    before = controller.target.sweep_id
    controller.configure(SweepSettings((1.0, 0.2)))
    sent = drive(controller, camera, 1.0, start=0.5)
    assert sent[0][1] == PlaneTarget(1.0, before + 1, 0, 2)


def test_uniform_planes_are_evenly_spaced_in_dioptres():
    assert uniform_planes(2.0, 0.5, 4) == pytest.approx((2.0, 1.5, 1.0, 0.5))
    with pytest.raises(ValueError, match='far < near'):
        uniform_planes(0.5, 2.0, 4)
    with pytest.raises(ValueError, match='2 to 32'):
        uniform_planes(2.0, 0.5, 1)


@pytest.mark.parametrize(
    ('settings', 'text'),
    [
        ({'planes': (1.0,)}, '2 to 32'),
        ({'planes': (1.0, -1.0)}, 'from 0 on'),
        ({'planes': (1.0, 1.01)}, 'tolerance'),
        ({'planes': PLANES, 'mode': 'always'}, 'continuous, once, hold'),
        ({'planes': PLANES, 'pattern': 'sine'}, 'triangle, sawtooth'),
    ],
)
def test_rejects_impossible_settings(settings, text):
    with pytest.raises(ValueError, match=text):
        SweepSettings(**settings)


def test_position_error_is_reported_and_cleared():
    controller, camera = (
        SweepController(SweepSettings(PLANES)),
        FakeCamera(repeats_plane=False),
    )
    camera.limit = 1.2
    drive(controller, camera, 2.0)
    assert controller.position_error == 'lens off target: reported 1.200, commanded 2.000 dioptres'
    assert controller.problem == controller.position_error
    camera.limit = math.inf
    drive(controller, camera, 3.0, start=2.0)
    assert controller.position_error == '' and controller.counts.sweeps >= 1


def test_skips_a_refused_plane_after_a_pause():
    controller = SweepController(SweepSettings(PLANES))
    controller.set_listeners(1, 0.0)
    sent = []
    for tick in range(400):
        now = 0.01 * tick
        target = controller.update(now)
        if target is not None:
            sent.append((now, target.plane_index))
            controller.command_refused('outside of range')
    assert [index for _, index in sent[:4]] == [0, 1, 2, 3]
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(sent)]
    assert min(gaps) >= 0.5
    assert controller.counts.skipped_planes >= 4 and controller.counts.resent == 0
    assert controller.problem == 'refused: outside of range'


def test_timing_starts_when_the_driver_accepts():
    controller = SweepController(SweepSettings(PLANES, model_time=0.3, report_timeout=0.5))
    controller.set_listeners(1, 0.0)
    assert controller.update(2.0) is not None
    controller.command_accepted(2.5)
    assert controller.update(2.75) is None
    assert controller.update(2.85) is not None


def test_slow_lens_gets_no_repeated_command():
    controller, camera = (
        SweepController(SweepSettings(PLANES, resend_time=0.5)),
        FakeCamera(delay=1.5),
    )
    drive(controller, camera, 6.0)
    assert controller.counts.resent == 0 and controller.counts.skipped_planes == 0


def test_reports_why_there_is_no_camera():
    controller = SweepController(SweepSettings(PLANES))
    controller.set_listeners(0, 0.0, 'the driver does not answer')
    assert controller.update(0.1) is None and controller.problem == 'the driver does not answer'
