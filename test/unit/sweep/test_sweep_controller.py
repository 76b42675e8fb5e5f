# SPDX-License-Identifier: Apache-2.0
"""The sweep's state machine against cameras that behave in all the ways the notes describe."""

import itertools
import math

import pytest

from dualfocus_ros.sweep.sweep_controller import (
    PlaneTarget,
    Report,
    SweepController,
    SweepSettings,
    uniform_planes,
)
from dualfocus_ros.sweep.time_synchronizer import LensState

PLANES = (2.0, 1.5, 1.0, 0.5)
PERIOD = 0.05


class Camera:
    """A camera that takes ``delay`` seconds to obey, and echoes commands or not."""

    def __init__(self, delay=0.12, echo=True, reports=True):
        self.delay, self.echo, self.reports = delay, echo, reports
        self.deaf_until = -math.inf
        self.limit = math.inf
        self.position, self.step = 1.25, PlaneTarget(1.25)
        self.pending = None
        self.captured = []

    def command(self, step, now):
        if now >= self.deaf_until:
            self.pending = (now + self.delay, step)

    def frame(self, now):
        """Return the report on the frame exposed now."""
        state = LensState.SETTLED
        if self.pending is not None:
            arrival, step = self.pending
            self.step = step
            if now >= arrival:
                self.position, self.pending = min(step.focus_dioptres, self.limit), None
            else:
                state = LensState.MOVING
        step = self.step if self.echo else PlaneTarget(self.position)
        if state == LensState.SETTLED:
            self.captured.append(self.step)
        return Report(self.position, state, step)


def drive(plan, camera, seconds, start=0.0, listeners=1):
    """Run plan and camera for a while; returns (time, command) pairs."""
    sent = []
    for tick in range(round(seconds / 0.01)):
        now = start + 0.01 * tick
        plan.listeners(listeners, now)
        if camera.reports and tick % 5 == 0:
            plan.report(camera.frame(now), now)
        step = plan.poll(now)
        if step is not None:
            sent.append((now, step))
            camera.command(step, now)
    return sent


def planes_of(sent):
    """Return plane indices by sweep."""
    sweeps = {}
    for _, step in sent:
        if step.plane_count:
            indices = sweeps.setdefault(step.sweep_id, [])
            if not indices or indices[-1] != step.plane_index:
                indices.append(step.plane_index)
    return list(sweeps.values())


def test_triangle_turns_round_with_a_new_sweep_each_way():
    plan, camera = SweepController(SweepSettings(PLANES)), Camera()
    sent = drive(plan, camera, 4.0)
    sweeps = planes_of(sent)
    assert len(sweeps) >= 3 and plan.counts.sweeps >= 2
    assert sweeps[:3] == [[0, 1, 2, 3], [3, 2, 1, 0], [0, 1, 2, 3]]
    assert all(step.focus_dioptres == PLANES[step.plane_index] for _, step in sent)
    assert all(step.plane_count == 4 for _, step in sent)
    ids = sorted({step.sweep_id for _, step in sent})
    assert ids == list(range(1, len(ids) + 1))
    assert plan.counts.rate > 0.0 and plan.trouble == ''


def test_sawtooth_always_starts_at_the_first_plane():
    plan = SweepController(SweepSettings(PLANES, pattern='sawtooth'))
    sweeps = planes_of(drive(plan, Camera(), 4.0))
    assert sweeps[:3] == [[0, 1, 2, 3]] * 3


@pytest.mark.parametrize('echo', [True, False])
@pytest.mark.parametrize('frames', [1, 3])
def test_every_plane_of_a_finished_sweep_has_its_settled_frames(echo, frames):
    plan = SweepController(SweepSettings(PLANES, settle_frames=frames))
    camera = Camera(echo=echo)
    drive(plan, camera, 8.0)
    for sweep in range(1, plan.counts.sweeps + 1):
        for index in range(4):
            seen = [s for s in camera.captured if (s.sweep_id, s.plane_index) == (sweep, index)]
            assert len(seen) >= frames
    assert plan.counts.sweeps >= 2


def test_settle_time_is_waited_for():
    slow = drive(SweepController(SweepSettings(PLANES, settle_time=0.3)), Camera(), 4.0)
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(slow)]
    assert min(gaps) >= 0.3


def test_once_sweeps_only_when_asked():
    plan, camera = SweepController(SweepSettings(PLANES, mode='once')), Camera()
    assert planes_of(drive(plan, camera, 1.0)) == []
    assert plan.request() == 1
    with pytest.raises(ValueError, match='under way'):
        plan.request()
    sent = drive(plan, camera, 4.0, start=1.0)
    assert planes_of(sent) == [[0, 1, 2, 3]]
    # Frames after the sweep must not count as part of it.
    assert sent[-1][1] == PlaneTarget(PLANES[-1]) and camera.step.plane_count == 0
    assert plan.waiting == 'a capture request'
    assert plan.request() == 2
    assert planes_of(drive(plan, camera, 4.0, start=5.0)) == [[3, 2, 1, 0]]


def test_capture_in_another_mode_says_why_not():
    for mode in ('continuous', 'hold'):
        with pytest.raises(ValueError, match=f'the mode is {mode}'):
            SweepController(SweepSettings(PLANES, mode=mode)).request()


def test_hold_goes_to_its_place_and_stays():
    plan, camera = SweepController(SweepSettings(PLANES, mode='hold', hold=0.7)), Camera()
    sent = drive(plan, camera, 3.0)
    assert {step for _, step in sent} == {PlaneTarget(0.7)}
    assert len(sent) <= 2 and camera.position == 0.7


def test_without_reports_the_model_goes_on():
    plan = SweepController(SweepSettings(PLANES, model_time=0.3, report_timeout=0.5))
    sent = drive(plan, Camera(reports=False), 4.0)
    # Only the first plane waits for the time-out, and its command is repeated.
    first = [step for _, step in sent].count(sent[0][1])
    assert sent[first][0] == pytest.approx(3 * 0.5, abs=0.1)
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(sent[first:])]
    assert planes_of(sent)[0] == [0, 1, 2, 3]
    assert all(gap == pytest.approx(0.3, abs=0.03) for gap in gaps)
    assert 'model' in plan.waiting and plan.trouble == ''


def test_a_camera_that_is_found_in_one_direction_before_the_other_gets_the_whole_sweep():
    plan, camera = SweepController(SweepSettings(PLANES)), Camera(reports=False)
    camera.deaf_until = 2.0
    sent = drive(plan, camera, 2.0)
    assert {step for _, step in sent} == {sent[0][1]}
    camera.reports = True
    drive(plan, camera, 1.0, start=2.0)
    assert camera.step.plane_index > 0 and plan.counts.given_up == 0 and plan.trouble == ''


def test_reports_that_cease_are_noticed():
    plan, camera = SweepController(SweepSettings(PLANES)), Camera()
    drive(plan, camera, 1.0)
    camera.reports = False
    drive(plan, camera, 3.0, start=1.0)
    assert 'no focus report' in plan.trouble


def test_a_command_that_was_not_heard_is_repeated():
    plan, camera = SweepController(SweepSettings(PLANES, resend_time=0.3)), Camera()
    camera.deaf_until = 1.0
    sent = drive(plan, camera, 1.0)
    assert [step for _, step in sent] == [sent[0][1]] * len(sent) and len(sent) >= 3
    assert 'commanded 2.000' in plan.trouble
    drive(plan, camera, 3.0, start=1.0)
    assert plan.counts.sweeps >= 1 and plan.counts.given_up == 0 and plan.trouble == ''


def test_a_plane_out_of_reach_is_given_up_and_named():
    plan, camera = SweepController(SweepSettings(PLANES, plane_timeout=1.0)), Camera()
    camera.limit = 1.7
    drive(plan, camera, 1.15)
    assert plan.counts.given_up == 1
    drive(plan, camera, 6.0, start=1.15)
    assert plan.counts.sweeps >= 1
    assert plan.counts.given_up <= 3 * plan.counts.sweeps


def test_nothing_advances_without_a_camera_and_a_new_one_gets_the_command():
    plan, camera = SweepController(SweepSettings(PLANES)), Camera()
    assert drive(plan, camera, 1.0, listeners=0) == [] and 'no camera' in plan.trouble
    drive(plan, camera, 0.4, start=1.0)
    target = plan.target
    assert drive(plan, Camera(reports=False), 5.0, start=1.4, listeners=0) == []
    assert plan.target == target and 'no camera' in plan.trouble
    restarted = Camera()
    sent = drive(plan, restarted, 3.0, start=6.4)
    assert sent[0][1] == target and plan.counts.resent >= 1
    assert plan.counts.sweeps >= 1


def test_a_camera_that_forgot_the_command_is_reminded():
    """A fast restart, between two polls: the frames no longer echo the command."""
    plan, camera = SweepController(SweepSettings(PLANES)), Camera()
    drive(plan, camera, 0.5)
    sent = drive(plan, Camera(), 3.0, start=0.5)
    assert plan.counts.resent >= 1 and plan.counts.sweeps >= 1
    assert planes_of(sent)


def test_fault_is_counted_and_blocks():
    plan = SweepController(SweepSettings(PLANES))
    plan.listeners(1, 0.0)
    step = plan.poll(0.0)
    plan.report(Report(step.focus_dioptres, LensState.FAULT, step), 0.1)
    assert plan.poll(0.2) is None
    assert plan.counts.faults == 1 and 'fault' in plan.waiting


def test_unknown_position_never_counts_as_arrived():
    plan = SweepController(SweepSettings(PLANES))
    plan.listeners(1, 0.0)
    step = plan.poll(0.0)
    plan.report(Report(math.nan, LensState.UNKNOWN, step), 0.1)
    assert plan.poll(0.2) is None


def test_a_clock_that_jumps_back_does_not_stop_the_sweep():
    plan, camera = SweepController(SweepSettings(PLANES)), Camera()
    drive(plan, camera, 2.0, start=1000.0)
    done = plan.counts.sweeps
    camera.pending = None
    drive(plan, camera, 3.0, start=5.0)
    assert plan.counts.sweeps > done
    assert plan.counts.rate >= 0.0


def test_new_settings_start_anew():
    plan, camera = SweepController(SweepSettings(PLANES)), Camera()
    drive(plan, camera, 0.5)
    before = plan.target.sweep_id
    plan.configure(SweepSettings((1.0, 0.2)))
    sent = drive(plan, camera, 1.0, start=0.5)
    assert sent[0][1] == PlaneTarget(1.0, before + 1, 0, 2)


def test_uniform_planes_are_uniform_in_dioptres():
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
def test_impossible_settings_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        SweepSettings(**settings)


def test_disobedience_is_noticed_and_forgotten():
    plan, camera = SweepController(SweepSettings(PLANES)), Camera(echo=False)
    camera.limit = 1.2
    drive(plan, camera, 2.0)
    assert (
        plan.position_error == 'the lens does not obey: reported 1.200, commanded 2.000 dioptres'
    )
    assert plan.trouble == plan.position_error
    camera.limit = math.inf
    drive(plan, camera, 3.0, start=2.0)
    assert plan.position_error == '' and plan.counts.sweeps >= 1


def test_a_refused_plane_is_passed_over_but_not_at_once():
    plan = SweepController(SweepSettings(PLANES))
    plan.listeners(1, 0.0)
    sent = []
    for tick in range(400):
        now = 0.01 * tick
        step = plan.poll(now)
        if step is not None:
            sent.append((now, step.plane_index))
            plan.refused('outside of range')
    assert [index for _, index in sent[:4]] == [0, 1, 2, 3]
    gaps = [b[0] - a[0] for a, b in itertools.pairwise(sent)]
    assert min(gaps) >= 0.5
    assert plan.counts.given_up >= 4 and plan.counts.resent == 0
    assert plan.trouble == 'refused: outside of range'


def test_time_counts_from_when_the_driver_has_taken_the_command():
    plan = SweepController(SweepSettings(PLANES, model_time=0.3, report_timeout=0.5))
    plan.listeners(1, 0.0)
    assert plan.poll(2.0) is not None
    plan.accepted(2.5)
    assert plan.poll(2.75) is None
    assert plan.poll(2.85) is not None


def test_a_lens_that_is_long_under_way_is_not_told_again():
    plan, camera = SweepController(SweepSettings(PLANES, resend_time=0.5)), Camera(delay=1.5)
    drive(plan, camera, 6.0)
    assert plan.counts.resent == 0 and plan.counts.given_up == 0


def test_why_there_is_no_camera():
    plan = SweepController(SweepSettings(PLANES))
    plan.listeners(0, 0.0, 'the driver is deaf')
    assert plan.poll(0.1) is None and plan.trouble == 'the driver is deaf'
