# SPDX-License-Identifier: Apache-2.0
"""Outputs, checked by a consumer that uses the REPs only: see ``rep_client``."""

import numpy as np
import pytest
from rclpy.qos import ReliabilityPolicy

from dualfocus_ros.camera.lens_presets import simulated_lens
from rendered_stacks import rendered_stack
from rep_client import (
    OPTICAL_FRAME,
    OUTPUTS,
    Client,
    back_projection,
    cloud_fields,
    colours,
    metres,
    pixels,
    positions,
    to_stamp,
)

WIDTH, HEIGHT, PLANES = 160, 120, 5
NEAR, FAR = 0.6, 1.3
IMAGES = ('depth/image_rect', 'depth/sigma', 'depth/confidence', 'rgb/image_rect')
ALL = tuple(OUTPUTS)


@pytest.fixture(scope='module')
def client(start_for_module):
    """Return the client, connected to a depth node with the shipped network."""
    lens = simulated_lens(WIDTH)
    program = start_for_module(
        'depth_node',
        threads=1,
        depth__min=NEAR,
        depth__max=FAR,
        breathing__model='thin_lens',
        lens__focal_length=lens.focal_length,
        lens__f_number=lens.f_number,
        lens__pixel_pitch=lens.pixel_pitch,
    )
    connected = Client()
    connected.program = program
    yield connected
    connected.close()


@pytest.fixture(scope='module')
def scene():
    """Return the planes of a sweep over a table, and the intrinsics at infinity."""
    stack, _ = rendered_stack('table', 3, WIDTH, HEIGHT, PLANES)
    fx = simulated_lens(WIDTH).focal_length_px(0.0)
    planes = [(p.image, p.focus_dioptres, p.camera.fx / fx) for p in stack.planes]
    return planes, (fx, fx, 0.5 * (WIDTH - 1), 0.5 * (HEIGHT - 1))


@pytest.fixture(scope='module')
def outputs(client, scene):
    """Return all outputs of one sweep, and the stamps of its planes."""
    client.subscribe(*ALL)
    stamps = client.sweep(*scene, wait_for=ALL)
    return {topic: client.heard[topic][0] for topic in ALL}, stamps


def test_outputs_have_stamp_and_frame_of_nearest_plane(outputs):
    messages, stamps = outputs
    for message in messages.values():
        assert message.header.stamp == to_stamp(stamps[-1])
        assert message.header.frame_id == OPTICAL_FRAME


def test_depth_is_metres_with_rep117_values(outputs):
    depth = outputs[0]['depth/image_rect']
    assert (depth.encoding, depth.width, depth.height) == ('32FC1', WIDTH, HEIGHT)
    values = metres(depth)
    finite = values[np.isfinite(values)]
    assert finite.min() >= NEAR and finite.max() <= FAR
    # Something is nearer than depth.min, something farther than depth.max, some edges fly.
    for special in (np.isneginf, np.isposinf, np.isnan):
        assert 0.0 < special(values).mean() < 0.5


def test_camera_info_is_rectified_pinhole(outputs, scene):
    planes, (fx, _, cx, cy) = scene
    depth, info = outputs[0]['depth/image_rect'], outputs[0]['depth/camera_info']
    assert info.header == depth.header
    assert (info.width, info.height) == (depth.width, depth.height)
    # The nearest plane's own intrinsics: the lens breathes.
    np.testing.assert_allclose(
        np.array(info.k).reshape(3, 3),
        [[fx * planes[-1][2], 0, cx], [0, fx * planes[-1][2], cy], [0, 0, 1]],
        rtol=1e-9,
    )
    projection = np.array(info.p).reshape(3, 4)
    np.testing.assert_array_equal(projection[:, :3].ravel(), info.k)
    assert not projection[:, 3].any()
    np.testing.assert_array_equal(np.array(info.r).reshape(3, 3), np.eye(3))
    assert not any(info.d)
    assert outputs[0]['rgb/camera_info'] == info


def test_cloud_matches_pinhole_projection(outputs):
    cloud, depth = outputs[0]['depth/points'], outputs[0]['depth/image_rect']
    assert (cloud.height, cloud.width) == (HEIGHT, WIDTH)
    assert [field.name for field in cloud.fields] == ['x', 'y', 'z', 'rgb']
    assert (cloud.point_step, cloud.is_dense) == (16, False)
    expected = back_projection(depth, outputs[0]['depth/camera_info'])
    np.testing.assert_allclose(positions(cloud), expected, rtol=2e-6, atol=2e-6, equal_nan=True)
    assert np.isnan(positions(cloud)[~np.isfinite(metres(depth))]).all()
    np.testing.assert_array_equal(colours(cloud), pixels(outputs[0]['rgb/image_rect']))


def test_decimated_cloud_is_valid_subset(outputs):
    few, cloud = outputs[0]['depth/points_decimated'], outputs[0]['depth/points']
    assert (few.height, few.point_step) == (1, 16)
    assert few.fields == cloud.fields
    assert np.isfinite(positions(few)).all()
    whole = {point.tobytes() for point in cloud_fields(cloud).ravel()}
    assert {point.tobytes() for point in cloud_fields(few).ravel()} <= whole
    assert 0 < few.width <= WIDTH * HEIGHT // 16


def test_sigma_and_confidence_are_invalid_where_depth_is(outputs):
    values = metres(outputs[0]['depth/image_rect'])
    sigma = pixels(outputs[0]['depth/sigma'])
    assert outputs[0]['depth/sigma'].encoding == '32FC1'
    assert np.array_equal(np.isfinite(sigma), np.isfinite(values))
    assert (sigma[np.isfinite(values)] > 0.0).all()
    assert (pixels(outputs[0]['depth/confidence'])[np.isnan(values)] == 0).all()


def test_decimated_depth_shows_the_same_scene(client, scene, outputs):
    whole, wanted = outputs[0], ('depth/image_rect', 'depth/camera_info', 'depth/points')
    client.subscribe(*wanted)
    assert client.set(depth__decimation=2) == (True, '')
    for topic in wanted:
        client.heard[topic].clear()
    client.sweep(*scene, wait_for=wanted)
    depth, info, cloud = (client.heard[topic][-1] for topic in wanted)
    client.set(depth__decimation=1)
    assert (depth.width, depth.height) == (info.width, info.height) == (WIDTH // 2, HEIGHT // 2)
    assert (cloud.width, cloud.height) == (WIDTH // 2, HEIGHT // 2)
    given = np.array(whole['depth/camera_info'].k).reshape(3, 3)
    halved = np.array(info.k).reshape(3, 3)
    np.testing.assert_allclose(halved[[0, 1], [0, 1]], given[[0, 1], [0, 1]] / 2, rtol=1e-9)
    # Pixel centres have whole coordinates, so the edges of the image lie at -1/2.
    np.testing.assert_allclose(halved[:2, 2] + 0.5, (given[:2, 2] + 0.5) / 2, rtol=1e-9)
    expected = back_projection(depth, info)
    np.testing.assert_allclose(positions(cloud), expected, rtol=2e-6, atol=2e-6, equal_nan=True)
    # The same points in space, within the accuracy at a fourth of the pixels.
    large = positions(whole['depth/points']).reshape(HEIGHT // 2, 2, WIDTH // 2, 2, 3)
    difference = np.linalg.norm(positions(cloud) - large.mean(axis=(1, 3)), axis=-1)
    assert np.isfinite(difference).mean() > 0.3
    assert np.nanmedian(difference) < 0.05


def test_millimetres_agree_with_metres(client, scene):
    client.subscribe('depth/image_rect')
    found = {}
    for encoding in ('32FC1', '16UC1'):
        assert client.set(depth__encoding=encoding) == (True, '')
        client.sweep(*scene, wait_for=['depth/image_rect'])
        found[encoding] = client.heard['depth/image_rect'][-1]
    client.set(depth__encoding='32FC1')
    exact, rounded = metres(found['32FC1']), metres(found['16UC1'])
    assert found['16UC1'].encoding == '16UC1'
    assert np.array_equal(np.isnan(rounded), ~np.isfinite(exact))
    finite = np.isfinite(exact)
    assert finite.mean() > 0.3
    assert np.abs(exact - rounded)[finite].max() <= 1e-3


def test_late_reliable_and_best_effort_subscribers_receive(client, scene):
    client.subscribe('depth/image_rect')
    client.sweep(*scene, wait_for=['depth/image_rect'])
    client.join('depth/image_rect', ReliabilityPolicy.RELIABLE, 'late')
    client.join('depth/image_rect', ReliabilityPolicy.BEST_EFFORT, 'late, best effort')
    client.spin(1.0)
    client.sweep(*scene, wait_for=['depth/image_rect', 'late', 'late, best effort'])
    assert (
        client.heard['late'][-1]
        == client.heard['late, best effort'][-1]
        == client.heard['depth/image_rect'][-1]
    )


@pytest.mark.parametrize(
    ('topics', 'parameters', 'never', 'always'),
    [
        (
            ('depth/points',),
            {'points__color': True},
            {'sigma', 'confidence'},
            {'colour', 'points'},
        ),
        (
            ('depth/points',),
            {'points__color': False},
            {'sigma', 'confidence', 'colour'},
            {'points'},
        ),
        (('depth/image_rect',), {}, {'sigma', 'confidence', 'colour', 'points'}, {'depth'}),
        (('depth/sigma',), {}, {'confidence', 'colour', 'points'}, {'sigma'}),
    ],
)
def test_computes_only_subscribed_outputs(client, scene, topics, parameters, never, always):
    """Each stage that ran has its time in the diagnostics of the depth."""
    assert client.set(**parameters)[0] if parameters else True
    client.subscribe(*topics)
    # Twice: the diagnostics must be of a stack from after the change.
    client.sweep(*scene, wait_for=topics)
    seen = len(client.diagnostics)
    client.until(lambda: len(client.diagnostics) > seen + 1)
    _, values = client.status('depth')
    stages = {name.removesuffix(' [ms]') for name in values if name.endswith(' [ms]')}
    assert not stages & never
    assert stages >= always | {'decode'}
    fields = [f.name for m in client.heard.get('depth/points', []) for f in m.fields]
    if parameters == {'points__color': False}:
        assert fields[:3] == ['x', 'y', 'z'] and 'rgb' not in fields
    client.set(points__color=True)


def test_no_subscriber_no_inference(client, scene):
    client.subscribe()
    before = client.status('input')[1]['inferred']
    received = int(client.status('input')[1]['received'])
    client.sweep(*scene)
    client.until(lambda: int(client.status('input')[1]['received']) == received + PLANES)
    assert client.status('input')[1]['inferred'] == before
    assert client.status('depth')[0] == 'nothing to do'


def test_filters_take_effect_at_the_next_stack(client, scene):
    client.subscribe('depth/image_rect', 'depth/sigma')

    def valid(**parameters):
        assert client.set(**parameters)[0]
        client.sweep(*scene, wait_for=('depth/image_rect', 'depth/sigma'))
        return (
            ~np.isnan(metres(client.heard['depth/image_rect'][-1])),
            pixels(client.heard['depth/sigma'][-1]),
        )

    everything, sigma = valid(depth__edge_filter=0.0)
    assert everything.all()
    edges, _ = valid(depth__edge_filter=0.05)
    assert 0.5 < edges.mean() < 1.0
    limit = float(np.nanmedian(sigma))
    certain, kept = valid(depth__edge_filter=0.0, depth__max_sigma=limit)
    assert 0.2 < certain.mean() < 0.95
    assert np.nanmax(kept) <= limit
    assert not certain[sigma > limit].any()
    client.set(depth__edge_filter=0.05, depth__max_sigma=0.0)


def test_pixels_outside_the_camera_view_are_invalid(client, scene):
    """Barrel correction leaves the corners without a pixel: pincushion distortion, k1 > 0."""
    planes, k = scene
    still = [(picture, dioptres, 1.0) for picture, dioptres, _ in planes]
    distortion = (0.8, 0.0, 0.0, 0.0, 0.0)
    client.set(depth__edge_filter=0.0, depth__min=0.0, depth__max=1000.0)
    client.subscribe('depth/image_rect', 'depth/camera_info')
    client.sweep(still, k, distortion, wait_for=('depth/image_rect', 'depth/camera_info'))
    values = metres(client.heard['depth/image_rect'][-1])
    info = client.heard['depth/camera_info'][-1]
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    x, y = (u - info.k[2]) / info.k[0], (v - info.k[5]) / info.k[4]
    radial = 1.0 + distortion[0] * (x * x + y * y)
    ud, vd = x * radial * k[0] + k[2], y * radial * k[1] + k[3]
    outside = (ud < -1) | (ud > WIDTH) | (vd < -1) | (vd > HEIGHT)
    inside = (ud > 3) & (ud < WIDTH - 4) & (vd > 3) & (vd < HEIGHT - 4)
    assert outside.mean() > 0.005
    assert np.isnan(values[outside]).all()
    assert np.isfinite(values[inside]).all()
    assert not any(info.d)
    client.set(depth__edge_filter=0.05, depth__min=NEAR, depth__max=FAR)


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    ('values', 'text'),
    [
        ({'depth__max': 5.0, 'depth__encoding': '8UC1'}, '32FC1, 16UC1'),
        ({'depth__max': 5.0, 'stamp_policy': 'now'}, 'reference, first, mid, last'),
        ({'depth__max': 5.0, 'depth__min': 6.0}, 'depth.min'),
        ({'depth__max': 5.0, 'depth__max_sigma': -1.0}, 'depth.max_sigma'),
        ({'depth__max': 5.0, 'model': 'other'}, 'read-only'),
    ],
)
def test_rejects_parameter_sets_with_allowed_values(client, values, text):
    from rcl_interfaces.srv import GetParameters

    def depth_max():
        request = GetParameters.Request(names=['depth.max'])
        return client.call(GetParameters, 'dualfocus/get_parameters', request).values[0]

    before = depth_max()
    successful, reason = client.set(**values)
    assert not successful
    assert text in reason
    assert depth_max() == before


def test_logs_topics_types_and_qos_once(client):
    text = client.program.output
    for topic, kind in OUTPUTS.items():
        package = kind.__module__.split('.')[0]
        line = f'publishes  /{topic} [{package}/msg/{kind.__name__}] reliable, keep last '
        assert text.count(line) == 1
    for topic in ('image_raw', 'camera_info', 'focus_state'):
        assert text.count(f'subscribes /{topic} [') == 1
    assert 'Traceback' not in text
