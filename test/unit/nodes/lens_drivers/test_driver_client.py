# SPDX-License-Identifier: Apache-2.0
"""Client of a camera driver, with simulated drivers and their faults."""

import itertools

import pytest

from dualfocus_ros.camera.lens_state import PlaneTarget
from dualfocus_ros.nodes.lens_drivers.camera_ros import CameraRos
from dualfocus_ros.nodes.lens_drivers.depthai import Depthai
from dualfocus_ros.nodes.lens_drivers.driver_client import (
    DriverClientSettings,
    DriverState,
    LensDriverClient,
)
from dualfocus_ros.nodes.lens_drivers.parameter_calls import ParameterService
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


class FakeDriver:
    """Simulated parameter services of a driver, with a delay."""

    def __init__(self, values, delay=0.01):
        self.values, self.delay = dict(values), delay
        self.start_values = dict(values)
        self.present, self.responds = True, True
        self.refused = {}
        self.overrides = {}
        self.sets = []

    def answer(self, call):
        if call.service == ParameterService.LIST:
            return list(self.values)
        if call.service == ParameterService.GET:
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
        self.values |= {n: self.overrides.get(n, v) for n, v in call.values.items()}
        return ''

    def restart(self):
        self.values = dict(self.start_values)


class DriverFixture:
    """A client, its driver and a simulated clock."""

    def __init__(self, profile, driver, **settings):
        self.driver, self.now = driver, 0.0
        self.done = []
        self.log = []
        self.client = LensDriverClient(
            profile,
            '/cam',
            DriverClientSettings(**settings),
            lambda *result: self.done.append(result),
            self,
        )
        self.client.metadata = METADATA
        self.pending = None

    def run(self, seconds, until=None):
        """Advance the clock; return whether the condition became true."""
        for _ in range(round(seconds / 0.01)):
            self.now += 0.01
            if self.pending is not None and self.driver.responds:
                call, due = self.pending
                if self.now >= due:
                    self.pending = None
                    answer = self.driver.answer(call)
                    self.send(self.client.handle_answer(call, answer, self.now))
            self.send(self.client.update(self.now, self.driver.present))
            if until is not None and until():
                return True
        return False

    def send(self, call):
        if call is not None:
            self.pending = call, self.now + self.driver.delay

    def move_to(self, dioptres, in_sweep=True, timeout=3.0):
        """Move the lens and return the reason of the refusal."""
        count = len(self.done)
        self.client.move_to(PlaneTarget(dioptres, plane_count=int(in_sweep)))
        assert self.run(timeout, lambda: len(self.done) > count), self.client.problem
        return self.done[-1][1]

    def info(self, text):
        self.log.append(('info', text))

    def warning(self, text):
        self.log.append(('warning', text))

    def new_log(self):
        """Return severity and text of the new log messages."""
        log, self.log = self.log, []
        return log

    def new_warnings(self):
        """Return the new warnings; drop other log messages."""
        return [text for severity, text in self.new_log() if severity == 'warning']

    def vanish(self, at):
        """Remove the driver for a moment."""
        self.now = at
        self.driver.present = False
        self.run(0.05)
        self.driver.present = True
        assert self.run(1.0, lambda: self.client.ready)


def ready_client(profile, values, **settings):
    fixture = DriverFixture(profile, FakeDriver(values), **settings)
    assert fixture.run(2.0, lambda: fixture.client.ready), fixture.client.problem
    return fixture


PROFILES = [
    (CameraRos(), LIBCAMERA, {'AfMode': 0}, {'LensPosition': 2.0}),
    (V4l2(*TABLE), WEBCAM, {'focus_automatic_continuous': False}, {'focus_absolute': 100}),
    (Depthai(*TABLE), OAK, {'rgb.r_set_man_focus': True}, {'rgb.r_focus': 100}),
]


@pytest.mark.parametrize(('profile', 'values', 'off', 'position'), PROFILES)
def test_switches_autofocus_off_before_moving(profile, values, off, position):
    fixture = ready_client(profile, values)
    assert fixture.driver.sets == [off]
    assert fixture.move_to(2.0, in_sweep=False) == ''
    # Autofocus first: some drivers go through the list one by one.
    assert fixture.driver.sets[-1] == off | position
    assert list(fixture.driver.sets[-1]) == [*off, *position]
    assert fixture.client.counts.positions == 1 and not fixture.client.busy


@pytest.mark.parametrize(('profile', 'values', 'off', 'position'), PROFILES)
def test_locks_exposure_and_white_balance_during_a_sweep(profile, values, off, position):
    fixture = ready_client(profile, values)
    fixture.move_to(2.0)
    locked = dict(fixture.driver.values)
    switches = {name for name in values if values[name] != locked[name]} - set(off | position)
    assert len(switches) >= 2 and len(fixture.client.locked) == 2
    fixture.move_to(1.0)
    assert len(fixture.driver.sets) == 1 + 2 + 2  # locked only once
    fixture.move_to(1.0, in_sweep=False)
    fixture.run(1.0)
    for name in switches - {'ExposureTime', 'AnalogueGain'}:
        assert fixture.driver.values[name] == values[name]
    assert fixture.client.locked == ()


def test_camera_ros_locks_the_measured_exposure():
    fixture = ready_client(CameraRos(), LIBCAMERA)
    fixture.move_to(2.0)
    held = next(s for s in fixture.driver.sets if 'AeEnable' in s)
    assert held == {'AeEnable': False, 'ExposureTime': 9123, 'AnalogueGain': 1.5}
    newer = {**LIBCAMERA, 'ExposureTimeMode': 0, 'AnalogueGainMode': 0}
    fixture = ready_client(CameraRos(), newer)
    fixture.client.metadata = {'ExposureTime': 'none'}
    fixture.move_to(2.0)
    held = next(s for s in fixture.driver.sets if 'AeEnable' in s)
    assert held == {'AeEnable': False, 'ExposureTimeMode': 1, 'AnalogueGainMode': 1}
    assert fixture.client.restore_values() == {
        'AfMode': 2,
        'AeEnable': True,
        'ExposureTimeMode': 0,
        'AnalogueGainMode': 0,
        'AwbEnable': True,
    }


def test_camera_ros_waits_for_metadata_until_the_timeout():
    fixture = ready_client(CameraRos(), LIBCAMERA)
    fixture.client.metadata = {}
    fixture.client.move_to(PlaneTarget(2.0, plane_count=1))
    fixture.run(0.8)
    assert fixture.client.busy and not any('AeEnable' in s for s in fixture.driver.sets)
    fixture.client.metadata = METADATA
    fixture.run(1.5)
    assert fixture.driver.values['ExposureTime'] == 9123 and len(fixture.done) == 1
    old = ready_client(CameraRos(), LIBCAMERA)
    old.client.metadata = {}
    assert old.move_to(2.0) == '' and old.driver.values['AeEnable'] is False


def test_camera_ros_requests_are_a_frame_apart():
    fixture = DriverFixture(CameraRos(), FakeDriver(LIBCAMERA))
    times, answer = [], fixture.driver.answer
    fixture.driver.answer = lambda call: (
        times.append((fixture.now, call.values)) if call.service == ParameterService.SET else None,
        answer(call),
    )[1]
    fixture.run(1.0, lambda: fixture.client.ready)
    for dioptres in (2.0, 1.5, 1.0):
        fixture.move_to(dioptres)
    for (before, first), (after, second) in itertools.pairwise(times):
        assert after - before >= 0.2 or set(first) == set(second)
    assert times[-1][0] - times[-2][0] < 0.2


def test_sets_only_the_focus_without_lock():
    fixture = ready_client(V4l2(*TABLE), WEBCAM, lock=False)
    fixture.move_to(2.0)
    assert fixture.driver.values['auto_exposure'] == 3


def test_v4l2_accepts_names_of_older_kernels():
    old = {
        'focus_auto': True,
        'focus_absolute': 0,
        'exposure_auto': 3,
        'gain_automatic': True,
        'white_balance_temperature_auto': True,
    }
    fixture = ready_client(V4l2(*TABLE), old)
    fixture.move_to(1.0)
    assert fixture.driver.values == {
        'focus_auto': False,
        'focus_absolute': 50,
        'exposure_auto': 1,
        'gain_automatic': False,
        'white_balance_temperature_auto': False,
    }


def test_reports_missing_switches_once():
    fixture = ready_client(V4l2(*TABLE), {'focus_absolute': 0})
    texts = [text for _, text in fixture.new_log()]
    assert texts[0] == '/cam has no switch for autofocus, exposure, gain, white balance'
    fixture.driver.values['focus_absolute'] = 7
    assert fixture.move_to(1.0) == ''
    fixture.driver.present = False
    fixture.run(0.1)
    fixture.driver.present = True
    fixture.run(1.0, lambda: fixture.client.ready)
    assert not any('no switch' in text for _, text in fixture.new_log())


def test_waits_for_a_late_driver():
    fixture = DriverFixture(CameraRos(), FakeDriver(LIBCAMERA))
    fixture.driver.present = False
    fixture.run(5.0)
    assert fixture.client.state == DriverState.ABSENT and 'not found' in fixture.client.problem
    assert fixture.client.counts.calls == 0 and fixture.new_warnings() == []
    fixture.driver.present = True
    assert fixture.run(1.0, lambda: fixture.client.ready)


def test_retries_an_unresponsive_driver_after_a_pause():
    fixture = DriverFixture(CameraRos(), FakeDriver(LIBCAMERA), timeout=1.0)
    fixture.driver.responds = False
    fixture.run(10.0)
    assert fixture.client.state == DriverState.UNRESPONSIVE
    assert fixture.new_warnings() == ['/cam has not answered list_parameters for 1 s']
    assert 4 <= fixture.client.counts.timeouts <= 5
    fixture.driver.responds = True
    fixture.pending = None
    assert fixture.run(3.0, lambda: fixture.client.ready) and fixture.client.problem == ''


def test_drops_the_target_of_an_unresponsive_driver():
    fixture = ready_client(CameraRos(), LIBCAMERA)
    fixture.move_to(2.0)
    fixture.driver.responds = False
    fixture.client.move_to(PlaneTarget(1.0, plane_count=1))
    fixture.run(0.5)
    assert fixture.client.busy
    call, _ = fixture.pending
    fixture.run(1.0)
    assert not fixture.client.ready and not fixture.client.busy and len(fixture.done) == 1
    assert fixture.client.handle_answer(call, '', fixture.now) is None
    assert len(fixture.done) == 1 and not fixture.client.ready


def test_sets_up_a_restarted_driver_again():
    fixture = ready_client(V4l2(*TABLE), WEBCAM)
    fixture.move_to(2.0)
    fixture.driver.present = False
    fixture.run(0.1)
    assert not fixture.client.ready and fixture.new_warnings() == ['/cam is gone']
    fixture.driver.restart()
    fixture.driver.present = True
    assert fixture.run(1.0, lambda: fixture.client.ready)
    assert fixture.driver.values['focus_automatic_continuous'] is False
    fixture.move_to(1.0)
    assert fixture.driver.values['auto_exposure'] == 1
    assert fixture.client.counts.set_ups == 2


def test_detects_a_restart_between_two_checks():
    fixture = ready_client(CameraRos(), LIBCAMERA, check_period=1.0)
    fixture.move_to(2.0)
    fixture.driver.restart()
    assert fixture.run(1.5, lambda: not fixture.client.ready)
    assert 'autofocus is on again, AfMode is 2' in fixture.client.problem
    assert fixture.run(1.0, lambda: fixture.client.ready)
    assert fixture.driver.values['AfMode'] == 0


def test_minute_of_silence_counts_from_the_last_recurrence():
    fixture = ready_client(V4l2(*TABLE), WEBCAM)
    ready = '/cam is ready: focus_absolute moves the lens, autofocus is off'
    assert fixture.new_log()[-1] == ('info', ready)
    logged = [('warning', '/cam is gone'), ('info', ready)]
    for at, expected in ((10.0, logged), (40.0, []), (99.0, []), (160.0, logged)):
        fixture.vanish(at)
        assert fixture.new_log() == expected


def test_logs_a_recurring_warning_once():
    fixture = ready_client(CameraRos(), LIBCAMERA, check_period=1.0)
    for _ in range(20):
        fixture.driver.values['AfMode'] = 2
        fixture.run(1.5)
    assert fixture.client.counts.set_ups >= 15
    assert len(fixture.new_warnings()) == 1
    fixture.run(61.0)
    fixture.driver.values['AfMode'] = 2
    fixture.run(2.5)
    assert len(fixture.new_warnings()) == 1 and fixture.client.ready


def test_detects_a_lens_moved_by_another_client():
    fixture = ready_client(V4l2(*TABLE), WEBCAM, check_period=0.5)
    fixture.move_to(2.0)
    fixture.run(1.0)
    assert fixture.client.ready
    fixture.driver.values['focus_absolute'] = 7
    assert fixture.run(1.0, lambda: not fixture.client.ready)
    assert 'focus_absolute 7, but it was set to 100' in fixture.client.problem


def test_accepts_numbers_in_single_precision():
    fixture = ready_client(CameraRos(), LIBCAMERA, check_period=0.5)
    fixture.move_to(1.2)
    fixture.driver.values['LensPosition'] = 1.2000000476837158
    fixture.run(2.0)
    assert fixture.client.ready and fixture.client.counts.set_ups == 1


def test_sets_a_lost_lock_again_a_few_times():
    fixture = ready_client(V4l2(*TABLE), WEBCAM, check_period=0.5)
    fixture.move_to(2.0)
    fixture.driver.values['auto_exposure'] = 3
    fixture.run(1.0)
    fixture.move_to(1.0)
    assert fixture.driver.values['auto_exposure'] == 1 and fixture.client.counts.set_ups == 1
    fixture.driver.overrides['auto_exposure'] = 3
    for _ in range(10):
        fixture.move_to(2.0)
        fixture.driver.values['auto_exposure'] = 3
        fixture.run(1.0)
    assert any(
        'does not keep auto_exposure: it stays unlocked' in text for text in fixture.new_warnings()
    )
    assert sum('auto_exposure' in values for values in fixture.driver.sets) <= 6


def test_autofocus_that_stays_on_is_unsupported():
    fixture = DriverFixture(V4l2(*TABLE), FakeDriver(WEBCAM))
    fixture.driver.refused['focus_automatic_continuous'] = 'busy'
    fixture.run(5.0)
    assert fixture.client.state == DriverState.UNSUPPORTED
    assert fixture.new_warnings() == ['/cam refuses to switch autofocus off: busy']
    del fixture.driver.refused['focus_automatic_continuous']
    fixture.driver.overrides['focus_automatic_continuous'] = True
    fixture.run(5.0)
    assert 'autofocus does not stay off' in fixture.client.problem and not fixture.client.ready
    fixture.driver.overrides.clear()
    assert fixture.run(2.0, lambda: fixture.client.ready)


def test_camera_without_movable_lens_is_unsupported():
    fixture = DriverFixture(V4l2(*TABLE), FakeDriver({'brightness': 1}))
    fixture.run(5.0)
    assert fixture.client.state == DriverState.UNSUPPORTED
    assert 'no parameter focus_absolute' in fixture.client.problem
    assert len(fixture.new_warnings()) == 1


def test_reports_a_refused_position_and_continues():
    fixture = ready_client(CameraRos(), LIBCAMERA)
    fixture.driver.refused['LensPosition'] = 'outside of range'
    assert fixture.move_to(2.0) == 'outside of range'
    assert fixture.client.counts.refused == 1 and fixture.client.ready
    assert 'refused 2 dioptres: outside of range' in fixture.client.last_error
    fixture.driver.refused.clear()
    assert fixture.move_to(2.0) == ''


def test_sweeps_without_a_refused_lock():
    fixture = ready_client(V4l2(*TABLE), WEBCAM)
    fixture.driver.refused['auto_exposure'] = 'no'
    assert fixture.move_to(2.0) == '' and fixture.client.locked == ('white balance',)
    assert any('refuses to lock exposure' in text for text in fixture.new_warnings())


def test_restore_values_are_those_before_the_set_up():
    fixture = ready_client(V4l2(*TABLE), WEBCAM)
    fixture.move_to(2.0)
    assert fixture.client.restore_values() == {
        'focus_automatic_continuous': True,
        'auto_exposure': 3,
        'white_balance_automatic': True,
    }
    # After a lost connection, values written before are not the original ones.
    fixture.driver.responds = False
    fixture.run(2.0)
    fixture.driver.responds, fixture.pending = True, None
    assert fixture.client.restore_values() == {}
    fixture.run(3.0, lambda: fixture.client.ready)
    assert fixture.client.restore_values()['focus_automatic_continuous'] is True
    manual = ready_client(
        V4l2(*TABLE), {**WEBCAM, 'focus_automatic_continuous': False}, lock=False
    )
    manual.move_to(2.0)
    assert manual.client.restore_values() == {}
