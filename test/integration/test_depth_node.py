# SPDX-License-Identifier: Apache-2.0
"""The depth node over DDS, with a stand-in for the network: topics, inputs, faults, life cycle."""

from collections import defaultdict
import gc
import threading

from builtin_interfaces.msg import Time
import cv2
from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
import pytest
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy, qos_profile_sensor_data
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage, Image
from sensor_msgs_py import point_cloud2
from std_srvs.srv import Trigger

from depth_node_harness import (
    FRAME,
    HEIGHT,
    MS,
    OUTPUTS,
    START,
    WIDTH,
    FakeEstimator,
    camera_info,
    command,
    focus_state,
    image,
    stack_message,
    stamps_of,
)
from dualfocus_ros import topics
from dualfocus_ros.msg import FocusState, StackInfo
from dualfocus_ros.nodes.messages import image_decoding
from dualfocus_ros.nodes.qos import IMAGE_QUEUE, input_queue
from dualfocus_ros.stamps import to_ns
from dualfocus_ros.sweep.stage_counter import Stage

BEST_EFFORT = ReliabilityPolicy.BEST_EFFORT
SWEEP = 200 * MS


class TestOutputs:
    def test_all_topics_of_one_stack(self, connect):
        harness = connect(*OUTPUTS, stack__min_size=2, points__decimation=4)
        stamps = harness.sweep((0.5, 2.0, 1.0))
        harness.until(lambda: all(harness.received[topic] for topic in OUTPUTS))
        first = {topic: harness.received[topic][0] for topic in OUTPUTS}

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
    def test_no_subscriber_no_computation(self, connect):
        harness = connect()
        harness.sweep()
        harness.until(lambda: harness.status('input')[2].get('received') == '3')
        level, text, values = harness.status('input')
        assert level == DiagnosticStatus.OK
        assert 'no output has a subscriber' in text
        # What would come out is known, but no image was kept.
        assert (values['matched'], values['stacked'], values['inferred']) == ('3', '1', '0')
        assert harness.estimator.asked == []

    def test_ignores_images_before_the_first_subscriber(self, connect):
        harness = connect()
        harness.sweep(last=2)
        harness.until(lambda: harness.input.in_progress)
        harness.listen('rgb/image_rect')
        harness.ready()
        harness.sweep(first=2)
        harness.sweep(start=START + SWEEP, sweep=2)
        harness.until(lambda: harness.received['rgb/image_rect'])
        ((stack, _, _),) = harness.estimator.asked
        assert stack.sweep_id == 2
        assert set(harness.received['rgb/image_rect'][0].data) == {12}

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
    def test_computes_only_subscribed_topics(self, connect, topic, asked):
        harness = connect(topic)
        harness.sweep()
        harness.until(lambda: harness.received[topic])
        ((_, outputs, _),) = harness.estimator.asked
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
    def test_stamp_policy(self, connect, policy, plane):
        harness = connect('depth/image_rect', stamp_policy=policy)
        stamps = harness.sweep((0.5, 2.0, 1.0))
        harness.until(lambda: harness.depths)
        assert stamps_of(harness.depths) == [stamps[plane]]

    def test_parameters_take_effect_at_the_next_stack(self, harness):
        harness.sweep()
        harness.until(lambda: len(harness.depths) == 1)
        request = SetParametersAtomically.Request()
        request.parameters = [
            Parameter('depth.encoding', value='16UC1').to_parameter_msg(),
            Parameter('depth.max', value=5.0).to_parameter_msg(),
        ]
        answer = harness.call(
            SetParametersAtomically, 'dualfocus/set_parameters_atomically', request
        )
        assert answer.result.successful
        harness.sweep(start=START + SWEEP, sweep=2)
        harness.until(lambda: len(harness.depths) == 2)
        metres, millimetres = harness.depths
        assert (metres.encoding, millimetres.encoding) == ('32FC1', '16UC1')
        values = np.frombuffer(millimetres.data, np.uint16)
        assert values[0] == 0
        assert (values[1:] == 500).all()
        assert harness.estimator.asked[-1][2].depth_max == 5.0

    def test_cloud_rate_is_limited_separately(self, connect):
        harness = connect('depth/points', 'depth/image_rect', points__max_rate=4.0)
        for n in range(5):
            harness.sweep(start=START + n * 100 * MS, sweep=n)
            harness.until(lambda n=n: len(harness.depths) == n + 1)
        assert stamps_of(harness.received['depth/points']) == [
            stamps_of(harness.depths)[n] for n in (0, 3)
        ]

    def test_the_decimated_cloud_has_another_rate(self, connect):
        harness = connect('depth/points', 'depth/points_decimated', points__decimated_max_rate=4.0)
        for n in range(5):
            harness.sweep(start=START + n * 100 * MS, sweep=n)
            harness.until(lambda n=n: len(harness.received['depth/points']) == n + 1)
        harness.until(lambda: len(harness.received['depth/points_decimated']) == 2)
        assert [outputs.points_decimated for _, outputs, _ in harness.estimator.asked] == [
            True,
            False,
            False,
            True,
            False,
        ]

    @pytest.mark.fault(15)
    def test_depth_without_cloud_if_camera_info_is_missing(self, connect):
        harness = connect(
            'depth/image_rect',
            'depth/points',
            'depth/camera_info',
            inputs=('image_raw', 'focus_state'),
        )
        harness.sweep()
        harness.until(lambda: harness.depths)
        harness.until(lambda: 'no camera_info' in harness.status('depth')[1])
        assert harness.status('depth')[0] == DiagnosticStatus.WARN
        assert not harness.received['depth/points']
        assert not harness.received['depth/camera_info']

    def test_an_uncalibrated_camera_is_named(self, harness):
        harness.publish('camera_info', camera_info(START, 0.0))
        harness.sweep()
        harness.until(
            lambda: 'not calibrated' in harness.status('input')[2].get('rejected uncalibrated', '')
        )
        harness.until(lambda: harness.depths)


class TestConnections:
    def test_receives_a_best_effort_camera(self, connect):
        harness = connect('depth/image_rect', reliability=BEST_EFFORT)
        harness.sweep()
        harness.until(lambda: harness.depths)
        harness.until(lambda: 'best effort' in ' '.join(harness.status('connections')[2].values()))

    def test_subscription_follows_publishers(self, harness):
        images = harness.input.images[0]
        assert 'reliable' in str(images)
        second = harness.node.create_publisher(
            Image, 'image_raw', harness.subscriptions['depth/image_rect'].qos_profile
        )
        harness.node.destroy_publisher(second)
        harness.node.destroy_publisher(harness.publishers.pop('image_raw'))
        harness.advertise('image_raw', Image, BEST_EFFORT)
        harness.until(lambda: 'best effort' in str(images))
        harness.ready()
        harness.sweep()
        harness.until(lambda: harness.depths)
        harness.node.destroy_publisher(harness.publishers.pop('image_raw'))
        harness.advertise('image_raw', Image)
        harness.until(lambda: 'reliable' in str(images))

    def test_reliability_can_be_overridden(self, make_harness):
        harness = make_harness(
            qos_overrides={
                'image_raw.subscription.reliability': 'best_effort',
                'depth/image_rect.publisher.reliability': 'best_effort',
            }
        )
        harness.use_camera()
        harness.listen('depth/image_rect', reliability=BEST_EFFORT)
        harness.ready()
        harness.spin(1.2)
        assert 'best effort' in str(harness.input.images[0])
        assert 'best effort' in harness.depth_node._outputs.descriptions()[0]

    def test_names_incompatible_subscribers(self, make_harness):
        harness = make_harness(
            qos_overrides={'depth/image_rect.publisher.reliability': 'best_effort'}
        )
        harness.listen('depth/image_rect')
        harness.until(lambda: harness.status('connections')[0] == DiagnosticStatus.WARN)
        text = harness.status('connections')[1]
        assert f'{harness.namespace}/depth/image_rect: {harness.namespace}/peer is offered' in text
        assert 'RELIABILITY' in text
        harness.ignore('depth/image_rect')
        harness.until(lambda: harness.status('connections')[0] == DiagnosticStatus.OK)

    def test_names_incompatible_cameras(self, make_harness):
        harness = make_harness(qos_overrides={'image_raw.subscription.reliability': 'reliable'})
        harness.use_camera(reliability=BEST_EFFORT)
        harness.until(lambda: harness.status('connections')[0] == DiagnosticStatus.WARN)
        text = harness.status('connections')[1]
        assert (
            f'{harness.namespace}/image_raw: {harness.namespace}/peer offers RELIABILITY' in text
        )
        harness.node.destroy_publisher(harness.publishers.pop('image_raw'))
        harness.until(lambda: harness.status('connections')[0] == DiagnosticStatus.OK)

    def test_adapts_to_one_best_effort_camera_among_reliable(self, harness):
        images = harness.input.images[0]
        second = harness.node.create_publisher(Image, 'image_raw', qos_profile_sensor_data)
        harness.until(lambda: 'best effort' in str(images))
        harness.node.destroy_publisher(second)
        harness.until(lambda: 'reliable' in str(images))
        harness.ready()
        harness.sweep()
        harness.until(lambda: harness.depths)

    def test_late_and_best_effort_subscribers_receive(self, harness):
        harness.sweep()
        harness.until(lambda: harness.depths)
        harness.listen('depth/sigma', reliability=BEST_EFFORT)
        harness.ready()
        harness.sweep(start=START + SWEEP, sweep=2)
        harness.until(lambda: harness.received['depth/sigma'])

    @pytest.mark.fault(16)
    def test_computation_stops_with_the_last_subscriber(self, harness):
        harness.ignore('depth/image_rect')
        harness.ready()
        harness.sweep()
        harness.until(lambda: harness.status('input')[2].get('received') == '3')
        assert harness.estimator.asked == []


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
    def test_topics_list_has_every_subscription(self, make_harness, parameters):
        harness = make_harness(**parameters)
        harness.until(lambda: harness.state == 'active')
        listed = {
            f'{harness.namespace}/{topic.name}': topic.message_type for topic in topics.INPUTS
        }
        found = {s.topic: s for s in harness.input.subscriptions}
        found.pop(f'{harness.namespace}/plane_1/image_raw', None)
        for topic, subscription in found.items():
            message_type = listed[topic]
            assert str(subscription).startswith(f'{topic} [{message_type}]')
            assert f'keep last {input_queue(message_type)}' in str(subscription)

    def test_camera_ros_metadata(self, connect):
        harness = connect(
            'depth/image_rect',
            inputs=('image_raw', 'camera_info', 'metadata'),
            focus_source='camera_ros',
            stack__size=3,
        )
        stamps = harness.sweep()
        harness.until(lambda: harness.depths)
        assert stamps_of(harness.depths) == [stamps[2]]

    def test_commands_and_a_settling_model(self, connect):
        harness = connect(
            'depth/image_rect',
            inputs=('image_raw', 'camera_info', 'focus_command'),
            focus_source='command',
            command__latency_frames=1,
            command__settling_time=0.05,
        )
        settled = []
        for n, dioptres in enumerate((0.5, 1.0, 2.0)):
            at = START + n * 200 * MS
            harness.publish('focus_command', command(at, dioptres, 1, n, 3))
            harness.until(lambda n=n: len(harness.input.commanded_focus.commands) == n + 1)
            for k in range(3):
                harness.shoot(at + (10 + 33 * k) * MS, 0.0)
            settled.append(at + 76 * MS)
        harness.until(lambda: harness.depths)
        ((stack, _, _),) = harness.estimator.asked
        assert [plane.stamp_ns for plane in stack.planes] == settled
        np.testing.assert_allclose(stack.focus_dioptres, [0.5, 1.0, 2.0])

    def test_synchronised_cameras(self, connect):
        harness = connect(
            'depth/image_rect',
            'depth/points',
            inputs=(*(f'plane_{n}/image_raw' for n in range(3)), 'camera_info'),
            input='planes',
            planes__focus_dioptres=[0.5, 1.0, 2.0],
            stack__sync_tolerance=0.005,
        )
        harness.publish('camera_info', camera_info(START, 42.0))
        harness.until(lambda: harness.input.calibration is not None)
        for n in range(3):
            harness.publish(f'plane_{n}/image_raw', image(START + n * MS, 10 + n))
        harness.until(lambda: harness.received['depth/points'])
        assert stamps_of(harness.depths) == [START + 2 * MS]

    @pytest.mark.parametrize('encoding', ['rgb8', 'bgr8'])
    def test_whole_stacks(self, connect, encoding):
        harness = connect(
            'depth/image_rect', 'depth/points', inputs=('focal_stack',), input='stack'
        )
        stacks = [stack_message(START + n * SWEEP) for n in range(2)]
        for picture in (*stacks[0].images, *stacks[1].images):
            picture.encoding = encoding
        stacks[0].images[1].data = bytes(3)
        counts = harness.depth_node._stage_counter.snapshot
        harness.publish('focal_stack', stacks[0])
        harness.until(lambda: counts().rejections)
        assert [(r.reason, r.count) for r in counts().rejections] == [('data_size', 1)]
        harness.publish('focal_stack', stacks[1])
        harness.until(lambda: harness.received['depth/points'])
        assert stamps_of(harness.depths) == [START + SWEEP + 2]

    def test_compressed_images(self, connect):
        harness, damaged = self.compressed(connect)
        focus = (0.5, 1.0, 1.5, 2.0)
        harness.sweep(focus)
        harness.until(lambda: harness.received['rgb/image_rect'])
        assert set(harness.received['rgb/image_rect'][0].data) == {13}
        # Its header does not tell; who decodes it finds out.
        damaged.add(START + SWEEP)
        stamps = harness.sweep(focus, START + SWEEP, 2) + harness.sweep(
            focus, START + 2 * SWEEP, 3
        )
        harness.until(lambda: len(harness.received['rgb/image_rect']) == 3)
        assert stamps_of(harness.received['rgb/image_rect'])[1:] == [stamps[3], stamps[7]]
        snapshot = harness.counts()
        assert [(r.reason, r.count) for r in snapshot.rejections] == [('undecodable', 1)]
        assert snapshot.counts[Stage.RECEIVED] == snapshot.counts[Stage.VALID] + 1 == 12

    def test_decodes_a_burst_in_order(self, connect):
        harness, _ = self.compressed(connect)
        for sweep in range(3):
            harness.sweep(start=START + sweep * SWEEP, sweep=sweep)
        harness.until(lambda: harness.counts().counts[Stage.STACKED] == 3)
        reasons = {rejection.reason for rejection in harness.counts().rejections}
        # The network takes the newest stack, as always.
        assert reasons <= {'superseded'}

    def test_drops_oldest_images_under_decoding_overload(self, connect, monkeypatch):
        permit, decode = threading.Event(), image_decoding.compressed_to_array

        def wait(*arguments):
            assert permit.wait(60)
            return decode(*arguments)

        monkeypatch.setattr(image_decoding, 'compressed_to_array', wait)
        harness, _ = self.compressed(connect)
        counts = harness.depth_node._stage_counter.snapshot
        for n in range(IMAGE_QUEUE + 3):
            harness.shoot(START + n * 33 * MS, 1.0, 1, n, 100)
            harness.until(lambda n=n: counts().counts[Stage.RECEIVED] == n + 1)
        assert [(r.reason, r.count) for r in counts().rejections] == [('conversion_too_slow', 3)]
        permit.set()
        harness.until(lambda: counts().counts[Stage.VALID] == IMAGE_QUEUE)
        stamps = harness.sweep(start=START + 10**10, sweep=2)
        harness.until(lambda: harness.received['rgb/image_rect'])
        assert stamps_of(harness.received['rgb/image_rect'])[-1] == stamps[-1]

    @staticmethod
    def compressed(connect):
        """Return a harness whose images are compressed, and a set: of stamps of broken images."""
        harness = connect(
            'rgb/image_rect',
            inputs=('image_raw/compressed', 'camera_info', 'focus_state'),
            image_transport='compressed',
        )
        damaged = set()

        def compress(message):
            picture = np.frombuffer(message.data, np.uint8).reshape(HEIGHT, WIDTH, 3)
            data = cv2.imencode('.png', picture)[1].tobytes()
            if to_ns(message.header.stamp) in damaged:
                at = data.index(b'IDAT') + 4
                data = data[:at] + bytes(8) + data[at + 8 :]
            return CompressedImage(header=message.header, format='png', data=data)

        harness.publishers['image_raw'] = harness.publishers['image_raw/compressed']
        harness.edits['image_raw'] = compress
        return harness, damaged

    def test_sliding_mode_gives_depth_per_frame(self, connect):
        harness = connect('depth/image_rect', stack__mode='sliding', stamp_policy='last')
        stamps = harness.sweep()
        harness.until(lambda: len(harness.depths) == 1)
        for n in range(3):
            stamps.append(START + SWEEP + n * 33 * MS)
            harness.shoot(stamps[-1], (0.5, 1.0, 2.0)[n], 2, n, 3)
            harness.until(lambda n=n: len(harness.depths) == n + 2)
        assert stamps_of(harness.depths) == stamps[2:]

    def test_three_sweeps_in_one_burst_are_complete(self, connect):
        harness = connect('stack_info')
        focus = tuple(0.3 + 0.2 * n for n in range(8))
        harness.estimator.gate.clear()
        messages = defaultdict(list)
        publish, harness.publish = harness.publish, lambda topic, m: messages[topic].append(m)
        for k in range(3):
            harness.sweep(focus, start=START + k * 10**9, sweep=k, period=100 * MS)
        # All images, then all reports, then all calibrations, without spinning in between.
        for topic in ('image_raw', 'focus_state', 'camera_info'):
            for message in messages[topic]:
                publish(topic, message)
        harness.until(lambda: harness.counts().counts[Stage.STACKED] == 3)
        snapshot = harness.counts()
        assert (snapshot.counts[Stage.RECEIVED], snapshot.counts[Stage.MATCHED]) == (24, 24)
        # The network takes the newest stack, as always; the frames are all there.
        assert {r.reason for r in snapshot.rejections} <= {'superseded'}
        harness.estimator.gate.set()
        harness.until(lambda: any(info.sweep_id == 2 for info in harness.received['stack_info']))
        assert all(info.flags == 0 for info in harness.received['stack_info'])


class TestFaults:
    @pytest.mark.fault(1)
    def test_camera_stops_during_a_sweep(self, connect):
        harness = connect('depth/image_rect', stack__timeout=30.0)
        harness.sweep(tuple(0.5 + 0.2 * n for n in range(8)), last=4)
        harness.until(lambda: harness.status('input')[0] == DiagnosticStatus.WARN)
        assert 'the sweep in progress has 4 of 8 planes' in harness.status('input')[1]
        harness.until(lambda: harness.status('input')[0] == DiagnosticStatus.ERROR)
        _, text, _ = harness.status('input')
        assert text.startswith('no image for ')
        assert '4 of 8 planes' in text
        harness.sweep(start=START + 10**10, sweep=2)
        harness.until(lambda: harness.depths)
        harness.until(lambda: harness.status('input')[0] == DiagnosticStatus.WARN)

    def test_state_of_the_lens_and_time_of_the_sweep(self, harness):
        harness.sweep()
        harness.until(lambda: harness.status('input')[2].get('sweep time [s]') == '0.066')
        values = harness.status('input')[2]
        assert (values['lens state'], values['lens focus [1/m]']) == ('settled', '2.000')
        harness.shoot(START + SWEEP, 0.7, 2, 0, 3, state=FocusState.FAULT)
        harness.until(lambda: 'the lens reports a fault at 0.70' in harness.status('input')[1])
        assert harness.status('input')[0] == DiagnosticStatus.WARN
        assert harness.status('input')[2]['lens state'] == 'fault'

    def test_warns_once_of_depth_beyond_the_lens_range(self, connect):
        # The lens measures up to 1 m.
        harness = connect('depth/image_rect', '/rosout', lens__kappa=2.0)
        for n in range(4):
            harness.sweep(start=START + n * SWEEP, sweep=n)
            harness.until(lambda n=n: len(harness.depths) == n + 1)
        harness.until(lambda: harness.status('optics')[0] == DiagnosticStatus.WARN)
        assert 'up to 2.00 m' in harness.status('optics')[1]
        assert harness.status('optics')[2]['range limit [m]'] == '1.00'
        said = [m for m in harness.received['/rosout'] if 'px of blur per dioptre' in m.msg]
        assert len(said) == 1
        assert harness.estimator.asked[-1][2].sigma_floor > 0.0

    def test_flags_sweep_with_lost_plane(self, connect):
        harness = connect('stack_info', stack__min_size=2)
        harness.shoot(START, 0.5, 1, 0, 3)
        harness.shoot(START + 66 * MS, 2.0, 1, 2, 3)
        harness.sweep(start=START + SWEEP, sweep=2, last=1)
        harness.until(lambda: harness.received['stack_info'])
        harness.sweep(start=START + SWEEP, sweep=2, first=1)
        harness.until(lambda: len(harness.received['stack_info']) == 2)
        partial, whole = harness.received['stack_info']
        assert partial.flags == StackInfo.FLAG_PLANE_MISSING | StackInfo.FLAG_PARTIAL
        assert [to_ns(stamp) for stamp in partial.stamps] == [START, START + 66 * MS]
        assert (whole.sweep_id, whole.flags) == (2, 0)

    @pytest.mark.fault(12, 14)
    def test_rejections_are_counted_by_reason(self, harness):
        harness.publish('image_raw', image(START, 1, encoding='8UC7'))
        short = image(START + MS, 1)
        short.data = short.data[:-1]
        harness.publish('image_raw', short)
        harness.until(lambda: 'rejected data_size' in harness.status('input')[2])
        values = harness.status('input')[2]
        assert '8UC7' in values['rejected encoding']
        assert (values['received'], values['valid']) == ('2', '0')
        harness.sweep()
        harness.until(lambda: harness.depths)

    @pytest.mark.fault(10)
    def test_reports_and_survives_inference_errors(self, harness):
        harness.estimator.errors.append(RuntimeError('the kernel has no such operator'))
        harness.sweep()
        harness.until(lambda: harness.status('depth')[0] == DiagnosticStatus.ERROR)
        assert 'no such operator' in harness.status('depth')[1]
        harness.sweep(start=START + SWEEP, sweep=2)
        harness.until(lambda: harness.depths)
        harness.until(lambda: harness.status('depth')[0] == DiagnosticStatus.OK)

    @pytest.mark.fault(20)
    def test_under_overload_the_newest_stack_wins(self, harness):
        harness.estimator.gate.clear()
        for n in range(6):
            harness.sweep(start=START + n * SWEEP, sweep=n)
            harness.until(lambda n=n: harness.counts().counts[Stage.STACKED] == n + 1)
            harness.until(lambda n=n: n > 0 or not harness.worker.has_pending)
        harness.estimator.gate.set()
        harness.until(lambda: len(harness.depths) == 2)
        harness.spin(0.3)
        assert [stack.sweep_id for stack, _, _ in harness.estimator.asked] == [0, 5]
        harness.until(lambda: harness.status('depth')[2].get('stacks superseded') == '4')

    def test_reset_drops_sweep_and_pending_stack(self, harness):
        harness.estimator.gate.clear()
        harness.sweep()
        harness.until(lambda: not harness.worker.has_pending and harness.input.progress is None)
        harness.sweep(start=START + SWEEP, sweep=2, last=2)
        harness.until(lambda: harness.input.progress is not None)
        answer = harness.call(Trigger, 'dualfocus/reset', Trigger.Request())
        assert answer.success
        assert '2 of 3 planes' in answer.message or '1 of 3 planes' in answer.message
        harness.estimator.gate.set()
        harness.sweep(start=START + 2 * SWEEP, sweep=3)
        harness.until(lambda: harness.depths)
        assert stamps_of(harness.depths) == [START + 2 * SWEEP + 66 * MS]

    def test_backward_clock_jump_resets(self, connect):
        harness = connect(
            'depth/image_rect',
            inputs=('image_raw', 'camera_info', 'focus_state', '/clock'),
            sim_time=True,
        )
        harness.until(lambda: harness.status('clock')[0] == DiagnosticStatus.WARN)
        assert '/clock is silent' in harness.status('clock')[1]
        for seconds in (100, 101):
            harness.publish('/clock', Clock(clock=Time(sec=seconds)))
            harness.until(
                lambda s=seconds: harness.depth_node.get_clock().now().nanoseconds == s * 10**9
            )
        harness.sweep(start=101 * 10**9, last=2)
        harness.until(lambda: harness.input.progress is not None)
        harness.publish('/clock', Clock(clock=Time(sec=5)))
        harness.until(lambda: harness.depth_node._clock_monitor.jumps == 1)
        assert harness.input.progress is None
        stamps = harness.sweep(start=5 * 10**9)
        harness.until(lambda: harness.depths)
        assert stamps_of(harness.depths) == [stamps[2]]
        assert harness.status('input')[2].get('rejected clock_jump') is None

    def test_restarts_a_crashed_worker(self, harness):
        harness.estimator.errors.append(SystemExit('killed'))
        harness.sweep()
        harness.until(lambda: 'crashed' in harness.status('model')[1])
        assert harness.status('model')[0] == DiagnosticStatus.ERROR
        harness.until(lambda: len(harness.estimators) == 2)
        harness.sweep(start=START + SWEEP, sweep=2)
        harness.until(lambda: harness.depths)


class TestLifecycle:
    @pytest.mark.fault(18)
    def test_every_transition(self, make_harness):
        harness = make_harness(autostart=False)
        harness.spin(0.3)
        assert harness.get_state() == 'unconfigured'
        assert harness.change_state(Transition.TRANSITION_CONFIGURE)
        assert harness.get_state() == 'inactive'
        assert harness.change_state(Transition.TRANSITION_ACTIVATE)
        assert harness.get_state() == 'active'
        assert harness.change_state(Transition.TRANSITION_DEACTIVATE)
        assert harness.change_state(Transition.TRANSITION_CLEANUP)
        assert harness.get_state() == 'unconfigured'
        assert harness.estimators[0].released
        assert harness.change_state(Transition.TRANSITION_CONFIGURE)
        assert harness.change_state(Transition.TRANSITION_ACTIVATE)
        assert harness.change_state(Transition.TRANSITION_ACTIVE_SHUTDOWN)
        assert harness.get_state() == 'finalized'
        assert harness.estimators[1].released

    def test_garbage_collection_stays_enabled(self, make_harness):
        frozen = gc.get_freeze_count()
        harness = make_harness()
        harness.until(lambda: harness.get_state() == 'active')
        assert gc.get_freeze_count() == frozen

    @pytest.mark.fault(18)
    def test_rejects_unknown_transitions(self, harness):
        assert not harness.change_state(Transition.TRANSITION_CONFIGURE)
        assert not harness.change_state(Transition.TRANSITION_CLEANUP)
        assert not harness.change_state(99)
        assert harness.get_state() == 'active'
        harness.sweep()
        harness.until(lambda: harness.depths)

    @pytest.mark.fault(18)
    def test_services_answer_while_the_model_loads(self, make_harness):
        permit = threading.Event()

        def load(settings):
            assert permit.wait(30)
            return FakeEstimator()

        harness = make_harness(load=load, autostart=False)
        client = harness.node.create_client(ChangeState, 'dualfocus/change_state')
        harness.until(client.service_is_ready)
        request = ChangeState.Request()
        request.transition.id = Transition.TRANSITION_CONFIGURE
        answer = client.call_async(request)
        harness.until(lambda: 'loading' in harness.status('model')[1])
        assert harness.get_state() == 'unconfigured'
        assert harness.call(Trigger, 'dualfocus/reset', Trigger.Request()).success
        assert not answer.done()
        permit.set()
        harness.until(answer.done)
        assert answer.result().success
        assert harness.get_state() == 'inactive'

    @pytest.mark.fault(18)
    def test_unloadable_model_fails_configuration(self, make_harness):
        failures = ['there is no model here: use one of lite']

        def load(settings):
            if failures:
                raise ValueError(failures.pop())
            return FakeEstimator()

        harness = make_harness(load=load)
        harness.until(lambda: harness.status('model')[0] == DiagnosticStatus.ERROR)
        assert 'use one of lite' in harness.status('model')[1]
        assert harness.get_state() == 'unconfigured'
        assert harness.change_state(Transition.TRANSITION_CONFIGURE)
        harness.until(lambda: harness.status('model')[0] == DiagnosticStatus.OK)

    def test_names_all_invalid_parameters(self, make_harness):
        harness = make_harness(depth__encoding='8UC1', stack__size=99)
        harness.until(lambda: harness.status('model')[0] == DiagnosticStatus.ERROR)
        text = harness.status('model')[1]
        assert '32FC1, 16UC1' in text
        assert 'stack.size must be a whole number from 0 to 32' in text
        assert harness.estimators == []

    @pytest.mark.fault(18)
    def test_deactivation_stops_and_activation_resumes(self, harness):
        harness.estimator.gate.clear()
        harness.sweep()
        harness.until(lambda: not harness.worker.has_pending and harness.input.progress is None)
        assert harness.change_state(Transition.TRANSITION_DEACTIVATE)
        harness.estimator.gate.set()
        harness.until(lambda: harness.status('input')[1] == 'not active')
        assert harness.depths == []
        assert harness.change_state(Transition.TRANSITION_ACTIVATE)
        harness.ready()
        stamps = harness.sweep(start=START + SWEEP, sweep=2)
        harness.until(lambda: harness.depths)
        assert stamps_of(harness.depths) == [stamps[2]]

    @pytest.mark.fault(18)
    def test_many_cycles(self, make_harness):
        harness = make_harness(autostart=False)
        threads = threading.active_count()
        for _ in range(10):
            for transition in (
                Transition.TRANSITION_CONFIGURE,
                Transition.TRANSITION_ACTIVATE,
                Transition.TRANSITION_DEACTIVATE,
                Transition.TRANSITION_CLEANUP,
            ):
                assert harness.change_state(transition)
        assert threading.active_count() == threads
        assert all(estimator.released for estimator in harness.estimators)
        assert len(list(harness.depth_node.subscriptions)) <= 1
        assert harness.depth_node._outputs is None


def test_focus_states_with_other_stamps_make_no_stack(harness):
    for n in range(3):
        stamp = START + n * 33 * MS
        harness.publish('camera_info', camera_info(stamp, 40.0))
        harness.publish('focus_state', focus_state(stamp + 1, 0.5 + n, 0, n, 3))
        harness.publish('image_raw', image(stamp, 1))
    harness.shoot(START + 10**9, 1.0, 9, 0, 3)
    harness.until(lambda: harness.status('input')[2].get('rejected no_focus', '').startswith('3'))
    assert harness.estimator.asked == []
