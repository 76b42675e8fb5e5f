# SPDX-License-Identifier: Apache-2.0
"""The depth node over DDS, with a stand-in for the network: topics, inputs, faults, life cycle."""

from collections import defaultdict
import gc
import threading

import cv2
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
pytest.importorskip('dualfocus_ros.msg', reason='needs the built messages: make build')

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Log
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy, qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from sensor_msgs_py import point_cloud2
from std_srvs.srv import Trigger

from depth_rig import (
    FRAME,
    HEIGHT,
    MS,
    OUTPUTS,
    START,
    WIDTH,
    DepthRig,
    FakeEstimator,
    camera_info,
    command,
    image,
    stack_message,
    stamps_of,
)
from dualfocus_ros import topics
from dualfocus_ros.msg import FocalStack, FocusCommand, FocusState, StackInfo
from dualfocus_ros.nodes.messages import image_decoding
from dualfocus_ros.nodes.qos import IMAGE_QUEUE, input_queue
from dualfocus_ros.stamps import to_ns, to_stamp
from dualfocus_ros.sweep.stage_counter import Stage

BEST_EFFORT = ReliabilityPolicy.BEST_EFFORT
SWEEP = 200 * MS


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


class TestOutputs:
    def test_all_topics_of_one_stack(self, make):
        rig = make(stack__min_size=2, points__decimation=4)
        rig.use_camera()
        for topic in OUTPUTS:
            rig.listen(topic)
        rig.ready()
        stamps = rig.sweep((0.5, 2.0, 1.0))
        rig.until(lambda: all(rig.received[topic] for topic in OUTPUTS))
        first = {topic: rig.received[topic][0] for topic in OUTPUTS}

        # The plane focused nearest is the reference.
        for message in first.values():
            assert to_ns(message.header.stamp) == stamps[1]
            assert message.header.frame_id == FRAME

        depth = first['depth/image_rect']
        assert (depth.encoding, depth.step, depth.height) == ('32FC1', 4 * WIDTH, HEIGHT)
        values = np.frombuffer(depth.data, np.float32).reshape(HEIGHT, WIDTH)
        assert np.isnan(values[0, 0])
        assert (values[1:] == 0.5).all()

        for topic in ('depth/camera_info', 'rgb/camera_info'):
            info = first[topic]
            assert (info.k[0], info.p[0]) == (42.0, 42.0)
            assert not any(info.d)
            assert info.distortion_model == 'plumb_bob'
            assert list(info.r) == [1, 0, 0, 0, 1, 0, 0, 0, 1]

        cloud = first['depth/points']
        assert (cloud.height, cloud.width, cloud.point_step) == (HEIGHT, WIDTH, 16)
        assert (cloud.row_step, cloud.is_dense) == (16 * WIDTH, False)
        points = point_cloud2.read_points(cloud).reshape(HEIGHT, WIDTH)
        v, u = np.mgrid[:HEIGHT, :WIDTH]
        k = np.array(first['depth/camera_info'].k).reshape(3, 3)
        np.testing.assert_allclose(points['x'], (u - k[0, 2]) * values / k[0, 0], rtol=1e-5)
        np.testing.assert_allclose(points['y'], (v - k[1, 2]) * values / k[1, 1], rtol=1e-5)
        np.testing.assert_array_equal(points['z'], values)
        assert (points['rgb'].view(np.uint32) == 0x0B0B0B).all()

        few = first['depth/points_decimated']
        assert (few.height, few.width) == (1, (HEIGHT // 4) * (WIDTH // 4))

        assert first['depth/sigma'].encoding == '32FC1'
        assert first['depth/confidence'].encoding == 'mono8'
        assert first['rgb/image_rect'].encoding == 'rgb8'
        assert set(first['rgb/image_rect'].data) == {11}

        info = first['stack_info']
        assert [to_ns(stamp) for stamp in info.stamps] == stamps
        assert list(info.focus_dioptres) == [0.5, 2.0, 1.0]
        assert (info.sweep_id, info.flags) == (1, 0)
        assert info.sweep_duration == pytest.approx(0.066, abs=1e-6)
        assert (info.model, info.device) == ('stand-in', 'cpu (test)')
        assert info.latency_ms > 0.0

    @pytest.mark.fault(16)
    def test_no_subscriber_no_computation(self, make):
        rig = make()
        rig.use_camera()
        rig.ready()
        rig.sweep()
        rig.until(lambda: rig.status('input')[2].get('received') == '3')
        level, text, values = rig.status('input')
        assert level == DiagnosticStatus.OK
        assert 'no output has a subscriber' in text
        # What would come out is known, but no image was kept.
        assert (values['matched'], values['stacked'], values['inferred']) == ('3', '1', '0')
        assert rig.estimator.asked == []

    def test_ignores_images_before_the_first_subscriber(self, make):
        rig = make()
        rig.use_camera()
        rig.ready()
        rig.sweep(last=2)
        rig.until(lambda: rig.node._input.in_progress)
        rig.listen('rgb/image_rect')
        rig.ready()
        rig.sweep(first=2)
        rig.sweep(start=START + SWEEP, sweep=2)
        rig.until(lambda: rig.received['rgb/image_rect'])
        ((stack, _, _),) = rig.estimator.asked
        assert stack.sweep_id == 2
        assert set(rig.received['rgb/image_rect'][0].data) == {12}

    @pytest.mark.parametrize(
        ('topic', 'asked'),
        [
            ('depth/image_rect', set()),
            ('depth/points', {'points'}),
            ('depth/points_decimated', {'points_decimated'}),
            ('depth/sigma', {'sigma'}),
            ('depth/confidence', {'confidence'}),
            ('rgb/image_rect', {'all_in_focus'}),
            ('stack_info', set()),
        ],
    )
    def test_computes_only_subscribed_topics(self, make, topic, asked):
        rig = make()
        rig.use_camera()
        rig.listen(topic)
        rig.ready()
        rig.sweep()
        rig.until(lambda: rig.received[topic])
        ((_, outputs, _),) = rig.estimator.asked
        assert {name for name, wanted in vars(outputs).items() if wanted} == asked

    @pytest.mark.parametrize(
        ('policy', 'plane'),
        [
            ('reference', 1),
            ('first', 0),
            ('mid', 1),
            ('last', 2),
        ],
    )
    def test_stamp_policy(self, make, policy, plane):
        rig = make(stamp_policy=policy)
        rig.use_camera()
        rig.listen('depth/image_rect')
        rig.ready()
        stamps = rig.sweep((0.5, 2.0, 1.0))
        rig.until(lambda: rig.received['depth/image_rect'])
        assert stamps_of(rig.received['depth/image_rect']) == [stamps[plane]]

    def test_parameters_take_effect_at_the_next_stack(self, rig):
        rig.sweep()
        rig.until(lambda: len(rig.received['depth/image_rect']) == 1)
        request = SetParametersAtomically.Request()
        request.parameters = [
            Parameter('depth.encoding', value='16UC1').to_parameter_msg(),
            Parameter('depth.max', value=5.0).to_parameter_msg(),
        ]
        answer = rig.call(SetParametersAtomically, 'dualfocus/set_parameters_atomically', request)
        assert answer.result.successful
        rig.sweep(start=START + SWEEP, sweep=2)
        rig.until(lambda: len(rig.received['depth/image_rect']) == 2)
        metres, millimetres = rig.received['depth/image_rect']
        assert (metres.encoding, millimetres.encoding) == ('32FC1', '16UC1')
        values = np.frombuffer(millimetres.data, np.uint16)
        assert values[0] == 0
        assert (values[1:] == 500).all()
        assert rig.estimator.asked[-1][2].depth_max == 5.0

    def test_cloud_rate_is_limited_separately(self, make):
        rig = make(points__max_rate=4.0)
        rig.use_camera()
        rig.listen('depth/points')
        rig.listen('depth/image_rect')
        rig.ready()
        for n in range(5):
            rig.sweep(start=START + n * 100 * MS, sweep=n)
            rig.until(lambda n=n: len(rig.received['depth/image_rect']) == n + 1)
        assert stamps_of(rig.received['depth/points']) == [
            stamps_of(rig.received['depth/image_rect'])[n] for n in (0, 3)
        ]

    def test_the_decimated_cloud_has_another_rate(self, make):
        rig = make(points__decimated_max_rate=4.0)
        rig.use_camera()
        for topic in ('depth/points', 'depth/points_decimated'):
            rig.listen(topic)
        rig.ready()
        for n in range(5):
            rig.sweep(start=START + n * 100 * MS, sweep=n)
            rig.until(lambda n=n: len(rig.received['depth/points']) == n + 1)
        rig.until(lambda: len(rig.received['depth/points_decimated']) == 2)
        assert [outputs.points_decimated for _, outputs, _ in rig.estimator.asked] == [
            True,
            False,
            False,
            True,
            False,
        ]

    @pytest.mark.fault(15)
    def test_depth_without_cloud_if_camera_info_is_missing(self, make):
        rig = make()
        rig.use_camera(info=False)
        rig.listen('depth/image_rect')
        rig.listen('depth/points')
        rig.listen('depth/camera_info')
        rig.ready()
        rig.sweep()
        rig.until(lambda: rig.received['depth/image_rect'])
        rig.until(lambda: 'no camera_info' in rig.status('depth')[1])
        assert rig.status('depth')[0] == DiagnosticStatus.WARN
        assert not rig.received['depth/points']
        assert not rig.received['depth/camera_info']

    def test_an_uncalibrated_camera_is_named(self, rig):
        rig.publish('camera_info', camera_info(START, 0.0))
        rig.sweep()
        rig.until(
            lambda: 'not calibrated' in rig.status('input')[2].get('rejected uncalibrated', '')
        )
        rig.until(lambda: rig.received['depth/image_rect'])


class TestConnections:
    def test_receives_a_best_effort_camera(self, make):
        rig = make()
        rig.use_camera(reliability=BEST_EFFORT)
        rig.listen('depth/image_rect')
        rig.ready()
        rig.sweep()
        rig.until(lambda: rig.received['depth/image_rect'])
        rig.until(lambda: 'best effort' in ' '.join(rig.status('connections')[2].values()))

    def test_subscription_follows_publishers(self, rig):
        images = rig.node._input.images[0]
        assert 'reliable' in str(images)
        second = rig.peer.create_publisher(
            Image, 'image_raw', rig.subscriptions['depth/image_rect'].qos_profile
        )
        rig.peer.destroy_publisher(second)
        rig.peer.destroy_publisher(rig.publishers.pop('image_raw'))
        rig.advertise('image_raw', Image, BEST_EFFORT)
        rig.until(lambda: 'best effort' in str(images))
        rig.ready()
        rig.sweep()
        rig.until(lambda: rig.received['depth/image_rect'])
        rig.peer.destroy_publisher(rig.publishers.pop('image_raw'))
        rig.advertise('image_raw', Image)
        rig.until(lambda: 'reliable' in str(images))

    def test_reliability_can_be_overridden(self, make):
        rig = make(
            qos_overrides={
                'image_raw.subscription.reliability': 'best_effort',
                'depth/image_rect.publisher.reliability': 'best_effort',
            }
        )
        rig.use_camera()
        rig.listen('depth/image_rect', reliability=BEST_EFFORT)
        rig.ready()
        rig.spin(1.2)
        assert 'best effort' in str(rig.node._input.images[0])
        assert 'best effort' in rig.node._outputs.descriptions()[0]

    def test_names_incompatible_subscribers(self, make):
        rig = make(qos_overrides={'depth/image_rect.publisher.reliability': 'best_effort'})
        rig.listen('depth/image_rect')
        rig.until(lambda: rig.status('connections')[0] == DiagnosticStatus.WARN)
        text = rig.status('connections')[1]
        assert f'{rig.namespace}/depth/image_rect: {rig.namespace}/peer is offered' in text
        assert 'RELIABILITY' in text
        rig.ignore('depth/image_rect')
        rig.until(lambda: rig.status('connections')[0] == DiagnosticStatus.OK)

    def test_names_incompatible_cameras(self, make):
        rig = make(qos_overrides={'image_raw.subscription.reliability': 'reliable'})
        rig.use_camera(reliability=BEST_EFFORT)
        rig.until(lambda: rig.status('connections')[0] == DiagnosticStatus.WARN)
        text = rig.status('connections')[1]
        assert f'{rig.namespace}/image_raw: {rig.namespace}/peer offers RELIABILITY' in text
        rig.peer.destroy_publisher(rig.publishers.pop('image_raw'))
        rig.until(lambda: rig.status('connections')[0] == DiagnosticStatus.OK)

    def test_adapts_to_one_best_effort_camera_among_reliable(self, rig):
        images = rig.node._input.images[0]
        second = rig.peer.create_publisher(Image, 'image_raw', qos_profile_sensor_data)
        rig.until(lambda: 'best effort' in str(images))
        rig.peer.destroy_publisher(second)
        rig.until(lambda: 'reliable' in str(images))
        rig.ready()
        rig.sweep()
        rig.until(lambda: rig.received['depth/image_rect'])

    def test_late_and_best_effort_subscribers_receive(self, rig):
        rig.sweep()
        rig.until(lambda: rig.received['depth/image_rect'])
        rig.listen('depth/sigma', reliability=BEST_EFFORT)
        rig.ready()
        rig.sweep(start=START + SWEEP, sweep=2)
        rig.until(lambda: rig.received['depth/sigma'])

    @pytest.mark.fault(16)
    def test_computation_stops_with_the_last_subscriber(self, rig):
        rig.ignore('depth/image_rect')
        rig.ready()
        rig.sweep()
        rig.until(lambda: rig.status('input')[2].get('received') == '3')
        assert rig.estimator.asked == []


class TestInputs:
    @pytest.mark.parametrize(
        'parameters',
        [
            {},
            {'image_transport': 'compressed'},
            {'focus_source': 'camera_ros'},
            {'focus_source': 'command'},
            {'input': 'stack'},
            {'input': 'planes', 'planes__focus_dioptres': [0.5, 1.0]},
        ],
    )
    def test_topics_list_has_every_subscription(self, make, parameters):
        rig = make(**parameters)
        rig.until(lambda: rig.state == 'active')
        listed = {f'{rig.namespace}/{topic.name}': topic.message_type for topic in topics.INPUTS}
        found = {s.topic: s for s in rig.node._input.subscriptions}
        found.pop(f'{rig.namespace}/plane_1/image_raw', None)
        for topic, subscription in found.items():
            message_type = listed[topic]
            assert str(subscription).startswith(f'{topic} [{message_type}]')
            assert f'keep last {input_queue(message_type)}' in str(subscription)

    def test_camera_ros_metadata(self, make):
        rig = make(focus_source='camera_ros', stack__size=3)
        rig.use_camera(focus=False)
        rig.advertise('metadata', DiagnosticArray)
        rig.listen('depth/image_rect')
        rig.ready()
        stamps = rig.sweep()
        rig.until(lambda: rig.received['depth/image_rect'])
        assert stamps_of(rig.received['depth/image_rect']) == [stamps[2]]

    def test_commands_and_a_settling_model(self, make):
        rig = make(focus_source='command', command__latency_frames=1, command__settling_time=0.05)
        rig.use_camera(focus=False)
        rig.advertise('focus_command', FocusCommand)
        rig.listen('depth/image_rect')
        rig.ready()
        settled = []
        for n, dioptres in enumerate((0.5, 1.0, 2.0)):
            at = START + n * 200 * MS
            rig.publish('focus_command', command(at, dioptres, 1, n, 3))
            rig.until(lambda n=n: len(rig.node._input._commanded._commands) == n + 1)
            for k in range(3):
                rig.shoot(at + (10 + 33 * k) * MS, 0.0)
            settled.append(at + 76 * MS)
        rig.until(lambda: rig.received['depth/image_rect'])
        ((stack, _, _),) = rig.estimator.asked
        assert [plane.stamp_ns for plane in stack.planes] == settled
        np.testing.assert_allclose(stack.focus_dioptres, [0.5, 1.0, 2.0])

    def test_synchronised_cameras(self, make):
        rig = make(
            input='planes', planes__focus_dioptres=[0.5, 1.0, 2.0], stack__sync_tolerance=0.005
        )
        for n in range(3):
            rig.advertise(f'plane_{n}/image_raw', Image)
        rig.advertise('camera_info', type(camera_info(0, 1.0)))
        rig.listen('depth/image_rect')
        rig.listen('depth/points')
        rig.ready()
        rig.publish('camera_info', camera_info(START, 42.0))
        rig.until(lambda: rig.node._input._calibration is not None)
        for n in range(3):
            rig.publish(f'plane_{n}/image_raw', image(START + n * MS, 10 + n))
        rig.until(lambda: rig.received['depth/points'])
        assert stamps_of(rig.received['depth/image_rect']) == [START + 2 * MS]

    @pytest.mark.parametrize('encoding', ['rgb8', 'bgr8'])
    def test_whole_stacks(self, make, encoding):
        rig = make(input='stack')
        rig.advertise('focal_stack', FocalStack)
        rig.listen('depth/image_rect')
        rig.listen('depth/points')
        rig.ready()
        stacks = [stack_message(START + n * SWEEP) for n in range(2)]
        for picture in (*stacks[0].images, *stacks[1].images):
            picture.encoding = encoding
        stacks[0].images[1].data = bytes(3)
        counts = rig.node._stage_counter.snapshot
        rig.publish('focal_stack', stacks[0])
        rig.until(lambda: counts().rejections)
        assert [(r.reason, r.count) for r in counts().rejections] == [('data_size', 1)]
        rig.publish('focal_stack', stacks[1])
        rig.until(lambda: rig.received['depth/points'])
        assert stamps_of(rig.received['depth/image_rect']) == [START + SWEEP + 2]

    def test_compressed_images(self, make):
        rig, damaged = self.compressed(make)
        focus = (0.5, 1.0, 1.5, 2.0)
        rig.sweep(focus)
        rig.until(lambda: rig.received['rgb/image_rect'])
        assert set(rig.received['rgb/image_rect'][0].data) == {13}
        # Its header does not tell; who decodes it finds out.
        damaged.add(START + SWEEP)
        stamps = rig.sweep(focus, START + SWEEP, 2) + rig.sweep(focus, START + 2 * SWEEP, 3)
        rig.until(lambda: len(rig.received['rgb/image_rect']) == 3)
        assert stamps_of(rig.received['rgb/image_rect'])[1:] == [stamps[3], stamps[7]]
        snapshot = rig.node._stage_counter.snapshot()
        assert [(r.reason, r.count) for r in snapshot.rejections] == [('undecodable', 1)]
        assert snapshot.counts[Stage.RECEIVED] == snapshot.counts[Stage.VALID] + 1 == 12

    def test_decodes_a_burst_in_order(self, make):
        rig, _ = self.compressed(make)
        for sweep in range(3):
            rig.sweep(start=START + sweep * SWEEP, sweep=sweep)
        rig.until(lambda: rig.node._stage_counter.snapshot().counts[Stage.STACKED] == 3)
        reasons = {rejection.reason for rejection in rig.node._stage_counter.snapshot().rejections}
        # The network takes the newest stack, as always.
        assert reasons <= {'superseded'}

    def test_drops_oldest_images_under_decoding_overload(self, make, monkeypatch):
        permit, decode = threading.Event(), image_decoding.compressed_to_array

        def wait(*arguments):
            assert permit.wait(60)
            return decode(*arguments)

        monkeypatch.setattr(image_decoding, 'compressed_to_array', wait)
        rig, _ = self.compressed(make)
        counts = rig.node._stage_counter.snapshot
        for n in range(IMAGE_QUEUE + 3):
            rig.shoot(START + n * 33 * MS, 1.0, 1, n, 100)
            rig.until(lambda n=n: counts().counts[Stage.RECEIVED] == n + 1)
        assert [(r.reason, r.count) for r in counts().rejections] == [('conversion_too_slow', 3)]
        permit.set()
        rig.until(lambda: counts().counts[Stage.VALID] == IMAGE_QUEUE)
        stamps = rig.sweep(start=START + 10**10, sweep=2)
        rig.until(lambda: rig.received['rgb/image_rect'])
        assert stamps_of(rig.received['rgb/image_rect'])[-1] == stamps[-1]

    @staticmethod
    def compressed(make):
        """Return a rig whose images are compressed, and a set: of stamps of broken images."""
        rig = make(image_transport='compressed')
        rig.advertise('image_raw/compressed', CompressedImage)
        rig.advertise('camera_info', CameraInfo)
        rig.advertise('focus_state', FocusState)
        rig.listen('rgb/image_rect')
        rig.ready()
        damaged = set()

        def publish(topic, message, publish=rig.publish):
            if topic != 'image_raw':
                return publish(topic, message)
            picture = np.frombuffer(message.data, np.uint8).reshape(HEIGHT, WIDTH, 3)
            data = cv2.imencode('.png', picture)[1].tobytes()
            if to_ns(message.header.stamp) in damaged:
                at = data.index(b'IDAT') + 4
                data = data[:at] + bytes(8) + data[at + 8 :]
            packed = CompressedImage(header=message.header, format='png', data=data)
            return publish('image_raw/compressed', packed)

        rig.publish = publish
        return rig, damaged

    def test_sliding_mode_gives_depth_per_frame(self, make):
        rig = make(stack__mode='sliding', stamp_policy='last')
        rig.use_camera()
        rig.listen('depth/image_rect')
        rig.ready()
        stamps = rig.sweep()
        rig.until(lambda: len(rig.received['depth/image_rect']) == 1)
        for n in range(3):
            stamps.append(START + SWEEP + n * 33 * MS)
            rig.shoot(stamps[-1], (0.5, 1.0, 2.0)[n], 2, n, 3)
            rig.until(lambda n=n: len(rig.received['depth/image_rect']) == n + 2)
        assert stamps_of(rig.received['depth/image_rect']) == stamps[2:]

    def test_three_sweeps_in_one_burst_are_complete(self, make):
        rig = make()
        rig.use_camera()
        rig.listen('stack_info')
        rig.ready()
        focus = tuple(0.3 + 0.2 * n for n in range(8))
        rig.estimator.gate.clear()
        messages = defaultdict(list)
        publish, rig.publish = rig.publish, lambda topic, m: messages[topic].append(m)
        for k in range(3):
            rig.sweep(focus, start=START + k * 10**9, sweep=k, period=100 * MS)
        # All images, then all reports, then all calibrations, without spinning in between.
        for topic in ('image_raw', 'focus_state', 'camera_info'):
            for message in messages[topic]:
                publish(topic, message)
        rig.until(lambda: rig.node._stage_counter.snapshot().counts[Stage.STACKED] == 3)
        snapshot = rig.node._stage_counter.snapshot()
        assert (snapshot.counts[Stage.RECEIVED], snapshot.counts[Stage.MATCHED]) == (24, 24)
        # The network takes the newest stack, as always; the frames are all there.
        assert {r.reason for r in snapshot.rejections} <= {'superseded'}
        rig.estimator.gate.set()
        rig.until(lambda: any(info.sweep_id == 2 for info in rig.received['stack_info']))
        assert all(info.flags == 0 for info in rig.received['stack_info'])


class TestFaults:
    @pytest.mark.fault(1)
    def test_camera_stops_during_a_sweep(self, make):
        rig = make(stack__timeout=30.0)
        rig.use_camera()
        rig.listen('depth/image_rect')
        rig.ready()
        rig.sweep(tuple(0.5 + 0.2 * n for n in range(8)), last=4)
        rig.until(lambda: rig.status('input')[0] == DiagnosticStatus.WARN)
        assert 'the sweep in progress has 4 of 8 planes' in rig.status('input')[1]
        rig.until(lambda: rig.status('input')[0] == DiagnosticStatus.ERROR)
        _, text, _ = rig.status('input')
        assert text.startswith('no image for ')
        assert '4 of 8 planes' in text
        rig.sweep(start=START + 10**10, sweep=2)
        rig.until(lambda: rig.received['depth/image_rect'])
        rig.until(lambda: rig.status('input')[0] == DiagnosticStatus.WARN)

    def test_state_of_the_lens_and_time_of_the_sweep(self, rig):
        rig.sweep()
        rig.until(lambda: rig.status('input')[2].get('sweep time [s]') == '0.066')
        values = rig.status('input')[2]
        assert (values['lens state'], values['lens focus [1/m]']) == ('settled', '2.000')
        rig.shoot(START + SWEEP, 0.7, 2, 0, 3, state=FocusState.FAULT)
        rig.until(lambda: 'the lens reports a fault at 0.70' in rig.status('input')[1])
        assert rig.status('input')[0] == DiagnosticStatus.WARN
        assert rig.status('input')[2]['lens state'] == 'fault'

    def test_warns_once_of_depth_beyond_the_lens_range(self, make):
        rig = make(lens__kappa=2.0)  # measures up to 1 m
        rig.use_camera()
        rig.listen('depth/image_rect')
        rig.listen('/rosout', Log)
        rig.ready()
        for n in range(4):
            rig.sweep(start=START + n * SWEEP, sweep=n)
            rig.until(lambda n=n: len(rig.received['depth/image_rect']) == n + 1)
        rig.until(lambda: rig.status('optics')[0] == DiagnosticStatus.WARN)
        assert 'up to 2.00 m' in rig.status('optics')[1]
        assert rig.status('optics')[2]['range limit [m]'] == '1.00'
        said = [m for m in rig.received['/rosout'] if 'px of blur per dioptre' in m.msg]
        assert len(said) == 1
        assert rig.estimator.asked[-1][2].sigma_floor > 0.0

    def test_flags_sweep_with_lost_plane(self, make):
        rig = make(stack__min_size=2)
        rig.use_camera()
        rig.listen('stack_info')
        rig.ready()
        rig.shoot(START, 0.5, 1, 0, 3)
        rig.shoot(START + 66 * MS, 2.0, 1, 2, 3)
        rig.sweep(start=START + SWEEP, sweep=2, last=1)
        rig.until(lambda: rig.received['stack_info'])
        rig.sweep(start=START + SWEEP, sweep=2, first=1)
        rig.until(lambda: len(rig.received['stack_info']) == 2)
        partial, whole = rig.received['stack_info']
        assert partial.flags == StackInfo.FLAG_PLANE_MISSING | StackInfo.FLAG_PARTIAL
        assert [to_ns(stamp) for stamp in partial.stamps] == [START, START + 66 * MS]
        assert (whole.sweep_id, whole.flags) == (2, 0)

    @pytest.mark.fault(12, 14)
    def test_rejections_are_counted_by_reason(self, rig):
        rig.publish('image_raw', image(START, 1, encoding='8UC7'))
        short = image(START + MS, 1)
        short.data = short.data[:-1]
        rig.publish('image_raw', short)
        rig.until(lambda: 'rejected data_size' in rig.status('input')[2])
        values = rig.status('input')[2]
        assert '8UC7' in values['rejected encoding']
        assert (values['received'], values['valid']) == ('2', '0')
        rig.sweep()
        rig.until(lambda: rig.received['depth/image_rect'])

    @pytest.mark.fault(10)
    def test_reports_and_survives_inference_errors(self, rig):
        rig.estimator.errors.append(RuntimeError('the kernel has no such operator'))
        rig.sweep()
        rig.until(lambda: rig.status('depth')[0] == DiagnosticStatus.ERROR)
        assert 'no such operator' in rig.status('depth')[1]
        rig.sweep(start=START + SWEEP, sweep=2)
        rig.until(lambda: rig.received['depth/image_rect'])
        rig.until(lambda: rig.status('depth')[0] == DiagnosticStatus.OK)

    @pytest.mark.fault(20)
    def test_under_overload_the_newest_stack_wins(self, rig):
        rig.estimator.gate.clear()
        for n in range(6):
            rig.sweep(start=START + n * SWEEP, sweep=n)
            rig.until(
                lambda n=n: rig.node._stage_counter.snapshot().counts[Stage.STACKED] == n + 1
            )
            rig.until(lambda n=n: n > 0 or not rig.node._worker.has_pending)
        rig.estimator.gate.set()
        rig.until(lambda: len(rig.received['depth/image_rect']) == 2)
        rig.spin(0.3)
        assert [stack.sweep_id for stack, _, _ in rig.estimator.asked] == [0, 5]
        rig.until(lambda: rig.status('depth')[2].get('stacks superseded') == '4')

    def test_reset_drops_sweep_and_pending_stack(self, rig):
        rig.estimator.gate.clear()
        rig.sweep()
        rig.until(lambda: not rig.node._worker.has_pending and rig.node._input.progress is None)
        rig.sweep(start=START + SWEEP, sweep=2, last=2)
        rig.until(lambda: rig.node._input.progress is not None)
        answer = rig.call(Trigger, 'dualfocus/reset', Trigger.Request())
        assert answer.success
        assert '2 of 3 planes' in answer.message or '1 of 3 planes' in answer.message
        rig.estimator.gate.set()
        rig.sweep(start=START + 2 * SWEEP, sweep=3)
        rig.until(lambda: rig.received['depth/image_rect'])
        assert stamps_of(rig.received['depth/image_rect']) == [START + 2 * SWEEP + 66 * MS]

    def test_backward_clock_jump_resets(self, make):
        rig = make(sim_time=True)
        rig.use_camera()
        rig.advertise('/clock', Clock)
        rig.listen('depth/image_rect')
        rig.ready()
        rig.until(lambda: rig.status('clock')[0] == DiagnosticStatus.WARN)
        assert '/clock is silent' in rig.status('clock')[1]
        for seconds in (100, 101):
            rig.publish('/clock', Clock(clock=Time(sec=seconds)))
            rig.until(lambda s=seconds: rig.node.get_clock().now().nanoseconds == s * 10**9)
        rig.sweep(start=101 * 10**9, last=2)
        rig.until(lambda: rig.node._input.progress is not None)
        rig.publish('/clock', Clock(clock=Time(sec=5)))
        rig.until(lambda: rig.node._clock_monitor.health().jumps == 1)
        assert rig.node._input.progress is None
        stamps = rig.sweep(start=5 * 10**9)
        rig.until(lambda: rig.received['depth/image_rect'])
        assert stamps_of(rig.received['depth/image_rect']) == [stamps[2]]
        assert rig.status('input')[2].get('rejected clock_jump') is None

    def test_restarts_a_crashed_worker(self, rig):
        rig.estimator.errors.append(SystemExit('killed'))
        rig.sweep()
        rig.until(lambda: 'crashed' in rig.status('model')[1])
        assert rig.status('model')[0] == DiagnosticStatus.ERROR
        rig.until(lambda: len(rig.estimators) == 2)
        rig.sweep(start=START + SWEEP, sweep=2)
        rig.until(lambda: rig.received['depth/image_rect'])


class TestLifecycle:
    @pytest.mark.fault(18)
    def test_every_transition(self, make):
        rig = make(autostart=False)
        rig.spin(0.3)
        assert rig.get_state() == 'unconfigured'
        assert rig.change_state(Transition.TRANSITION_CONFIGURE)
        assert rig.get_state() == 'inactive'
        assert rig.change_state(Transition.TRANSITION_ACTIVATE)
        assert rig.get_state() == 'active'
        assert rig.change_state(Transition.TRANSITION_DEACTIVATE)
        assert rig.change_state(Transition.TRANSITION_CLEANUP)
        assert rig.get_state() == 'unconfigured'
        assert rig.estimators[0].released
        assert rig.change_state(Transition.TRANSITION_CONFIGURE)
        assert rig.change_state(Transition.TRANSITION_ACTIVATE)
        assert rig.change_state(Transition.TRANSITION_ACTIVE_SHUTDOWN)
        assert rig.get_state() == 'finalized'
        assert rig.estimators[1].released

    def test_garbage_collection_stays_enabled(self, make):
        frozen = gc.get_freeze_count()
        rig = make()
        rig.until(lambda: rig.get_state() == 'active')
        assert gc.get_freeze_count() == frozen

    @pytest.mark.fault(18)
    def test_rejects_unknown_transitions(self, rig):
        assert not rig.change_state(Transition.TRANSITION_CONFIGURE)
        assert not rig.change_state(Transition.TRANSITION_CLEANUP)
        assert not rig.change_state(99)
        assert rig.get_state() == 'active'
        rig.sweep()
        rig.until(lambda: rig.received['depth/image_rect'])

    @pytest.mark.fault(18)
    def test_services_answer_while_the_model_loads(self, make):
        permit = threading.Event()

        def load(settings):
            assert permit.wait(30)
            return FakeEstimator()

        rig = make(load=load, autostart=False)
        client = rig.peer.create_client(ChangeState, 'dualfocus/change_state')
        rig.until(client.service_is_ready)
        request = ChangeState.Request()
        request.transition.id = Transition.TRANSITION_CONFIGURE
        answer = client.call_async(request)
        rig.until(lambda: 'loading' in rig.status('model')[1])
        assert rig.get_state() == 'unconfigured'
        assert rig.call(Trigger, 'dualfocus/reset', Trigger.Request()).success
        assert not answer.done()
        permit.set()
        rig.until(answer.done)
        assert answer.result().success
        assert rig.get_state() == 'inactive'

    @pytest.mark.fault(18)
    def test_unloadable_model_fails_configuration(self, make):
        failures = ['there is no model here: use one of lite']

        def load(settings):
            if failures:
                raise ValueError(failures.pop())
            return FakeEstimator()

        rig = make(load=load)
        rig.until(lambda: rig.status('model')[0] == DiagnosticStatus.ERROR)
        assert 'use one of lite' in rig.status('model')[1]
        assert rig.get_state() == 'unconfigured'
        assert rig.change_state(Transition.TRANSITION_CONFIGURE)
        rig.until(lambda: rig.status('model')[0] == DiagnosticStatus.OK)

    def test_names_all_invalid_parameters(self, make):
        rig = make(depth__encoding='8UC1', stack__size=99)
        rig.until(lambda: rig.status('model')[0] == DiagnosticStatus.ERROR)
        text = rig.status('model')[1]
        assert '32FC1, 16UC1' in text
        assert 'stack.size must be a whole number from 0 to 32' in text
        assert rig.estimators == []

    @pytest.mark.fault(18)
    def test_deactivation_stops_and_activation_resumes(self, rig):
        rig.estimator.gate.clear()
        rig.sweep()
        rig.until(lambda: not rig.node._worker.has_pending and rig.node._input.progress is None)
        assert rig.change_state(Transition.TRANSITION_DEACTIVATE)
        rig.estimator.gate.set()
        rig.until(lambda: rig.status('input')[1] == 'not active')
        assert rig.received['depth/image_rect'] == []
        assert rig.change_state(Transition.TRANSITION_ACTIVATE)
        rig.ready()
        stamps = rig.sweep(start=START + SWEEP, sweep=2)
        rig.until(lambda: rig.received['depth/image_rect'])
        assert stamps_of(rig.received['depth/image_rect']) == [stamps[2]]

    @pytest.mark.fault(18)
    def test_many_cycles(self, make):
        rig = make(autostart=False)
        threads = threading.active_count()
        for _ in range(10):
            for transition in (
                Transition.TRANSITION_CONFIGURE,
                Transition.TRANSITION_ACTIVATE,
                Transition.TRANSITION_DEACTIVATE,
                Transition.TRANSITION_CLEANUP,
            ):
                assert rig.change_state(transition)
        assert threading.active_count() == threads
        assert all(estimator.released for estimator in rig.estimators)
        assert len(list(rig.node.subscriptions)) <= 1
        assert rig.node._outputs is None


def test_focus_states_with_other_stamps_make_no_stack(rig):
    for n in range(3):
        stamp = START + n * 33 * MS
        rig.publish('camera_info', camera_info(stamp, 40.0))
        state = FocusState(
            focus_dioptres=0.5 + n, state=FocusState.SETTLED, plane_index=n, plane_count=3
        )
        state.header.stamp = to_stamp(stamp + 1)
        rig.publish('focus_state', state)
        rig.publish('image_raw', image(stamp, 1))
    rig.shoot(START + 10**9, 1.0, 9, 0, 3)
    rig.until(lambda: rig.status('input')[2].get('rejected no_focus', '').startswith('3'))
    assert rig.estimator.asked == []
