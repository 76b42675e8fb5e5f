# SPDX-License-Identifier: Apache-2.0
"""The simulated camera and the sweep as processes over DDS."""

import math
import signal

from builtin_interfaces.msg import Time
import cv2
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import pytest
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import DescribeParameters, SetParameters, SetParametersAtomically
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_srvs.srv import Trigger

from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.msg import FocusCommand, FocusState

SMALL = {'width': 160, 'height': 120, 'rate': 30.0, 'threads': 1, 'settling_time': 0.06}
LENS = Lens(0.016, 1.4, 7.2e-3 / 160)


def stamps(messages):
    return [(m.header.stamp.sec, m.header.stamp.nanosec) for m in messages]


def finished_sweeps(commands):
    """Return the numbers of sweeps after which another one was commanded."""
    return sorted({c.sweep_id for c in commands if c.plane_count})[:-1]


def asked_for(commands):
    """Return the focus that was commanded for each plane of each sweep."""
    return {(c.sweep_id, c.plane_index): c.focus_dioptres for c in commands}


def at_rest(states):
    """Return the last report of a lens at rest for each plane of each sweep."""
    return {
        (s.sweep_id, s.plane_index): s
        for s in states
        if s.state == FocusState.SETTLED and s.plane_count == 4
    }


def whole_sweeps(commands, states):
    """Return the numbers of finished sweeps of which each command and its answer were heard."""
    asked, rested = asked_for(commands), at_rest(states)
    return [
        number
        for number in finished_sweeps(commands)
        if all((number, index) in asked and (number, index) in rested for index in range(4))
    ]


def test_sweep_over_the_simulated_camera(start, listener):
    topics = {
        'image_raw': Image,
        'camera_info': CameraInfo,
        'focus_state': FocusState,
        'ground_truth/depth': Image,
    }
    heard = {name: listener.collect(kind, name) for name, kind in topics.items()}
    diagnostics = listener.collect(DiagnosticArray, '/diagnostics')
    camera = start('sim_camera_node', scene='floor', frame_id='sim_optical', **SMALL)
    listener.until(lambda: len(heard['focus_state']) > 2, what=camera.output)
    commands = listener.collect(FocusCommand, 'focus_command')
    sweep = start('focus_sweep_node', count=4, near_dioptres=2.0, far_dioptres=0.5)
    # On a busy machine this listener may lose a message: only the newest are kept for it.
    listener.until(
        lambda: len(whole_sweeps(commands, heard['focus_state'])) >= 2, what=sweep.output
    )
    listener.until(lambda: bool(diagnostics))
    assert sweep.stop() == 0, sweep.output
    assert camera.stop() == 0, camera.output
    assert 'Traceback' not in camera.output + sweep.output

    # Equal stamps and frames on all four topics, allowing for joining and leaving.
    common = set(stamps(heard['image_raw'])) & set(stamps(heard['focus_state']))
    for name, messages in heard.items():
        assert len(set(stamps(messages))) == len(messages)
        assert len(common - set(stamps(messages))) <= 6, name
        assert {m.header.frame_id for m in messages} == {'sim_optical'}
    image, depth = heard['image_raw'][-1], heard['ground_truth/depth'][-1]
    assert (image.encoding, image.width, image.height, image.step) == ('rgb8', 160, 120, 480)
    assert (depth.encoding, depth.step, len(depth.data)) == ('32FC1', 640, 160 * 120 * 4)
    metres = np.frombuffer(depth.data, np.float32)
    assert metres.min() > 0.3 and metres.max() < 7.0

    # Each plane of each finished sweep has a frame of a lens at rest at the commanded focus.
    asked = asked_for(commands)
    rested = at_rest(heard['focus_state'])
    for number in whole_sweeps(commands, heard['focus_state']):
        for index in range(4):
            state = rested[number, index]
            assert state.focus_dioptres == pytest.approx(asked[number, index], abs=1e-6)
            assert state.focus_dioptres == pytest.approx(2.0 - 0.5 * index)
    assert any(s.state == FocusState.MOVING for s in heard['focus_state'])

    # The focal length in camera_info breathes with the focus of the very frame.
    infos = dict(zip(stamps(heard['camera_info']), heard['camera_info'], strict=True))
    for state in heard['focus_state']:
        info = infos.get(stamps([state])[0])
        if info is not None and state.state == FocusState.SETTLED:
            assert info.k[0] == pytest.approx(LENS.focal_length_px(state.focus_dioptres), rel=1e-6)
            assert info.p[0] == info.k[0] and info.width == 160

    status = diagnostics[-1].status[0]
    assert status.name.endswith('focus_sweep: sweep') and status.hardware_id == 'topic'
    keys = {value.key for value in status.values}
    assert {'mode', 'sweep rate (Hz)', 'waiting for'} <= keys


@pytest.mark.slow
def test_sweep_survives_a_restart_of_the_camera(start, listener):
    commands = listener.collect(FocusCommand, 'focus_command')
    states = listener.collect(FocusState, 'focus_state')
    camera = start('sim_camera_node', **SMALL)
    sweep = start('focus_sweep_node', count=3)
    listener.until(lambda: len(finished_sweeps(commands)) >= 1, what=sweep.output)
    camera.process.kill()
    camera.wait()
    listener.spin(0.5)
    assert sweep.process.poll() is None, sweep.output
    states.clear()
    again = start('sim_camera_node', **SMALL)
    listener.until(lambda: bool(states), what=again.output)

    def whole_sweeps():
        rested = {(s.sweep_id, s.plane_index) for s in states if s.state == FocusState.SETTLED}
        return [n for n, _ in rested if {(n, index) for index in range(3)} <= rested]

    listener.until(whole_sweeps, what=sweep.output)
    assert sweep.stop(signal.SIGTERM) == 0 and again.stop(signal.SIGTERM) == 0


def test_once_and_hold(start, listener):
    commands = listener.collect(FocusCommand, 'focus_command')
    states = listener.collect(FocusState, 'focus_state')
    start('sim_camera_node', **SMALL)
    listener.until(lambda: bool(states))
    sweep = start('focus_sweep_node', mode='once', planes_dioptres='[0.4, 1.0, 1.7]')
    answer = listener.call(Trigger, '/focus_sweep/capture', Trigger.Request())
    assert answer.success and 'sweep 1 of 3 planes' in answer.message
    listener.until(lambda: bool(commands) and commands[-1].sweep_id == 1)
    refused = listener.call(Trigger, '/focus_sweep/capture', Trigger.Request())
    assert not refused.success and 'in progress' in refused.message
    listener.until(lambda: len(commands) > 3 and commands[-1].plane_count == 0, what=sweep.output)
    swept = [c.focus_dioptres for c in commands if c.plane_count]
    assert sorted(set(swept)) == pytest.approx([0.4, 1.0, 1.7])

    hold = [
        Parameter('mode', value='hold').to_parameter_msg(),
        Parameter('hold_dioptres', value=0.8).to_parameter_msg(),
    ]
    request = SetParametersAtomically.Request(parameters=hold)
    answer = listener.call(
        SetParametersAtomically, '/focus_sweep/set_parameters_atomically', request
    )
    assert answer.result.successful
    listener.until(lambda: states[-1].focus_dioptres == pytest.approx(0.8))
    close = Parameter('planes_dioptres', value=[1.0, 1.001]).to_parameter_msg()
    request = SetParameters.Request(parameters=[close])
    result = listener.call(SetParameters, '/focus_sweep/set_parameters', request).results[0]
    assert not result.successful and 'tolerance' in result.reason
    assert sweep.stop() == 0


def test_parameters_are_described(start, listener):
    start('sim_camera_node', **SMALL)
    request = DescribeParameters.Request(names=['scene', 'rate', 'seed', 'lens.f_number'])
    scene, rate, seed, stop = listener.call(
        DescribeParameters, '/sim_camera/describe_parameters', request
    ).descriptors
    assert scene.additional_constraints == 'one of table, floor, corridor, target, rgbd'
    assert rate.type == ParameterType.PARAMETER_DOUBLE and rate.floating_point_range
    assert seed.integer_range and stop.description and stop.read_only


def test_rgbd_pair_with_holes_in_simulated_time(start, listener, tmp_path):
    rng = np.random.default_rng(0)
    colour = cv2.GaussianBlur(rng.integers(0, 256, (90, 120, 3), dtype=np.uint8), (0, 0), 1.0)
    depth = np.full((90, 120), 1250, np.uint16)
    depth[20:40, 30:60] = 0
    cv2.imwrite(str(tmp_path / 'colour.png'), colour)
    cv2.imwrite(str(tmp_path / 'depth.png'), depth)
    clock = listener.node.create_publisher(Clock, '/clock', 10)
    truth = listener.collect(Image, 'ground_truth/depth')
    infos = listener.collect(CameraInfo, 'camera_info')
    camera = start(
        'sim_camera_node',
        scene='rgbd',
        rgbd__colour=tmp_path / 'colour.png',
        rgbd__depth=tmp_path / 'depth.png',
        rgbd__intrinsics='[110.0, 110.0, 59.5, 44.5]',
        width=120,
        height=90,
        rate=10.0,
        breathing=False,
        use_sim_time=True,
    )
    # At half of real speed; without /clock nothing may come.
    for tick in range(4000):
        clock.publish(
            Clock(
                clock=Time(sec=5, nanosec=0)
                if tick < 1
                else Time(sec=5 + tick // 100, nanosec=tick % 100 * 10_000_000)
            )
        )
        listener.spin(0.02)
        if len(truth) > 3 and len(infos) > 3:
            break
    assert len(truth) > 3, camera.output
    assert all(5 <= message.header.stamp.sec < 45 for message in truth)
    metres = np.frombuffer(truth[-1].data, np.float32).reshape(90, 120)
    assert np.isnan(metres[20:40, 30:60]).all()
    assert np.isnan(metres).sum() == 20 * 30 and np.nanmax(np.abs(metres - 1.25)) < 1e-6
    assert infos[-1].k[0] == 110.0
    assert camera.stop() == 0


def test_a_command_that_is_no_number_is_ignored(start, listener):
    states = listener.collect(FocusState, 'focus_state')
    camera = start('sim_camera_node', **SMALL)
    publisher = listener.node.create_publisher(FocusCommand, 'focus_command', 10)
    listener.until(lambda: bool(states) and publisher.get_subscription_count() > 0)
    publisher.publish(FocusCommand(focus_dioptres=math.nan))
    publisher.publish(FocusCommand(focus_dioptres=1.5, sweep_id=3, plane_index=1, plane_count=2))
    listener.until(lambda: states[-1].sweep_id == 3 and states[-1].state == FocusState.SETTLED)
    assert states[-1].focus_dioptres == pytest.approx(1.5)
    assert camera.process.poll() is None


@pytest.mark.parametrize(
    ('name', 'parameters', 'text'),
    [
        ('sim_camera_node', {'scene': 'moon'}, 'one of table, floor, corridor, target, rgbd'),
        pytest.param(
            'sim_camera_node',
            {'rate': -3.0},
            'rate must be a number from 0.1 to 240',
            marks=pytest.mark.slow,
        ),
        pytest.param('sim_camera_node', {'scene': 'rgbd'}, 'rgbd.colour', marks=pytest.mark.slow),
        ('sim_camera_node', {'focus__near_dioptres': 0.0}, 'far < near'),
        pytest.param(
            'sim_camera_node',
            {'width': 'broad'},
            'width must be a whole number',
            marks=pytest.mark.slow,
        ),
        ('focus_sweep_node', {'driver': 'telepathy'}, 'one of topic'),
        pytest.param(
            'focus_sweep_node',
            {'near_dioptres': 0.1, 'far_dioptres': 2.0},
            'far < near',
            marks=pytest.mark.slow,
        ),
        ('focus_sweep_node', {'planes_dioptres': '[1.0]'}, '2 to 32'),
    ],
)
def test_wrong_parameters_end_with_one_line(start, name, parameters, text):
    program = start(name, **parameters)
    assert program.wait() != 0
    assert text in program.output
    assert 'Traceback' not in program.output
    assert len(program.output.strip().splitlines()) == 1


@pytest.mark.fault(19)
@pytest.mark.parametrize(
    ('name', 'delay', 'number'),
    [
        pytest.param('sim_camera_node', 0.0, signal.SIGINT, marks=pytest.mark.slow),
        ('sim_camera_node', 0.7, signal.SIGTERM),
        pytest.param('sim_camera_node', 2.0, signal.SIGINT, marks=pytest.mark.slow),
        pytest.param('focus_sweep_node', 0.0, signal.SIGTERM, marks=pytest.mark.slow),
        ('focus_sweep_node', 0.7, signal.SIGINT),
    ],
)
def test_a_signal_at_any_time_ends_quietly(start, listener, name, delay, number):
    program = start(name)
    listener.until(program.handles_signals, what='for signal handlers')
    listener.spin(delay)
    program.process.send_signal(number)
    listener.spin(0.02)
    assert program.stop(number) == 0, program.output
    assert 'Traceback' not in program.output and 'rror' not in program.output
