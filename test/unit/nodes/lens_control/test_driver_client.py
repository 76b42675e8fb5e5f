# SPDX-License-Identifier: Apache-2.0
"""The conversation with a camera driver, against drivers that behave in all the ways they do."""

import itertools

import pytest

from dualfocus_ros.camera.lens_state import PlaneTarget
from dualfocus_ros.nodes.lens_drivers.camera_ros import CameraRos
from dualfocus_ros.nodes.lens_drivers.depthai import Depthai
from dualfocus_ros.nodes.lens_drivers.parameter_client import (
    DriverClientSettings,
    DriverState,
    LensDriverClient,
    ParameterService,
)
from dualfocus_ros.nodes.lens_drivers.v4l2 import V4l2

LIBCAMERA = {
    'width': 640,
    'AfMode': 2,
    'LensPosition': 1.0,
    'AeEnable': True,
    'AwbEnable': True,
    'ExposureTime': 5000,
    'AnalogueGain': 1.0,
}
WEBCAM = {
    'focus_automatic_continuous': True,
    'focus_absolute': 30,
    'auto_exposure': 3,
    'white_balance_automatic': True,
    'brightness': 128,
}
OAK = {
    'rgb.r_set_man_focus': False,
    'rgb.r_focus': 1,
    'rgb.r_set_man_exposure': False,
    'rgb.r_set_man_whitebalance': False,
    'rgb.r_exposure': 20000,
}
TABLE = ((0.0, 250.0), (0.0, 5.0))
METADATA = {'LensPosition': '1.0', 'ExposureTime': '9123', 'AnalogueGain': '1.5'}


class Driver:
    """The parameters of a driver, answering after a while."""

    def __init__(self, values, delay=0.01):
        self.values, self.delay = dict(values), delay
        self.start_values = dict(values)
        self.present, self.deaf = True, False
        self.refused = {}
        self.stubborn = {}
        self.sets = []

    def answer(self, call):
        if call.kind == ParameterService.LIST:
            return list(self.values)
        if call.kind == ParameterService.GET:
            # rclcpp answers nothing at all if one of them is missing.
            return (
                {n: self.values[n] for n in call.names}
                if all(name in self.values for name in call.names)
                else {}
            )
        for name in call.values:
            if name in self.refused:
                return self.refused[name]
        self.sets.append(dict(call.values))
        self.values |= {n: self.stubborn.get(n, v) for n, v in call.values.items()}
        return ''

    def restart(self):
        self.values = dict(self.start_values)


class Rig:
    """A session and its driver on a clock of their own."""

    def __init__(self, profile, driver, **settings):
        self.driver, self.now = driver, 0.0
        self.done = []
        self.session = LensDriverClient(
            profile,
            '/cam',
            DriverClientSettings(**settings),
            lambda *result: self.done.append(result),
        )
        self.session.metadata = METADATA
        self.under_way = None

    def run(self, seconds, until=None):
        """Go on for a while; returns whether the condition came true."""
        for _ in range(round(seconds / 0.01)):
            self.now += 0.01
            if self.under_way is not None and not self.driver.deaf:
                call, due = self.under_way
                if self.now >= due:
                    self.under_way = None
                    answer = self.driver.answer(call)
                    self.send(self.session.answered(call, answer, self.now))
            self.send(self.session.update(self.now, self.driver.present))
            if until is not None and until():
                return True
        return False

    def send(self, call):
        if call is not None:
            self.under_way = call, self.now + self.driver.delay

    def go(self, dioptres, hold=True, patience=3.0):
        """Order a focus and wait for the answer."""
        count = len(self.done)
        self.session.command(PlaneTarget(dioptres, plane_count=int(hold)))
        assert self.run(patience, lambda: len(self.done) > count), self.session.problem
        return self.done[-1][1]

    def said(self):
        """Return the warnings so far and forget them."""
        texts = [text for warning, text in self.session.notices if warning]
        self.session.notices.clear()
        return texts


def ready(profile, values, **settings):
    rig = Rig(profile, Driver(values), **settings)
    assert rig.run(2.0, lambda: rig.session.ready), rig.session.problem
    return rig


KINDS = [
    (CameraRos(), LIBCAMERA, {'AfMode': 0}, {'LensPosition': 2.0}),
    (V4l2(*TABLE), WEBCAM, {'focus_automatic_continuous': False}, {'focus_absolute': 100}),
    (Depthai(*TABLE), OAK, {'rgb.r_set_man_focus': True}, {'rgb.r_focus': 100}),
]


@pytest.mark.parametrize(('profile', 'values', 'off', 'position'), KINDS)
def test_autofocus_is_off_before_the_lens_moves(profile, values, off, position):
    rig = ready(profile, values)
    assert rig.driver.sets == [off]
    assert rig.go(2.0, hold=False) == ''
    # Autofocus first: some drivers go through the list one by one.
    assert rig.driver.sets[-1] == off | position
    assert list(rig.driver.sets[-1]) == [*off, *position]
    assert rig.session.counts.positions == 1 and not rig.session.busy


@pytest.mark.parametrize(('profile', 'values', 'off', 'position'), KINDS)
def test_locks_come_before_the_first_plane_and_go_after_the_last(profile, values, off, position):
    rig = ready(profile, values)
    rig.go(2.0)
    locked = dict(rig.driver.values)
    switches = {name for name in values if values[name] != locked[name]} - set(off | position)
    assert len(switches) >= 2 and len(rig.session.held) == 2
    rig.go(1.0)
    assert len(rig.driver.sets) == 1 + 2 + 2  # held only once
    rig.go(1.0, hold=False)
    rig.run(1.0)
    for name in switches - {'ExposureTime', 'AnalogueGain'}:
        assert rig.driver.values[name] == values[name]
    assert rig.session.held == ()


def test_camera_ros_keeps_the_exposure_that_it_had_found():
    rig = ready(CameraRos(), LIBCAMERA)
    rig.go(2.0)
    held = next(s for s in rig.driver.sets if 'AeEnable' in s)
    assert held == {'AeEnable': False, 'ExposureTime': 9123, 'AnalogueGain': 1.5}
    newer = {**LIBCAMERA, 'ExposureTimeMode': 0, 'AnalogueGainMode': 0}
    rig = ready(CameraRos(), newer)
    rig.session.metadata = {'ExposureTime': 'none'}
    rig.go(2.0)
    held = next(s for s in rig.driver.sets if 'AeEnable' in s)
    assert held == {'AeEnable': False, 'ExposureTimeMode': 1, 'AnalogueGainMode': 1}
    assert rig.session.restore_values() == {
        'AfMode': 2,
        'AeEnable': True,
        'ExposureTimeMode': 0,
        'AnalogueGainMode': 0,
        'AwbEnable': True,
    }


def test_camera_ros_is_locked_when_its_metadata_have_come_or_do_not_come():
    rig = ready(CameraRos(), LIBCAMERA)
    rig.session.metadata = {}
    rig.session.command(PlaneTarget(2.0, plane_count=1))
    rig.run(0.8)
    assert rig.session.busy and not any('AeEnable' in s for s in rig.driver.sets)
    rig.session.metadata = METADATA
    rig.run(1.5)
    assert rig.driver.values['ExposureTime'] == 9123 and len(rig.done) == 1
    old = ready(CameraRos(), LIBCAMERA)
    old.session.metadata = {}
    assert old.go(2.0) == '' and old.driver.values['AeEnable'] is False


def test_camera_ros_is_given_a_frame_between_different_requests():
    rig = Rig(CameraRos(), Driver(LIBCAMERA))
    times, answer = [], rig.driver.answer
    rig.driver.answer = lambda call: (
        times.append((rig.now, call.values)) if call.kind == ParameterService.SET else None,
        answer(call),
    )[1]
    rig.run(1.0, lambda: rig.session.ready)
    for dioptres in (2.0, 1.5, 1.0):
        rig.go(dioptres)
    for (before, first), (after, second) in itertools.pairwise(times):
        assert after - before >= 0.2 or set(first) == set(second)
    assert times[-1][0] - times[-2][0] < 0.2


def test_without_lock_nothing_but_the_focus_is_set():
    rig = ready(V4l2(*TABLE), WEBCAM, lock=False)
    rig.go(2.0)
    assert rig.driver.values['auto_exposure'] == 3


def test_old_names_of_the_kernel_are_known():
    old = {
        'focus_auto': True,
        'focus_absolute': 0,
        'exposure_auto': 3,
        'gain_automatic': True,
        'white_balance_temperature_auto': True,
    }
    rig = ready(V4l2(*TABLE), old)
    rig.go(1.0)
    assert rig.driver.values == {
        'focus_auto': False,
        'focus_absolute': 50,
        'exposure_auto': 1,
        'gain_automatic': False,
        'white_balance_temperature_auto': False,
    }


def test_what_the_driver_has_no_switch_for_is_said_once_and_no_error():
    rig = ready(V4l2(*TABLE), {'focus_absolute': 0})
    texts = [text for _, text in rig.session.notices]
    assert texts[0] == '/cam has no switch for autofocus, exposure, gain, white balance'
    rig.driver.values['focus_absolute'] = 7
    rig.session.notices.clear()
    assert rig.go(1.0) == ''
    rig.driver.present = False
    rig.run(0.1)
    rig.driver.present = True
    rig.run(1.0, lambda: rig.session.ready)
    assert not any('no switch' in text for _, text in rig.session.notices)


def test_a_driver_that_comes_late():
    rig = Rig(CameraRos(), Driver(LIBCAMERA))
    rig.driver.present = False
    rig.run(5.0)
    assert rig.session.state == DriverState.ABSENT and 'not there' in rig.session.problem
    assert rig.session.counts.calls == 0 and rig.said() == []
    rig.driver.present = True
    assert rig.run(1.0, lambda: rig.session.ready)


def test_a_deaf_driver_is_asked_again_but_not_without_end():
    rig = Rig(CameraRos(), Driver(LIBCAMERA), timeout=1.0)
    rig.driver.deaf = True
    rig.run(10.0)
    assert rig.session.state == DriverState.UNRESPONSIVE
    assert rig.said() == ['/cam has not answered list_parameters for 1 s']
    assert 4 <= rig.session.counts.timeouts <= 5
    rig.driver.deaf = False
    rig.under_way = None
    assert rig.run(3.0, lambda: rig.session.ready) and rig.session.problem == ''


def test_an_order_to_a_driver_that_goes_deaf_is_lost_and_late_answers_are_ignored():
    rig = ready(CameraRos(), LIBCAMERA)
    rig.go(2.0)
    rig.driver.deaf = True
    rig.session.command(PlaneTarget(1.0, plane_count=1))
    rig.run(0.5)
    assert rig.session.busy
    call, _ = rig.under_way
    rig.run(1.0)
    assert not rig.session.ready and not rig.session.busy and len(rig.done) == 1
    assert rig.session.answered(call, '', rig.now) is None
    assert len(rig.done) == 1 and not rig.session.ready


def test_a_restart_brings_everything_back():
    rig = ready(V4l2(*TABLE), WEBCAM)
    rig.go(2.0)
    rig.driver.present = False
    rig.run(0.1)
    assert not rig.session.ready and rig.said() == ['/cam is gone']
    rig.driver.restart()
    rig.driver.present = True
    assert rig.run(1.0, lambda: rig.session.ready)
    assert rig.driver.values['focus_automatic_continuous'] is False
    rig.go(1.0)
    assert rig.driver.values['auto_exposure'] == 1
    assert rig.session.counts.set_ups == 2


def test_a_restart_that_nobody_sees_is_found_by_looking():
    rig = ready(CameraRos(), LIBCAMERA, check_period=1.0)
    rig.go(2.0)
    rig.driver.restart()
    assert rig.run(1.5, lambda: not rig.session.ready)
    assert 'autofocus is on again, AfMode is 2' in rig.session.problem
    assert rig.run(1.0, lambda: rig.session.ready)
    assert rig.driver.values['AfMode'] == 0


def test_a_trouble_that_recurs_is_said_once():
    rig = ready(CameraRos(), LIBCAMERA, check_period=1.0)
    for _ in range(20):
        rig.driver.values['AfMode'] = 2
        rig.run(1.5)
    assert rig.session.counts.set_ups >= 15
    assert len(rig.said()) == 1
    rig.run(61.0)
    rig.driver.values['AfMode'] = 2
    rig.run(2.5)
    assert len(rig.said()) == 1 and rig.session.ready


def test_a_lens_that_somebody_else_moves_is_taken_back():
    rig = ready(V4l2(*TABLE), WEBCAM, check_period=0.5)
    rig.go(2.0)
    rig.run(1.0)
    assert rig.session.ready
    rig.driver.values['focus_absolute'] = 7
    assert rig.run(1.0, lambda: not rig.session.ready)
    assert 'focus_absolute 7, which was set to 100' in rig.session.problem


def test_numbers_in_single_precision_are_the_same():
    rig = ready(CameraRos(), LIBCAMERA, check_period=0.5)
    rig.go(1.2)
    rig.driver.values['LensPosition'] = 1.2000000476837158
    rig.run(2.0)
    assert rig.session.ready and rig.session.counts.set_ups == 1


def test_a_lock_that_is_lost_is_put_back_and_given_up_at_last():
    rig = ready(V4l2(*TABLE), WEBCAM, check_period=0.5)
    rig.go(2.0)
    rig.driver.values['auto_exposure'] = 3
    rig.run(1.0)
    rig.go(1.0)
    assert rig.driver.values['auto_exposure'] == 1 and rig.session.counts.set_ups == 1
    rig.driver.stubborn['auto_exposure'] = 3
    for _ in range(10):
        rig.go(2.0)
        rig.driver.values['auto_exposure'] = 3
        rig.run(1.0)
    assert any('does not keep auto_exposure: given up' in text for text in rig.said())
    assert sum('auto_exposure' in values for values in rig.driver.sets) <= 6


def test_autofocus_that_cannot_be_switched_off():
    rig = Rig(V4l2(*TABLE), Driver(WEBCAM))
    rig.driver.refused['focus_automatic_continuous'] = 'busy'
    rig.run(5.0)
    assert rig.session.state == DriverState.UNSUPPORTED
    assert rig.said() == ['/cam refuses to switch autofocus off: busy']
    del rig.driver.refused['focus_automatic_continuous']
    rig.driver.stubborn['focus_automatic_continuous'] = True
    rig.run(5.0)
    assert 'autofocus does not stay off' in rig.session.problem and not rig.session.ready
    rig.driver.stubborn.clear()
    assert rig.run(2.0, lambda: rig.session.ready)


def test_a_camera_without_a_lens_that_moves():
    rig = Rig(V4l2(*TABLE), Driver({'brightness': 1}))
    rig.run(5.0)
    assert rig.session.state == DriverState.UNSUPPORTED
    assert 'no parameter focus_absolute' in rig.session.problem
    assert len(rig.said()) == 1


def test_a_refused_position_is_told_and_does_not_end_anything():
    rig = ready(CameraRos(), LIBCAMERA)
    rig.driver.refused['LensPosition'] = 'outside of range'
    assert rig.go(2.0) == 'outside of range'
    assert rig.session.counts.refused == 1 and rig.session.ready
    assert 'refused 2 dioptres: outside of range' in rig.session.last_error
    rig.driver.refused.clear()
    assert rig.go(2.0) == ''


def test_a_lock_that_is_refused_does_not_keep_the_sweep():
    rig = ready(V4l2(*TABLE), WEBCAM)
    rig.driver.refused['auto_exposure'] = 'no'
    assert rig.go(2.0) == '' and rig.session.held == ('white balance',)
    assert any('does not let exposure be held still' in text for text in rig.said())


def test_farewell_leaves_the_driver_as_it_was_found():
    rig = ready(V4l2(*TABLE), WEBCAM)
    rig.go(2.0)
    assert rig.session.restore_values() == {
        'focus_automatic_continuous': True,
        'auto_exposure': 3,
        'white_balance_automatic': True,
    }
    # A lapse must not take our own values for the driver's.
    rig.driver.deaf = True
    rig.run(2.0)
    rig.driver.deaf, rig.under_way = False, None
    assert rig.session.restore_values() == {}
    rig.run(3.0, lambda: rig.session.ready)
    assert rig.session.restore_values()['focus_automatic_continuous'] is True
    manual = ready(V4l2(*TABLE), {**WEBCAM, 'focus_automatic_continuous': False}, lock=False)
    manual.go(2.0)
    assert manual.session.restore_values() == {}


@pytest.mark.parametrize('kind', [V4l2, Depthai])
def test_a_driver_whose_unit_is_its_own_needs_a_table(kind):
    with pytest.raises(ValueError, match='dualfocus calibrate focus'):
        kind((), ())
    coarse = kind((0.0, 10.0), (0.0, 5.0))
    assert coarse.nearest(1.3) == pytest.approx(1.5) and coarse.position(1.3) == 3
    with pytest.raises(ValueError, match='covers 0 to 5'):
        coarse.nearest(5.5)


def test_an_oak_has_codes_from_0_to_255_and_a_prefix():
    with pytest.raises(ValueError, match='0 to 255, got 300'):
        Depthai((0.0, 300.0), (0.0, 1.0))
    assert Depthai(*TABLE, prefix='left.').position_parameter == 'left.r_focus'
