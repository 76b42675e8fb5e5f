# SPDX-License-Identifier: Apache-2.0
"""Faults of cameras, subscribers and connections, as the depth node meets them over DDS.

A stand-in replaces the network; outputs and /diagnostics show the effect of a fault.
"""

from collections import Counter
from dataclasses import replace
import math
import threading

import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
pytest.importorskip('dualfocus_ros.msg', reason='needs the built messages: make build')

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Log
import rclpy
from rclpy.qos import ReliabilityPolicy
from safetensors import safe_open
from safetensors.torch import save_file
from sensor_msgs.msg import Image
from sensor_msgs_py import point_cloud2
import torch

from depth_rig import (
    FRAME,
    HEIGHT,
    MS,
    START,
    WIDTH,
    DepthRig,
    FakeEstimator,
    camera_info,
    command,
    header,
    image,
    stamps_of,
)
from dualfocus_ros.models import DualFocus, weights
from dualfocus_ros.models.weights import save_model
from dualfocus_ros.msg import FocusCommand, FocusState, StackInfo
from dualfocus_ros.nodes.stack_processor import load_estimator
from dualfocus_ros.sweep.stage_counter import Stage

FOCUS = tuple(0.4 + 0.2 * n for n in range(8))
PERIOD = 33 * MS
SWEEP = len(FOCUS) * PERIOD
PARTIAL = StackInfo.FLAG_PLANE_MISSING | StackInfo.FLAG_PARTIAL
INFO = 20


@pytest.fixture
def make():
    """Return a function that makes a rig; all are closed after the test."""
    rigs = []

    def make_rig(**arguments):
        rigs.append(DepthRig(**arguments))
        return rigs[-1]

    yield make_rig
    for rig in rigs:
        rig.close()


@pytest.fixture
def rig(make):
    """Return a rig with a camera and a subscriber of depth, connected."""
    rig = make()
    rig.use_camera()
    rig.listen('depth/image_rect')
    rig.ready()
    return rig


def counts(rig):
    """Return the number of rejections by reason."""
    return {r.reason: r.count for r in rig.node._stage_counter.snapshot().rejections}


def at_work(rig):
    """Wait until the network has the first stack."""
    rig.until(lambda: rig.node._stage_counter.snapshot().counts[Stage.STACKED] == 1)
    rig.until(lambda: not rig.node._worker.has_pending)


def depth_values(message):
    """Return the pixels of a 32FC1 depth image."""
    return np.frombuffer(message.data, np.float32).reshape(message.height, message.width)


# -- what the camera and the lens do -------------------------------------------------------------


@pytest.mark.fault(4)
@pytest.mark.parametrize('state', [FocusState.SETTLED, FocusState.UNKNOWN])
def test_lens_off_position_costs_that_image(make, state):
    rig = make(stack__command_tolerance=0.25)
    rig.use_camera()
    rig.advertise('focus_command', FocusCommand)
    rig.listen('stack_info')
    rig.ready()
    for sweep, off in ((1, 0.1), (2, 0.4)):
        start = START + sweep * 10 * SWEEP
        for n, dioptres in enumerate(FOCUS):
            rig.publish('focus_command', command(start + n, dioptres, sweep, n, len(FOCUS)))
            sent = (sweep - 1) * len(FOCUS) + n + 1
            rig.until(lambda s=sent: rig.node._input._assembler.command_count == s)
            reported = dioptres - off if n == 3 else dioptres
            rig.shoot(start + n * PERIOD, reported, sweep, n, len(FOCUS), state=state)
        # The next sweep must not supersede it.
        rig.until(lambda n=sweep: len(rig.received['stack_info']) == n or n == 2)
    rig.sweep(FOCUS, start=START + 90 * SWEEP, sweep=3, last=1)
    rig.until(lambda: len(rig.received['stack_info']) == 2)
    close, far = rig.received['stack_info']
    assert (len(close.stamps), close.flags) == (8, 0)
    assert (len(far.stamps), far.flags) == (7, PARTIAL)
    assert counts(rig)['off_command'] == 1
    rig.until(lambda: 'rejected off_command' in rig.status('input')[2])
    assert (
        'sent to 1.000 dioptres and reports 0.600'
        in (rig.status('input')[2]['rejected off_command'])
    )


def other_image(stamp, value, kind):
    """Return an image that differs from the usual ones in one respect."""
    message = image(stamp, value)
    if kind == 'size':
        message.width, message.height, message.step = 2 * WIDTH, 2 * HEIGHT, 6 * WIDTH
        message.data = bytes([value]) * (12 * WIDTH * HEIGHT)
    elif kind == 'encoding':
        message.encoding = 'bgr8'
    else:
        message.header.frame_id = 'other_frame'
    return message


@pytest.mark.fault(6)
@pytest.mark.parametrize('kind', ['size', 'encoding', 'frame'])
@pytest.mark.parametrize('midway', [True, False])
def test_format_change_restarts_and_is_logged_once(make, kind, midway):
    rig = make()
    rig.use_camera(info=False)
    rig.listen('rgb/image_rect')
    rig.listen('/rosout', Log)
    rig.ready()
    rig.sweep(sweep=1)
    rig.until(lambda: len(rig.received['rgb/image_rect']) == 1)
    if midway:
        rig.sweep(start=START + SWEEP, sweep=2, last=2)
        rig.until(lambda: rig.node._input.in_progress)
    publish = rig.publish

    def publish_other(topic, message):
        if topic == 'image_raw':
            stamp = message.header.stamp
            message = other_image(0, message.data[0], kind)
            message.header.stamp = stamp
        publish(topic, message)

    rig.publish = publish_other
    rig.sweep(start=START + 2 * SWEEP, sweep=3)
    rig.until(lambda: len(rig.received['rgb/image_rect']) == 2)
    before, after = rig.received['rgb/image_rect']
    factor = 2 if kind == 'size' else 1
    assert (after.width, after.height) == (factor * before.width, factor * before.height)
    assert after.header.frame_id == ('other_frame' if kind == 'frame' else FRAME)
    (stack, _, _) = rig.estimator.asked[-1]
    assert stack.sweep_id == 3 and len(stack.planes) == 3
    assert counts(rig).get('format_changed', 0) == int(midway)
    rig.spin(1.2)  # until the rejections have been looked through for the log
    said = [m for m in rig.received['/rosout'] if 'changed from' in m.msg]
    assert len(said) == 1 and int(said[0].level) == INFO
    assert '32x24 rgb8' in said[0].msg


# -- what the network does -----------------------------------------------------------------------


class BlindEstimator(FakeEstimator):
    """A network that has no depth for any pixel, as after NaN or infinity inside of it."""

    def estimate(self, stack, outputs):
        known = super().estimate(stack, outputs)
        nothing = np.full_like(known.depth, np.nan)
        points = np.full((HEIGHT, WIDTH, 4), np.nan, np.float32)
        return replace(
            known,
            depth=nothing,
            sigma=nothing,
            confidence=np.zeros(nothing.shape, np.uint8),
            points=points,
            points_decimated=np.zeros((0, 4), np.float32),
        )


@pytest.mark.fault(11)
def test_depth_without_valid_pixels_is_counted(make):
    rig = make(load=lambda settings: BlindEstimator())
    rig.use_camera()
    topics = ('depth/image_rect', 'depth/sigma', 'depth/points', 'depth/points_decimated')
    for topic in topics:
        rig.listen(topic)
    rig.ready()
    for n in range(2):
        rig.sweep(start=START + n * SWEEP, sweep=n)
        rig.until(lambda n=n: all(len(rig.received[t]) == n + 1 for t in topics))
    for topic in topics[:2]:
        assert np.isnan(depth_values(rig.received[topic][-1])).all()
    cloud = rig.received['depth/points'][-1]
    assert (cloud.height, cloud.width, cloud.row_step) == (HEIGHT, WIDTH, 16 * WIDTH)
    assert len(cloud.data) == cloud.row_step * cloud.height and not cloud.is_dense
    assert np.isnan(point_cloud2.read_points(cloud)['z']).all()
    few = rig.received['depth/points_decimated'][-1]
    assert few.width * few.height == len(few.data) == 0
    rig.until(lambda: rig.status('depth')[2].get('depths without a valid pixel') == '2')
    assert rig.status('depth')[:2] == (
        DiagnosticStatus.WARN,
        'no pixel of the last depth is valid',
    )


# -- messages that are wrong ---------------------------------------------------------------------


def malformed(stamp):
    """Return images whose fields lie, with the reason that they are refused for."""

    def lie(**fields):
        message = image(stamp, 1)
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    return [
        (lie(width=2**31, height=2**31, step=2**32 - 1), 'too_large'),
        (lie(width=65536, height=65536), 'too_large'),
        (lie(width=2**32 - 1, height=1, step=2**32 - 1), 'too_large'),
        (lie(width=0), 'empty'),
        (lie(height=0), 'empty'),
        (lie(step=3 * WIDTH - 1), 'row_step'),
        (lie(step=0), 'row_step'),
        (lie(height=HEIGHT + 1), 'data_size'),
        (lie(data=b''), 'data_size'),
        (lie(encoding='32FC1'), 'encoding'),
        (lie(encoding=''), 'encoding'),
        (lie(encoding='nv12', width=WIDTH - 1), 'odd_size'),
    ]


@pytest.mark.fault(12, 13, 14)
def test_malformed_images_are_counted_by_reason(rig):
    messages = malformed(START)
    for message, _ in messages:
        rig.publish('image_raw', message)
    expected = Counter(reason for _, reason in messages)
    rig.until(lambda: sum(counts(rig).values()) >= len(messages))
    assert counts(rig) == expected
    rig.until(lambda: 'rejected too_large' in rig.status('input')[2])
    values = rig.status('input')[2]
    for reason, count in expected.items():
        assert values[f'rejected {reason}'].startswith(f'{count} not valid: ')
    assert 'max_pixels' in values['rejected too_large']
    assert 'rgb8' in values['rejected encoding'] and 'bayer_rggb8' in values['rejected encoding']
    rig.sweep(start=START + SWEEP)
    rig.until(lambda: rig.received['depth/image_rect'])


@pytest.mark.fault(12)
def test_padded_rows_over_dds(make):
    rig = make()
    rig.use_camera(info=False)
    rig.listen('rgb/image_rect')
    rig.ready()
    rows = np.arange(HEIGHT, dtype=np.uint8)
    for n in range(3):
        stamp = START + n * PERIOD
        rig.publish(
            'focus_state',
            FocusState(
                header=header(stamp),
                focus_dioptres=0.5 + n,
                state=FocusState.SETTLED,
                sweep_id=1,
                plane_index=n,
                plane_count=3,
            ),
        )
        padded = np.full((HEIGHT, 3 * WIDTH + 7), 255, np.uint8)
        padded[:, : 3 * WIDTH] = rows[:, None]
        message = Image(
            header=header(stamp), width=WIDTH, height=HEIGHT, encoding='rgb8', step=3 * WIDTH + 7
        )
        message.data = padded.tobytes()
        rig.publish('image_raw', message)
    rig.until(lambda: rig.received['rgb/image_rect'])
    picture = np.frombuffer(rig.received['rgb/image_rect'][0].data, np.uint8)
    assert (picture.reshape(HEIGHT, 3 * WIDTH) == rows[:, None]).all()


def uncalibrated(info):
    info.k = [0.0] * 9


def of_another_size(info):
    info.width, info.height = 2 * WIDTH, 2 * HEIGHT


def of_an_unknown_model(info):
    info.distortion_model, info.d = 'fancy', [0.1, 0.2]


@pytest.mark.fault(15)
@pytest.mark.parametrize(
    ('spoil', 'reason', 'words'),
    [
        (uncalibrated, 'uncalibrated', 'not calibrated'),
        (of_another_size, 'camera_size', 'camera_info is for 64x48 pixels, the image has 32x24'),
        (of_an_unknown_model, 'camera_info', 'fancy'),
    ],
)
def test_unusable_calibration_costs_the_cloud_only(make, spoil, reason, words):
    rig = make()
    rig.use_camera()
    for topic in ('depth/image_rect', 'depth/points', 'depth/camera_info'):
        rig.listen(topic)
    rig.ready()
    publish = rig.publish

    def publish_spoilt(topic, message):
        if topic == 'camera_info':
            spoil(message)
        publish(topic, message)

    rig.publish = publish_spoilt
    rig.sweep()
    rig.until(lambda: rig.received['depth/image_rect'])
    rig.until(lambda: words in rig.status('input')[2].get(f'rejected {reason}', ''))
    rig.until(lambda: rig.status('depth')[0] == DiagnosticStatus.WARN)
    assert 'without points' in rig.status('depth')[1]
    assert not rig.received['depth/points'] and not rig.received['depth/camera_info']
    rig.publish = publish
    rig.sweep(start=START + SWEEP, sweep=2)
    rig.until(lambda: rig.received['depth/points'])


@pytest.mark.fault(15)
def test_binning_and_region_of_interest_scale_the_cloud(make):
    rig = make()
    rig.use_camera()
    rig.listen('depth/camera_info')
    rig.listen('depth/points')
    rig.ready()
    publish = rig.publish

    def publish_binned(topic, message):
        if topic == 'camera_info':
            message.width, message.height = 200, 150
            message.binning_x = message.binning_y = 2
            roi = message.roi
            roi.x_offset, roi.y_offset, roi.width, roi.height = 20, 10, 2 * WIDTH, 2 * HEIGHT
        publish(topic, message)

    rig.publish = publish_binned
    rig.sweep((0.5, 2.0, 1.0))  # the second is the reference: f = 42, c = (15.5, 11.5)
    rig.until(lambda: rig.received['depth/points'] and rig.received['depth/camera_info'])
    info = rig.received['depth/camera_info'][0]
    assert (info.width, info.height, info.k[0], info.k[4]) == (WIDTH, HEIGHT, 21.0, 21.0)
    # Full pixels 20 and 21 make the first binned one: its centre is 20.5 - 15.5 = 5 from c.
    assert (0 - info.k[2]) / info.k[0] == pytest.approx(5.0 / 42.0)
    points = point_cloud2.read_points(rig.received['depth/points'][0]).reshape(HEIGHT, WIDTH)
    assert points['x'][5, 0] == pytest.approx(0.5 * 5.0 / 42.0)


# -- subscribers ---------------------------------------------------------------------------------


@pytest.mark.fault(16)
def test_subscribers_leave_nothing_behind(rig):
    threads, before = threading.active_count(), None
    for n in range(12):
        rig.listen('depth/points')
        rig.ready()
        rig.sweep(start=START + 2 * n * SWEEP, sweep=2 * n)
        rig.until(lambda n=n: len(rig.received['depth/points']) == n + 1)
        rig.ignore('depth/points')
        rig.ignore('depth/image_rect')
        rig.ready()
        asked = len(rig.estimator.asked)
        rig.sweep(start=START + (2 * n + 1) * SWEEP, sweep=2 * n + 1)
        rig.until(
            lambda n=n: rig.node._stage_counter.snapshot().counts[Stage.STACKED] == 2 * n + 2
        )
        assert len(rig.estimator.asked) == asked
        rig.listen('depth/image_rect')
        rig.ready()
        entities = [
            len(list(e))
            for e in (
                rig.node.publishers,
                rig.node.subscriptions,
                rig.node.timers,
                rig.node.services,
            )
        ]
        before = before or entities
        assert entities == before
    assert threading.active_count() == threads
    assert counts(rig) == {}


@pytest.mark.fault(16)
def test_stalled_subscriber_does_not_delay_others(make):
    rig = make()
    rig.use_camera()
    rig.listen('depth/image_rect')
    rig.listen('depth/points')
    # A reliable subscriber that never spins.
    idle = rclpy.create_node('idle', context=rig.context, namespace=rig.namespace)
    for topic in ('depth/image_rect', 'depth/points'):
        idle.create_subscription(type_of(rig, topic), topic, lambda message: None, 1)
    try:
        rig.ready()
        rig.until(lambda: rig.node.count_subscribers('depth/points') == 2)
        for n in range(60):
            rig.sweep(start=START + n * SWEEP, sweep=n)
            rig.until(lambda n=n: len(rig.received['depth/points']) == n + 1)
        assert len(rig.received['depth/image_rect']) == 60
        assert counts(rig) == {}
    finally:
        idle.destroy_node()


def type_of(rig, topic):
    """Return the type of a topic that the rig listens to."""
    return rig.subscriptions[topic].msg_type


# -- the life cycle ------------------------------------------------------------------------------


@pytest.mark.fault(18)
def test_deactivation_during_inference(rig):
    rig.estimator.gate.clear()
    rig.sweep()
    at_work(rig)
    for _ in range(5):
        assert rig.change_state(Transition.TRANSITION_DEACTIVATE)
        assert rig.change_state(Transition.TRANSITION_ACTIVATE)
    assert rig.get_state() == 'active'
    rig.estimator.gate.set()
    rig.ready()
    stamps = rig.sweep(start=START + SWEEP, sweep=2)
    rig.until(lambda: rig.received['depth/image_rect'])
    rig.spin(0.3)
    assert stamps_of(rig.received['depth/image_rect']) == [stamps[2]]
    assert len(rig.estimators) == 1


@pytest.mark.fault(18)
def test_transitions_during_model_loading(make):
    permit = threading.Event()

    def load(settings):
        assert permit.wait(30)
        return FakeEstimator()

    rig = make(load=load, autostart=False)
    client = rig.peer.create_client(ChangeState, 'dualfocus/change_state')
    rig.until(client.service_is_ready)

    def ask(transition):
        request = ChangeState.Request()
        request.transition.id = transition
        return client.call_async(request)

    configuring = [ask(Transition.TRANSITION_CONFIGURE) for _ in range(2)]
    rig.until(lambda: 'loading' in rig.status('model')[1])
    for transition in (
        Transition.TRANSITION_ACTIVATE,
        Transition.TRANSITION_DEACTIVATE,
        Transition.TRANSITION_CLEANUP,
    ):
        assert not rig.change_state(transition)
        assert rig.get_state() == 'unconfigured'
    permit.set()
    rig.until(lambda: all(answer.done() for answer in configuring))
    # One of the two has configured the node, the other found it configured.
    assert sorted(answer.result().success for answer in configuring) == [False, True]
    assert rig.get_state() == 'inactive'
    assert rig.change_state(Transition.TRANSITION_ACTIVATE)


@pytest.mark.fault(19)
def test_closed_node_publishes_nothing(rig):
    rig.estimator.gate.clear()
    rig.sweep()
    at_work(rig)
    worker = rig.node._worker
    opener = threading.Timer(0.3, rig.estimator.gate.set)
    opener.start()
    rig.node.close()
    opener.join()
    assert worker.stopped
    rig.spin(0.5)
    assert len(rig.estimator.asked) == 1 and not rig.received['depth/image_rect']


# -- weights -------------------------------------------------------------------------------------


def truncated(path):
    path.write_bytes(path.read_bytes()[:-1000])


def not_a_number(path):
    with safe_open(path, framework='pt') as file:
        tensors, metadata = {n: file.get_tensor(n) for n in file.keys()}, file.metadata()
    next(iter(tensors.values())).view(-1)[0] = math.nan
    save_file(tensors, path, metadata=metadata)


def without_one(path):
    with safe_open(path, framework='pt') as file:
        names = sorted(file.keys())[1:]
        tensors, metadata = {n: file.get_tensor(n) for n in names}, file.metadata()
    save_file(tensors, path, metadata=metadata)


def pickled(path):
    torch.save({'weight': torch.ones(3)}, path)


@pytest.mark.fault(23)
@pytest.mark.parametrize(
    ('spoil', 'words'),
    [
        (truncated, 'not a complete safetensors file'),
        (not_a_number, 'values that are not finite'),
        (without_one, 'lacks '),
        (pickled, 'not a complete safetensors file'),
    ],
)
def test_wrong_weights_leave_node_unconfigured(make, tmp_path, capfd, spoil, words):
    path = tmp_path / 'some.safetensors'
    save_model(path, DualFocus().eval())
    spoil(path)
    rig = make(load=load_estimator, model=str(path), device='cpu', threads=1)
    rig.until(lambda: rig.status('model')[0] == DiagnosticStatus.ERROR)
    assert words in rig.status('model')[1] and str(path) in rig.status('model')[1]
    assert rig.get_state() == 'unconfigured'
    assert not rig.change_state(Transition.TRANSITION_CONFIGURE)
    assert rig.get_state() == 'unconfigured'
    said = capfd.readouterr().err
    assert 'Traceback' not in said and words in said


@pytest.mark.fault(23)
def test_wrong_hash_leaves_node_unconfigured(make, tmp_path, monkeypatch):
    name, entry = next(iter(weights.shipped_models().items()))
    content = bytearray((weights.WEIGHTS_FOLDER / entry['file']).read_bytes())
    content[-1] ^= 1
    (tmp_path / entry['file']).write_bytes(content)
    monkeypatch.setattr(weights, 'WEIGHTS_FOLDER', tmp_path)
    rig = make(load=load_estimator, model=name, device='cpu')
    rig.until(lambda: rig.status('model')[0] == DiagnosticStatus.ERROR)
    assert 'do not match the manifest' in rig.status('model')[1]
    assert rig.get_state() == 'unconfigured'


# -- several cameras -----------------------------------------------------------------------------


@pytest.mark.fault(21)
def test_two_nodes_in_one_process(make):
    left, right = make(), make()
    for rig in (left, right):
        rig.use_camera()
        rig.listen('depth/image_rect')
        rig.listen('depth/camera_info')
        rig.ready()
    frames = {left: 'left_optical', right: 'right_optical'}
    nearest = {left: 2.0, right: 4.0}
    for rig, frame in frames.items():

        def publish(topic, message, rig=rig, frame=frame):
            message.header.frame_id = frame
            DepthRig.publish(rig, topic, message)

        rig.publish = publish
    # Alternating, with equal stamps and numbers, so that crosstalk would raise no error.
    for sweep in range(6):
        for rig, near in nearest.items():
            rig.sweep((0.5, 1.0, near), start=START + sweep * SWEEP, sweep=sweep)
        for rig in nearest:
            rig.until(lambda r=rig, s=sweep: len(r.received['depth/camera_info']) == s + 1)
    for rig, near in nearest.items():
        for message in rig.received['depth/image_rect'] + rig.received['depth/camera_info']:
            assert message.header.frame_id == frames[rig]
        assert {depth_values(m)[1, 1] for m in rig.received['depth/image_rect']} == {1.0 / near}
        assert counts(rig) == {}
        assert len(rig.estimator.asked) == 6
    # The end of one is nothing to the other.
    assert left.change_state(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    right.sweep((0.5, 1.0, 4.0), start=START + 9 * SWEEP, sweep=9)
    right.until(lambda: len(right.received['depth/image_rect']) == 7)
    assert left.estimator.released and not right.estimator.released


# -- connections ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.fault(24)
def test_best_effort_loss_of_a_third(make):
    rig = make(stack__min_size=4)
    rig.use_camera(reliability=ReliabilityPolicy.BEST_EFFORT)
    rig.listen('stack_info')
    rig.ready()
    rng = np.random.default_rng(24)
    sweeps = 40
    lost = rng.random((sweeps, len(FOCUS))) < 0.3
    lost[0] = lost[-1] = False
    kept = len(FOCUS) - lost.sum(axis=1)
    sent = 0
    for sweep in range(sweeps):
        start = START + sweep * SWEEP
        # A sweep that lacks planes is over when the next one begins, a whole one at once. No
        # stack is to be superseded here.
        due = int((kept[:sweep] >= 4).sum())
        for n, dioptres in enumerate(FOCUS):
            stamp = start + n * PERIOD
            rig.publish(
                'focus_state',
                FocusState(
                    header=header(stamp),
                    focus_dioptres=dioptres,
                    state=FocusState.SETTLED,
                    sweep_id=sweep,
                    plane_index=n,
                    plane_count=len(FOCUS),
                ),
            )
            rig.publish('camera_info', camera_info(stamp, 40.0))
            if not lost[sweep, n]:
                rig.publish('image_raw', image(stamp, n))
                sent += 1
                rig.until(lambda d=due: len(rig.received['stack_info']) >= d)
        rig.until(lambda s=sent: rig.node._stage_counter.snapshot().counts[Stage.RECEIVED] == s)
    rig.until(lambda: len(rig.received['stack_info']) == (kept >= 4).sum())
    assert 0.25 < lost.mean() < 0.35 and (kept < 4).any()
    found = {info.sweep_id: (len(info.stamps), info.flags) for info in rig.received['stack_info']}
    assert found == {
        sweep: (count, 0 if count == len(FOCUS) else PARTIAL)
        for sweep, count in enumerate(kept.tolist())
        if count >= 4
    }
    for info in rig.received['stack_info']:
        there = {
            START + info.sweep_id * SWEEP + n * PERIOD
            for n in np.flatnonzero(~lost[info.sweep_id])
        }
        assert {s.sec * 10**9 + s.nanosec for s in info.stamps} == there
    assert counts(rig)['too_few_planes'] == (kept < 4).sum()
