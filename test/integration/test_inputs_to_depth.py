# SPDX-License-Identifier: Apache-2.0
"""Depth of every kind of input over DDS with the shipped network, against ground truth."""

import functools

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np
import pytest

from depth_node_harness import (
    MS,
    START,
    command,
    focus_state,
    header,
    plane_camera_info,
    rgb_image,
    stamps_of,
)
from dualfocus_ros.camera.lens_presets import simulated_lens
from dualfocus_ros.msg import FocalStack
from dualfocus_ros.nodes.stack_processor import load_estimator
from rendered_stacks import rendered_stack

WIDTH, HEIGHT, PLANES = 160, 120, 5
PERIOD = 100 * MS


@pytest.fixture(scope='module')
def scene():
    """Return the planes of a sweep over a floor, from far to near, and the true depth."""
    stack, truth = rendered_stack('floor', 12, WIDTH, HEIGHT, PLANES)
    return stack.planes, truth


@pytest.fixture
def make(connect):
    """Return a function that makes a harness with the shipped network."""
    lens = simulated_lens(WIDTH)
    return functools.partial(
        connect,
        'depth/image_rect',
        load=load_estimator,
        device='cpu',
        threads=1,
        breathing__model='thin_lens',
        lens__focal_length=lens.focal_length,
        lens__f_number=lens.f_number,
        lens__pixel_pitch=lens.pixel_pitch,
    )


def check(harness, scene, stamp):
    """Check the depth that came out against the truth where the planes reach."""
    planes, truth = scene
    harness.until(lambda: harness.depths, 'for depth')
    message = harness.depths[0]
    assert stamps_of([message]) == [stamp]
    depth = np.frombuffer(message.data, np.float32).reshape(HEIGHT, WIDTH)
    focus = [p.focus_dioptres for p in planes]
    known = np.isfinite(depth) & (1.0 / truth > min(focus)) & (1.0 / truth < max(focus))
    error = np.abs(depth - truth)[known] / truth[known]
    print(f'{known.mean():.2f} of the pixels, AbsRel {error.mean():.4f}')
    assert known.mean() > 0.6
    assert error.mean() < 0.08


def sweep_messages(planes, extra):
    """Return the messages of each frame; ``extra`` makes what says where the focus was."""
    for n, plane in enumerate(planes):
        stamp = START + n * PERIOD
        yield from extra(n, plane, stamp)
        yield 'camera_info', plane_camera_info(plane, stamp)
        yield 'image_raw', rgb_image(stamp, plane.image)


def test_focus_state(make, scene):
    harness = make()

    def state(n, plane, stamp):
        yield 'focus_state', focus_state(stamp, plane.focus_dioptres, 1, n, PLANES)

    for topic, message in sweep_messages(scene[0], state):
        harness.publish(topic, message)
    check(harness, scene, START + (PLANES - 1) * PERIOD)


def test_camera_ros_metadata_to_depth(make, scene):
    harness = make(
        inputs=('image_raw', 'camera_info', 'metadata'),
        focus_source='camera_ros',
        stack__size=PLANES,
    )

    def metadata(n, plane, stamp):
        values = {'AfState': 0, 'LensPosition': plane.focus_dioptres, 'ExposureTime': 9981}
        status = DiagnosticStatus(
            hardware_id='imx708', values=[KeyValue(key=k, value=str(v)) for k, v in values.items()]
        )
        yield 'metadata', DiagnosticArray(header=header(stamp), status=[status])

    for topic, message in sweep_messages(scene[0], metadata):
        harness.publish(topic, message)
    check(harness, scene, START + (PLANES - 1) * PERIOD)


def test_commands(make, scene):
    harness = make(
        inputs=('image_raw', 'camera_info', 'focus_command'),
        focus_source='command',
        command__latency_frames=0,
        command__settling_time=0.02,
    )

    def order(n, plane, stamp):
        yield 'focus_command', command(stamp - 50 * MS, plane.focus_dioptres, 1, n, PLANES)

    for topic, message in sweep_messages(scene[0], order):
        orders = len(harness.input.commanded_focus.commands)
        harness.publish(topic, message)
        if topic == 'focus_command':
            harness.until(lambda o=orders: len(harness.input.commanded_focus.commands) > o)
    check(harness, scene, START + (PLANES - 1) * PERIOD)


def test_five_synchronised_cameras(make, scene):
    planes = scene[0]
    harness = make(
        inputs=(*(f'plane_{n}/image_raw' for n in range(PLANES)), 'camera_info'),
        input='planes',
        planes__focus_dioptres=[p.focus_dioptres for p in planes],
        stack__sync_tolerance=0.002,
    )
    harness.publish('camera_info', plane_camera_info(planes[-1], START))
    harness.until(lambda: harness.input.calibration is not None)
    for n, plane in enumerate(planes):
        harness.publish(f'plane_{n}/image_raw', rgb_image(START + n * MS // 4, plane.image))
    check(harness, scene, START + (PLANES - 1) * MS // 4)


def test_whole_stacks(make, scene):
    planes = scene[0]
    harness = make(inputs=('focal_stack',), input='stack')
    message = FocalStack(
        header=header(START),
        camera_info=plane_camera_info(planes[-1], START),
        focus_dioptres=[p.focus_dioptres for p in planes],
        images=[rgb_image(START + n, plane.image) for n, plane in enumerate(planes)],
    )
    harness.publish('focal_stack', message)
    check(harness, scene, START + PLANES - 1)
