# SPDX-License-Identifier: Apache-2.0
"""Faults of cameras, subscribers and connections of the depth node over DDS.

A fake replaces the network; outputs and /diagnostics show the effect of a fault.
"""

from collections import Counter
from dataclasses import replace
import math
import threading

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
import pytest
import rclpy
from rclpy.qos import ReliabilityPolicy
from safetensors import safe_open
from safetensors.torch import save_file
from sensor_msgs.msg import Image
from sensor_msgs_py import point_cloud2
import torch

from depth_node_harness import (
    FRAME,
    HEIGHT,
    MS,
    START,
    WIDTH,
    FakeEstimator,
    camera_info,
    command,
    focus_state,
    header,
    image,
    stamps_of,
)
from dualfocus_ros.models import DualFocus, weights
from dualfocus_ros.models.weights import save_model
from dualfocus_ros.msg import FocusState, StackInfo
from dualfocus_ros.nodes.stack_processor import load_estimator
from dualfocus_ros.sweep.stage_counter import Stage

FOCUS = tuple(0.4 + 0.2 * n for n in range(8))
PERIOD = 33 * MS
SWEEP = len(FOCUS) * PERIOD
PARTIAL = StackInfo.FLAG_PLANE_MISSING | StackInfo.FLAG_PARTIAL
INFO = 20


def counts(harness):
    """Return the number of rejections by reason."""
    return {r.reason: r.count for r in harness.counts().rejections}


def wait_for_inference(harness):
    """Wait until the network has the first stack."""
    harness.until(lambda: harness.counts().counts[Stage.STACKED] == 1)
    harness.until(lambda: not harness.worker.has_pending)


def depth_values(message):
    """Return the pixels of a 32FC1 depth image."""
    return np.frombuffer(message.data, np.float32).reshape(message.height, message.width)


# -- what the camera and the lens do -------------------------------------------------------------


@pytest.mark.fault(4)
@pytest.mark.parametrize('state', [FocusState.SETTLED, FocusState.UNKNOWN])
def test_lens_off_position_costs_that_image(connect, state):
    harness = connect(
        'stack_info',
        inputs=('image_raw', 'camera_info', 'focus_state', 'focus_command'),
        stack__command_tolerance=0.25,
    )
    for sweep, off in ((1, 0.1), (2, 0.4)):
        start = START + sweep * 10 * SWEEP
        for n, dioptres in enumerate(FOCUS):
            harness.publish('focus_command', command(start + n, dioptres, sweep, n, len(FOCUS)))
            sent = (sweep - 1) * len(FOCUS) + n + 1
            harness.until(lambda s=sent: harness.input.assembler.command_count == s)
            reported = dioptres - off if n == 3 else dioptres
            harness.shoot(start + n * PERIOD, reported, sweep, n, len(FOCUS), state=state)
        # The next sweep must not supersede it.
        harness.until(lambda n=sweep: len(harness.received['stack_info']) == n or n == 2)
    harness.sweep(FOCUS, start=START + 90 * SWEEP, sweep=3, last=1)
    harness.until(lambda: len(harness.received['stack_info']) == 2)
    close, far = harness.received['stack_info']
    assert (len(close.stamps), close.flags) == (8, 0)
    assert (len(far.stamps), far.flags) == (7, PARTIAL)
    assert counts(harness)['off_command'] == 1
    harness.until(lambda: 'rejected off_command' in harness.status('input')[2])
    assert (
        'sent to 1.000 dioptres and reports 0.600'
        in (harness.status('input')[2]['rejected off_command'])
    )


def change_format(message, kind):
    """Change the size, the encoding or the frame of an image."""
    if kind == 'size':
        message.width, message.height, message.step = 2 * WIDTH, 2 * HEIGHT, 6 * WIDTH
        message.data = message.data[:1] * (12 * WIDTH * HEIGHT)
    elif kind == 'encoding':
        message.encoding = 'bgr8'
    else:
        message.header.frame_id = 'other_frame'


@pytest.mark.fault(6)
@pytest.mark.parametrize('kind', ['size', 'encoding', 'frame'])
@pytest.mark.parametrize('midway', [True, False])
def test_format_change_restarts_and_is_logged_once(connect, kind, midway):
    harness = connect('rgb/image_rect', '/rosout', inputs=('image_raw', 'focus_state'))
    harness.sweep(sweep=1)
    harness.until(lambda: len(harness.received['rgb/image_rect']) == 1)
    if midway:
        harness.sweep(start=START + SWEEP, sweep=2, last=2)
        harness.until(lambda: harness.input.in_progress)
    harness.edits['image_raw'] = lambda message: change_format(message, kind)
    harness.sweep(start=START + 2 * SWEEP, sweep=3)
    harness.until(lambda: len(harness.received['rgb/image_rect']) == 2)
    before, after = harness.received['rgb/image_rect']
    factor = 2 if kind == 'size' else 1
    assert (after.width, after.height) == (factor * before.width, factor * before.height)
    assert after.header.frame_id == ('other_frame' if kind == 'frame' else FRAME)
    (stack, _, _) = harness.estimator.asked[-1]
    assert stack.sweep_id == 3 and len(stack.planes) == 3
    assert counts(harness).get('format_changed', 0) == int(midway)
    harness.spin(1.2)  # until the rejections have been looked through for the log
    said = [m for m in harness.received['/rosout'] if 'changed from' in m.msg]
    assert len(said) == 1 and int(said[0].level) == INFO
    assert '32x24 rgb8' in said[0].msg


# -- what the network does -----------------------------------------------------------------------


class BlindEstimator(FakeEstimator):
    """Estimator without a valid pixel, as after NaN or infinity in the network."""

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
def test_depth_without_valid_pixels_is_counted(connect):
    topics = ('depth/image_rect', 'depth/sigma', 'depth/points', 'depth/points_decimated')
    harness = connect(*topics, load=lambda settings: BlindEstimator())
    for n in range(2):
        harness.sweep(start=START + n * SWEEP, sweep=n)
        harness.until(lambda n=n: all(len(harness.received[t]) == n + 1 for t in topics))
    for topic in topics[:2]:
        assert np.isnan(depth_values(harness.received[topic][-1])).all()
    cloud = harness.received['depth/points'][-1]
    assert (cloud.height, cloud.width, cloud.row_step) == (HEIGHT, WIDTH, 16 * WIDTH)
    assert len(cloud.data) == cloud.row_step * cloud.height and not cloud.is_dense
    assert np.isnan(point_cloud2.read_points(cloud)['z']).all()
    few = harness.received['depth/points_decimated'][-1]
    assert few.width * few.height == len(few.data) == 0
    harness.until(lambda: harness.status('depth')[2].get('depths without a valid pixel') == '2')
    assert harness.status('depth')[:2] == (
        DiagnosticStatus.WARN,
        'no pixel of the last depth is valid',
    )


# -- messages that are wrong ---------------------------------------------------------------------


def malformed(stamp):
    """Return images with contradicting fields, and the reason of each rejection."""

    def changed(**fields):
        message = image(stamp, 1)
        for name, value in fields.items():
            setattr(message, name, value)
        return message

    return [
        (changed(width=2**31, height=2**31, step=2**32 - 1), 'too_large'),
        (changed(width=65536, height=65536), 'too_large'),
        (changed(width=2**32 - 1, height=1, step=2**32 - 1), 'too_large'),
        (changed(width=0), 'empty'),
        (changed(height=0), 'empty'),
        (changed(step=3 * WIDTH - 1), 'row_step'),
        (changed(step=0), 'row_step'),
        (changed(height=HEIGHT + 1), 'data_size'),
        (changed(data=b''), 'data_size'),
        (changed(encoding='32FC1'), 'encoding'),
        (changed(encoding=''), 'encoding'),
        (changed(encoding='nv12', width=WIDTH - 1), 'odd_size'),
    ]


@pytest.mark.fault(12, 13, 14)
def test_malformed_images_are_counted_by_reason(harness):
    messages = malformed(START)
    for message, _ in messages:
        harness.publish('image_raw', message)
    expected = Counter(reason for _, reason in messages)
    harness.until(lambda: sum(counts(harness).values()) >= len(messages))
    assert counts(harness) == expected
    harness.until(lambda: 'rejected too_large' in harness.status('input')[2])
    values = harness.status('input')[2]
    for reason, count in expected.items():
        assert values[f'rejected {reason}'].startswith(f'{count} not valid: ')
    assert 'max_pixels' in values['rejected too_large']
    assert 'rgb8' in values['rejected encoding'] and 'bayer_rggb8' in values['rejected encoding']
    harness.sweep(start=START + SWEEP)
    harness.until(lambda: harness.depths)


@pytest.mark.fault(12)
def test_padded_rows_over_dds(connect):
    harness = connect('rgb/image_rect', inputs=('image_raw', 'focus_state'))
    rows = np.arange(HEIGHT, dtype=np.uint8)
    for n in range(3):
        stamp = START + n * PERIOD
        harness.publish('focus_state', focus_state(stamp, 0.5 + n, 1, n, 3))
        padded = np.full((HEIGHT, 3 * WIDTH + 7), 255, np.uint8)
        padded[:, : 3 * WIDTH] = rows[:, None]
        message = Image(
            header=header(stamp), width=WIDTH, height=HEIGHT, encoding='rgb8', step=3 * WIDTH + 7
        )
        message.data = padded.tobytes()
        harness.publish('image_raw', message)
    harness.until(lambda: harness.received['rgb/image_rect'])
    picture = np.frombuffer(harness.received['rgb/image_rect'][0].data, np.uint8)
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
def test_unusable_calibration_costs_the_cloud_only(connect, spoil, reason, words):
    harness = connect('depth/image_rect', 'depth/points', 'depth/camera_info')
    harness.edits['camera_info'] = spoil
    harness.sweep()
    harness.until(lambda: harness.depths)
    harness.until(lambda: words in harness.status('input')[2].get(f'rejected {reason}', ''))
    harness.until(lambda: harness.status('depth')[0] == DiagnosticStatus.WARN)
    assert 'without points' in harness.status('depth')[1]
    assert not harness.received['depth/points'] and not harness.received['depth/camera_info']
    harness.edits.clear()
    harness.sweep(start=START + SWEEP, sweep=2)
    harness.until(lambda: harness.received['depth/points'])


@pytest.mark.fault(15)
def test_binning_and_region_of_interest_scale_the_cloud(connect):
    harness = connect('depth/camera_info', 'depth/points')

    def bin_pixels(message):
        message.width, message.height = 200, 150
        message.binning_x = message.binning_y = 2
        roi = message.roi
        roi.x_offset, roi.y_offset, roi.width, roi.height = 20, 10, 2 * WIDTH, 2 * HEIGHT

    harness.edits['camera_info'] = bin_pixels
    harness.sweep((0.5, 2.0, 1.0))  # the second is the reference: f = 42, c = (15.5, 11.5)
    harness.until(
        lambda: harness.received['depth/points'] and harness.received['depth/camera_info']
    )
    info = harness.received['depth/camera_info'][0]
    assert (info.width, info.height, info.k[0], info.k[4]) == (WIDTH, HEIGHT, 21.0, 21.0)
    # Full pixels 20 and 21 make the first binned one: its centre is 20.5 - 15.5 = 5 from c.
    assert (0 - info.k[2]) / info.k[0] == pytest.approx(5.0 / 42.0)
    points = point_cloud2.read_points(harness.received['depth/points'][0]).reshape(HEIGHT, WIDTH)
    assert points['x'][5, 0] == pytest.approx(0.5 * 5.0 / 42.0)


# -- subscribers ---------------------------------------------------------------------------------


@pytest.mark.fault(16)
def test_subscribers_leave_nothing_behind(harness):
    threads, before = threading.active_count(), None
    for n in range(12):
        harness.listen('depth/points')
        harness.ready()
        harness.sweep(start=START + 2 * n * SWEEP, sweep=2 * n)
        harness.until(lambda n=n: len(harness.received['depth/points']) == n + 1)
        harness.ignore('depth/points')
        harness.ignore('depth/image_rect')
        harness.ready()
        asked = len(harness.estimator.asked)
        harness.sweep(start=START + (2 * n + 1) * SWEEP, sweep=2 * n + 1)
        harness.until(lambda n=n: harness.counts().counts[Stage.STACKED] == 2 * n + 2)
        assert len(harness.estimator.asked) == asked
        harness.listen('depth/image_rect')
        harness.ready()
        entities = [
            len(list(e))
            for e in (
                harness.depth_node.publishers,
                harness.depth_node.subscriptions,
                harness.depth_node.timers,
                harness.depth_node.services,
            )
        ]
        before = before or entities
        assert entities == before
    assert threading.active_count() == threads
    assert counts(harness) == {}


@pytest.mark.fault(16)
def test_stalled_subscriber_does_not_delay_others(connect):
    harness = connect('depth/image_rect', 'depth/points')
    # A reliable subscriber that never spins.
    idle = rclpy.create_node('idle', context=harness.context, namespace=harness.namespace)
    for topic in ('depth/image_rect', 'depth/points'):
        idle.create_subscription(type_of(harness, topic), topic, lambda message: None, 1)
    try:
        harness.ready()
        harness.until(lambda: harness.depth_node.count_subscribers('depth/points') == 2)
        for n in range(60):
            harness.sweep(start=START + n * SWEEP, sweep=n)
            harness.until(lambda n=n: len(harness.received['depth/points']) == n + 1)
        assert len(harness.depths) == 60
        assert counts(harness) == {}
    finally:
        idle.destroy_node()


def type_of(harness, topic):
    """Return the type of a topic that the harness listens to."""
    return harness.subscriptions[topic].msg_type


# -- the life cycle ------------------------------------------------------------------------------


@pytest.mark.fault(18)
def test_deactivation_during_inference(harness):
    harness.estimator.gate.clear()
    harness.sweep()
    wait_for_inference(harness)
    for _ in range(5):
        assert harness.change_state(Transition.TRANSITION_DEACTIVATE)
        assert harness.change_state(Transition.TRANSITION_ACTIVATE)
    assert harness.get_state() == 'active'
    harness.estimator.gate.set()
    harness.ready()
    stamps = harness.sweep(start=START + SWEEP, sweep=2)
    harness.until(lambda: harness.depths)
    harness.spin(0.3)
    assert stamps_of(harness.depths) == [stamps[2]]
    assert len(harness.estimators) == 1


@pytest.mark.fault(18)
def test_transitions_during_model_loading(make_harness):
    permit = threading.Event()

    def load(settings):
        assert permit.wait(30)
        return FakeEstimator()

    harness = make_harness(load=load, autostart=False)
    client = harness.node.create_client(ChangeState, 'dualfocus/change_state')
    harness.until(client.service_is_ready)

    def ask(transition):
        request = ChangeState.Request()
        request.transition.id = transition
        return client.call_async(request)

    configuring = [ask(Transition.TRANSITION_CONFIGURE) for _ in range(2)]
    harness.until(lambda: 'loading' in harness.status('model')[1])
    for transition in (
        Transition.TRANSITION_ACTIVATE,
        Transition.TRANSITION_DEACTIVATE,
        Transition.TRANSITION_CLEANUP,
    ):
        assert not harness.change_state(transition)
        assert harness.get_state() == 'unconfigured'
    permit.set()
    harness.until(lambda: all(answer.done() for answer in configuring))
    # One of the two has configured the node, the other found it configured.
    assert sorted(answer.result().success for answer in configuring) == [False, True]
    assert harness.get_state() == 'inactive'
    assert harness.change_state(Transition.TRANSITION_ACTIVATE)


@pytest.mark.fault(19)
def test_closed_node_publishes_nothing(harness):
    harness.estimator.gate.clear()
    harness.sweep()
    wait_for_inference(harness)
    worker = harness.worker
    opener = threading.Timer(0.3, harness.estimator.gate.set)
    opener.start()
    harness.depth_node.close()
    opener.join()
    assert worker.stopped
    harness.spin(0.5)
    assert len(harness.estimator.asked) == 1 and not harness.depths


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
def test_wrong_weights_leave_node_unconfigured(make_harness, tmp_path, capfd, spoil, words):
    path = tmp_path / 'some.safetensors'
    save_model(path, DualFocus().eval())
    spoil(path)
    harness = make_harness(load=load_estimator, model=str(path), device='cpu', threads=1)
    harness.until(lambda: harness.status('model')[0] == DiagnosticStatus.ERROR)
    assert words in harness.status('model')[1] and str(path) in harness.status('model')[1]
    assert harness.get_state() == 'unconfigured'
    assert not harness.change_state(Transition.TRANSITION_CONFIGURE)
    assert harness.get_state() == 'unconfigured'
    said = capfd.readouterr().err
    assert 'Traceback' not in said and words in said


@pytest.mark.fault(23)
def test_wrong_hash_leaves_node_unconfigured(make_harness, tmp_path, monkeypatch):
    name, entry = next(iter(weights.shipped_models().items()))
    content = bytearray((weights.WEIGHTS_FOLDER / entry['file']).read_bytes())
    content[-1] ^= 1
    (tmp_path / entry['file']).write_bytes(content)
    monkeypatch.setattr(weights, 'WEIGHTS_FOLDER', tmp_path)
    harness = make_harness(load=load_estimator, model=name, device='cpu')
    harness.until(lambda: harness.status('model')[0] == DiagnosticStatus.ERROR)
    assert 'do not match the manifest' in harness.status('model')[1]
    assert harness.get_state() == 'unconfigured'


# -- several cameras -----------------------------------------------------------------------------


@pytest.mark.fault(21)
def test_two_nodes_in_one_process(connect):
    left, right = (connect('depth/image_rect', 'depth/camera_info') for _ in range(2))
    frames = {left: 'left_optical', right: 'right_optical'}
    nearest = {left: 2.0, right: 4.0}
    for harness, frame in frames.items():
        for topic in harness.publishers:
            harness.edits[topic] = lambda m, frame=frame: setattr(m.header, 'frame_id', frame)
    # Alternating, with equal stamps and numbers, so that crosstalk would raise no error.
    for sweep in range(6):
        for harness, near in nearest.items():
            harness.sweep((0.5, 1.0, near), start=START + sweep * SWEEP, sweep=sweep)
        for harness in nearest:
            harness.until(lambda r=harness, s=sweep: len(r.received['depth/camera_info']) == s + 1)
    for harness, near in nearest.items():
        for message in harness.depths + harness.received['depth/camera_info']:
            assert message.header.frame_id == frames[harness]
        assert {depth_values(m)[1, 1] for m in harness.depths} == {1.0 / near}
        assert counts(harness) == {}
        assert len(harness.estimator.asked) == 6
    # The end of one node does not affect the other.
    assert left.change_state(Transition.TRANSITION_ACTIVE_SHUTDOWN)
    right.sweep((0.5, 1.0, 4.0), start=START + 9 * SWEEP, sweep=9)
    right.until(lambda: len(right.received['depth/image_rect']) == 7)
    assert left.estimator.released and not right.estimator.released


# -- connections ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.fault(24)
def test_best_effort_loss_of_a_third(connect):
    harness = connect('stack_info', reliability=ReliabilityPolicy.BEST_EFFORT, stack__min_size=4)
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
            harness.publish('focus_state', focus_state(stamp, dioptres, sweep, n, len(FOCUS)))
            harness.publish('camera_info', camera_info(stamp, 40.0))
            if not lost[sweep, n]:
                harness.publish('image_raw', image(stamp, n))
                sent += 1
                harness.until(lambda d=due: len(harness.received['stack_info']) >= d)
        harness.until(lambda s=sent: harness.counts().counts[Stage.RECEIVED] == s)
    harness.until(lambda: len(harness.received['stack_info']) == (kept >= 4).sum())
    assert 0.25 < lost.mean() < 0.35 and (kept < 4).any()
    found = {
        info.sweep_id: (len(info.stamps), info.flags) for info in harness.received['stack_info']
    }
    assert found == {
        sweep: (count, 0 if count == len(FOCUS) else PARTIAL)
        for sweep, count in enumerate(kept.tolist())
        if count >= 4
    }
    for info in harness.received['stack_info']:
        there = {
            START + info.sweep_id * SWEEP + n * PERIOD
            for n in np.flatnonzero(~lost[info.sweep_id])
        }
        assert {s.sec * 10**9 + s.nanosec for s in info.stamps} == there
    assert counts(harness)['too_few_planes'] == (kept < 4).sum()
