# SPDX-License-Identifier: Apache-2.0
"""Camera drivers that are late, unresponsive, restarted or disobedient, as processes over DDS."""

import math
from pathlib import Path
import signal

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import pytest
from rcl_interfaces.srv import GetParameters
from std_srvs.srv import Trigger

from dualfocus_ros.msg import FocusCommand, FocusState
from ros_client import newest_status
from stand_in_driver import NODES, TABLES

DRIVER = str(Path(__file__).parents[1] / 'support' / 'stand_in_driver.py')
SWEEP = {'count': 3, 'near_dioptres': 2.0, 'far_dioptres': 0.5, 'driver_timeout': 0.5}
TABLE = {
    'calibration__positions': list(TABLES['v4l2'][0]),
    'calibration__dioptres': list(TABLES['v4l2'][1]),
}
METADATA = {'metadata': '/diagnostics'}


class Watch:
    """What the sweep node says about itself."""

    def __init__(self, listener):
        self.arrays = listener.collect(DiagnosticArray, '/diagnostics', 100)
        self.commands = listener.collect(FocusCommand, 'focus_command', 100)

    def status(self, part):
        """Return level, text and values of the newest status of a part."""
        return newest_status(self.arrays, f'focus_sweep: {part}')

    def says(self, part, text):
        return text in self.status(part)[1]

    @property
    def sweeps(self):
        """Numbers of sweeps of which a plane was reached."""
        return {c.sweep_id for c in self.commands if not math.isnan(c.focus_dioptres)}


@pytest.fixture
def watch(listener):
    return Watch(listener)


def seconds(message):
    return message.header.stamp.sec + message.header.stamp.nanosec * 1e-9


def drive(start, kind, **parameters):
    """Start the driver; its faults and the like by name."""
    named = {f'stand_in__{name}': value for name, value in parameters.items()}
    return start(DRIVER, {'__node': NODES[kind]}, stand_in__kind=kind, **named)


@pytest.mark.slow
def test_webcam_starts_late_and_restarts(start, listener, watch):
    sweep = start('focus_sweep_node', driver='v4l2', settle_frames=6, **SWEEP, **TABLE)
    listener.until(lambda: watch.says('driver', 'v4l2_camera not found'), what=sweep.output)
    assert watch.status('driver')[0] == DiagnosticStatus.WARN and not watch.commands
    driver = drive(start, 'v4l2')
    listener.until(lambda: len(watch.sweeps) >= 2, what=sweep.output)
    listener.until(lambda: watch.status('driver')[2]['state'] == 'ready')

    driver.process.kill()
    driver.wait()
    lost = len(watch.commands)
    truth = listener.collect(FocusState, 'truth/focus_state', 100)
    drive(start, 'v4l2')
    # The old process may still be listed: then it is an unresponsive one.
    listener.until(lambda: math.isnan(watch.commands[-1].focus_dioptres), what=sweep.output)
    begun = max(watch.sweeps)
    listener.until(lambda: max(watch.sweeps) >= begun + 2, what=sweep.output)
    listener.until(lambda: int(watch.status('driver')[2]['set-ups']) >= 2)
    known = [c for c in watch.commands[lost:] if not math.isnan(c.focus_dioptres)]
    planes = {round(c.focus_dioptres, 2) for c in known}
    # The new process began with autofocus, which wanders. Its last frames may still show that
    # when it takes the first command, for as long as the latency.
    begin = seconds(known[0]) + 0.5

    def rested():
        return {
            round(s.focus_dioptres, 2)
            for s in truth
            if s.state == FocusState.SETTLED and seconds(s) > begin
        }

    listener.until(lambda: len(rested()) >= 2, what=sweep.output)
    assert len(planes) == 3 and rested() <= planes
    assert sweep.stop() == 0 and 'Traceback' not in sweep.output, sweep.output


@pytest.mark.slow
def test_unresponsive_driver_is_named(start, listener, watch):
    drive(start, 'camera_ros', fault='unresponsive')
    sweep = start('focus_sweep_node', METADATA, driver='camera_ros', **SWEEP)
    listener.until(lambda: watch.says('driver', 'has not answered'), what=sweep.output)
    assert watch.says('sweep', 'has not answered') and not watch.commands
    listener.spin(2.0)
    assert sweep.output.count('has not answered') == 1
    assert sweep.stop() == 0 and 'Traceback' not in sweep.output, sweep.output


@pytest.mark.slow
def test_driver_that_pauses(start, listener, watch):
    driver = drive(start, 'camera_ros')
    sweep = start('focus_sweep_node', METADATA, driver='camera_ros', **SWEEP)
    listener.until(lambda: len(watch.sweeps) >= 1, what=sweep.output)
    driver.process.send_signal(signal.SIGSTOP)
    listener.until(
        lambda: watch.status('driver')[2].get('state') == 'unresponsive', what=sweep.output
    )
    assert math.isnan(watch.commands[-1].focus_dioptres)
    begun = max(watch.sweeps)
    driver.process.send_signal(signal.SIGCONT)
    listener.until(lambda: max(watch.sweeps) > begun + 1, what=sweep.output)
    assert sweep.stop() == 0, sweep.output


@pytest.mark.slow
def test_lens_off_commanded_position(start, listener, watch):
    drive(start, 'camera_ros', fault='stuck')
    sweep = start('focus_sweep_node', METADATA, driver='camera_ros', plane_timeout=1.0, **SWEEP)
    text = 'lens off target: reported 1.100'
    listener.until(lambda: watch.says('sweep', text), what=sweep.output)
    # It goes on.
    listener.until(lambda: len(watch.sweeps) >= 2, what=sweep.output)
    assert sweep.output.count('lens off target') == 1
    listener.until(lambda: int(watch.status('sweep')[2]['planes skipped']) >= 3)
    assert sweep.stop() == 0, sweep.output


def test_autofocus_that_stays_on(start, listener, watch):
    drive(start, 'depthai', fault='refuses_autofocus_off')
    sweep = start('focus_sweep_node', driver='depthai', **SWEEP, **TABLE)
    text = 'oak refuses to switch autofocus off: rgb.r_set_man_focus is locked'
    listener.until(lambda: watch.says('driver', text), what=sweep.output)
    assert not watch.commands
    assert sweep.output.count('refuses') == 1
    assert sweep.stop() == 0, sweep.output


def test_plane_rejected_by_driver_is_skipped(start, listener, watch):
    drive(start, 'camera_ros', fault='no_locks')
    sweep = start(
        'focus_sweep_node',
        METADATA,
        driver='camera_ros',
        planes_dioptres='[3.0, 1.5, 0.5]',
        resend_time=0.3,
    )
    listener.until(lambda: len(watch.sweeps) >= 3, what=sweep.output)
    reached = {c.focus_dioptres for c in watch.commands if not math.isnan(c.focus_dioptres)}
    assert reached == {1.5, 0.5}
    assert 'refused 3 dioptres: outside of range' in watch.status('driver')[2]['last error']
    assert 'no switch for exposure and gain, white balance' in sweep.output
    assert sweep.stop() == 0, sweep.output


@pytest.mark.slow
def test_exposure_is_locked_during_a_capture(start, listener, watch):
    drive(start, 'v4l2')
    sweep = start(
        'focus_sweep_node', driver='v4l2', mode='once', settle_time=1.0, **SWEEP, **TABLE
    )

    def exposure():
        request = GetParameters.Request(names=['auto_exposure'])
        answer = listener.call(GetParameters, '/v4l2_camera/get_parameters', request)
        return answer.values[0].integer_value

    # It rests at the first plane.
    listener.until(
        lambda: watch.status('driver')[2].get('positions set') == '1', what=sweep.output
    )
    assert exposure() == 3
    answer = listener.call(Trigger, '/focus_sweep/capture', Trigger.Request())
    assert answer.success and 'sweep 1 of 3 planes' in answer.message
    listener.until(lambda: exposure() == 1, what=sweep.output)
    listener.until(lambda: watch.commands[-1].plane_count == 0, what=sweep.output)
    listener.until(lambda: exposure() == 3, what=sweep.output)
    planes = {c.plane_index for c in watch.commands if c.sweep_id == 1}
    assert planes == {0, 1, 2} and watch.sweeps <= {0, 1}
    assert sweep.stop() == 0, sweep.output


@pytest.mark.parametrize(
    ('driver', 'parameters'),
    [
        ('camera_ros', {}),
        pytest.param('v4l2', TABLE, marks=pytest.mark.slow),
        pytest.param('depthai', TABLE, marks=pytest.mark.slow),
    ],
)
def test_signal_without_driver_ends_quietly(start, listener, watch, driver, parameters):
    sweep = start('focus_sweep_node', driver=driver, **SWEEP, **parameters)
    listener.until(lambda: watch.says('sweep', 'not found'), what=sweep.output)
    assert sweep.stop() == 0, sweep.output
    assert 'Traceback' not in sweep.output and 'rror' not in sweep.output


@pytest.mark.parametrize(
    ('parameters', 'text'),
    [
        ({'driver': 'v4l2'}, 'dualfocus calibrate focus'),
        ({'driver': 'depthai', 'calibration__positions': '[0, 10]'}, '2 positions but 0 dioptres'),
        ({'driver': 'v4l2', **TABLE, 'near_dioptres': 4.0}, 'covers 0 to 2.5'),
    ],
)
def test_bad_calibration_ends_with_one_line(start, parameters, text):
    sweep = start('focus_sweep_node', **parameters)
    assert sweep.wait() == 1
    assert text in sweep.output
    assert len(sweep.output.strip().splitlines()) == 1
