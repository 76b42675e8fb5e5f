# SPDX-License-Identifier: Apache-2.0
"""Camera, sweep and depth node as processes over DDS, with the shipped network."""

import signal

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.srv import GetState
import numpy as np
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image
from sensor_msgs_py import point_cloud2

from dualfocus_ros.msg import FocusState
from rep_client import OUTPUTS

CAMERA = {'width': 320, 'height': 240, 'rate': 15.0, 'threads': 1, 'settling_time': 0.06}
SWEEP = {'count': 5, 'far_dioptres': 0.3}
DEPTH = {'threads': 1}
INPUTS = {'camera_info': CameraInfo, 'focus_state': FocusState, 'ground_truth/depth': Image}


def stamp(message):
    return message.header.stamp.sec, message.header.stamp.nanosec


def by_stamp(messages):
    return {stamp(message): message for message in messages}


def as_array(image):
    kinds = {'32FC1': np.float32, '16UC1': np.uint16, 'mono8': np.uint8, 'rgb8': np.uint8}
    array = np.frombuffer(image.data, kinds[image.encoding])
    channels = 3 if image.encoding == 'rgb8' else 1
    return array.reshape(image.height, image.width, channels).squeeze()


def statuses(diagnostics, part):
    """Return the diagnostics of one part of the depth node, oldest first."""
    return [s for array in diagnostics for s in array.status if s.name == f'dualfocus: {part}']


@pytest.fixture
def start_pipeline(start):
    def start_all(**depth):
        return (
            start('sim_camera_node', **CAMERA),
            start('focus_sweep_node', **SWEEP),
            start('depth_node', **{**DEPTH, **depth}),
        )

    return start_all


def check_ended_well(*programs, number=signal.SIGINT):
    for program in programs:
        program.process.send_signal(number)
    for program in programs:
        assert program.wait(20.0) == 0
        assert 'Traceback' not in program.output


def check_cloud(cloud, depth, info):
    """Compare each point with the back-projection of its pixel, by camera_info."""
    assert (cloud.height, cloud.width) == depth.shape
    assert (cloud.point_step, cloud.row_step) == (16, 16 * cloud.width)
    assert not cloud.is_dense
    assert [field.name for field in cloud.fields] == ['x', 'y', 'z', 'rgb']
    points = point_cloud2.read_points(cloud).reshape(depth.shape)
    v, u = np.mgrid[: cloud.height, : cloud.width]
    k = np.array(info.k).reshape(3, 3)
    finite = np.isfinite(depth)
    z = depth[finite].astype(float)
    expected = np.stack(
        [
            (u[finite] - k[0, 2]) * z / k[0, 0],
            (v[finite] - k[1, 2]) * z / k[1, 1],
            z,
        ],
        axis=-1,
    )
    got = np.stack([points[name][finite] for name in ('x', 'y', 'z')], axis=-1)
    error = np.linalg.norm(got - expected, axis=-1) / np.linalg.norm(expected, axis=-1)
    assert error.max() < 1e-3
    assert np.isnan(points['z'][~finite]).all()


def test_depth_of_the_simulated_scene(start_pipeline, listener):
    heard = {topic: listener.collect(kind, topic) for topic, kind in {**OUTPUTS, **INPUTS}.items()}
    programs = start_pipeline()

    def complete():
        """Return the stamps of the stacks of which all outputs and inputs have come, in order.

        The node may discover the camera before this listener does, and so use planes of which
        the listener never heard.
        """
        topics = [*OUTPUTS, 'camera_info', 'ground_truth/depth']
        common = set.intersection(*(set(by_stamp(heard[topic])) for topic in topics))
        reported = set(by_stamp(heard['focus_state']))
        infos = by_stamp(heard['stack_info'])
        return sorted(
            when
            for when in common
            if reported.issuperset((s.sec, s.nanosec) for s in infos[when].stamps)
        )

    listener.until(lambda: len(complete()) >= 3, 'for three stacks with all outputs', 120.0)
    focus = by_stamp(heard['focus_state'])
    cameras = by_stamp(heard['camera_info'])
    truths = by_stamp(heard['ground_truth/depth'])
    outputs = {topic: by_stamp(heard[topic]) for topic in OUTPUTS}
    errors = []
    for when in complete():
        info = outputs['stack_info'][when]
        planes = [(s.sec, s.nanosec) for s in info.stamps]
        # Each plane has the focus of its image, and the nearest plane gives the stamp.
        for plane, dioptres in zip(planes, info.focus_dioptres, strict=True):
            assert focus[plane].focus_dioptres == pytest.approx(dioptres, abs=1e-6)
            assert focus[plane].state == FocusState.SETTLED
        assert when == planes[int(np.argmax(info.focus_dioptres))]
        assert info.inference_ms > 0.0
        assert info.latency_ms >= info.inference_ms

        depth_message = outputs['depth/image_rect'][when]
        assert depth_message.encoding == '32FC1'
        depth = as_array(depth_message)
        for topic in ('depth/camera_info', 'rgb/camera_info'):
            camera = outputs[topic][when]
            assert camera.header == depth_message.header
            np.testing.assert_allclose(camera.k, cameras[when].k)
            np.testing.assert_array_equal(
                np.array(camera.p).reshape(3, 4)[:, :3].ravel(), camera.k
            )
            assert not any(camera.d)
        for topic in OUTPUTS:
            assert outputs[topic][when].header == depth_message.header
        check_cloud(outputs['depth/points'][when], depth, outputs['depth/camera_info'][when])
        sigma = as_array(outputs['depth/sigma'][when])
        finite = np.isfinite(depth)
        assert (sigma[finite] > 0.0).all()
        assert np.isnan(sigma[~finite]).all()
        assert as_array(outputs['depth/confidence'][when]).shape == depth.shape
        assert as_array(outputs['rgb/image_rect'][when]).shape == (*depth.shape, 3)
        decimated = outputs['depth/points_decimated'][when]
        assert decimated.height == 1
        assert 0 < decimated.width <= depth.size // 16

        truth = as_array(truths[when])
        both = finite & np.isfinite(truth)
        assert both.mean() > 0.5
        errors.append(float(np.mean(np.abs(depth[both] - truth[both]) / truth[both])))
    assert np.median(errors) < 0.10
    check_ended_well(*programs)


@pytest.mark.slow
def test_late_subscribers_and_other_encoding(start_pipeline, listener):
    programs = start_pipeline()
    diagnostics = listener.collect(DiagnosticArray, '/diagnostics')
    listener.until(
        lambda: any(s.message.startswith('idle') for s in statuses(diagnostics, 'input')),
        patience=120.0,
    )
    reliable = listener.collect(Image, 'depth/image_rect')
    best_effort = listener.collect(Image, 'depth/image_rect', qos_profile_sensor_data)
    listener.until(lambda: reliable and best_effort, what='for depth at both')
    assert as_array(reliable[-1]).dtype == np.float32

    request = SetParameters.Request(
        parameters=[Parameter('depth.encoding', value='16UC1').to_parameter_msg()]
    )
    assert listener.call(SetParameters, 'dualfocus/set_parameters', request).results[0].successful
    listener.until(lambda: reliable[-1].encoding == '16UC1', what='for the other encoding')
    metres = next(m for m in reversed(reliable) if m.encoding == '32FC1')
    millimetres = as_array(reliable[-1])
    assert (millimetres > 0).mean() > 0.5
    # The scene rests, so both show the same distances, but for noise.
    ratio = np.median(millimetres[millimetres > 0]) * 1e-3 / np.nanmedian(as_array(metres))
    assert ratio == pytest.approx(1.0, abs=0.2)
    check_ended_well(*programs, number=signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.fault(1)
def test_camera_killed_during_sweep(start_pipeline, start, listener):
    camera, _, node = start_pipeline(stack__timeout=30.0)
    diagnostics = listener.collect(DiagnosticArray, '/diagnostics')
    depth = listener.collect(Image, 'depth/image_rect')
    states = listener.collect(FocusState, 'focus_state')
    listener.until(lambda: depth, 'for the first depth', 120.0)
    listener.until(lambda: states[-1].plane_index == 2 and states[-1].state == FocusState.SETTLED)
    camera.stop(signal.SIGKILL)

    def has_level(level):
        last = statuses(diagnostics, 'input')[-1]
        return last.level == level and last.message.startswith('no image for ')

    listener.until(lambda: has_level(DiagnosticStatus.WARN), what='for a warning')
    assert 'of 5 planes' in statuses(diagnostics, 'input')[-1].message
    listener.until(lambda: has_level(DiagnosticStatus.ERROR), what='for an error')
    assert node.process.poll() is None

    count = len(depth)
    start('sim_camera_node', **CAMERA)
    listener.until(lambda: len(depth) > count + 1, what='for depth from the new camera')
    listener.until(lambda: statuses(diagnostics, 'input')[-1].level == DiagnosticStatus.OK)
    assert 'Traceback' not in node.output


@pytest.mark.fault(18)
@pytest.mark.parametrize(
    ('parameters', 'text'),
    [
        ({'model': '/nowhere/weights.safetensors'}, '/nowhere/weights.safetensors'),
        pytest.param({'device': 'cuda:63'}, 'cuda:63', marks=pytest.mark.slow),
        pytest.param(
            {'stack__size': 77, 'depth__encoding': 'RGB'}, '32FC1, 16UC1', marks=pytest.mark.slow
        ),
    ],
)
def test_failed_configuration_states_reason(start, listener, parameters, text):
    node = start('depth_node', **parameters)
    diagnostics = listener.collect(DiagnosticArray, '/diagnostics')

    def refused():
        return any(s.level == DiagnosticStatus.ERROR for s in statuses(diagnostics, 'model'))

    listener.until(refused, 'for the reason', 120.0)
    assert text in statuses(diagnostics, 'model')[-1].message
    assert text in node.output
    state = listener.call(GetState, 'dualfocus/get_state', GetState.Request()).current_state
    assert state.label == 'unconfigured'
    assert node.process.poll() is None
    check_ended_well(node)
