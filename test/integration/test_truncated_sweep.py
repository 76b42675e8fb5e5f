# SPDX-License-Identifier: Apache-2.0
"""A sweep that lost an end, over DDS with the shipped network: -inf or +inf beyond, as REP 117."""

import itertools

import numpy as np
import pytest

from depth_node_harness import (
    MS,
    START,
    DepthNodeHarness,
    focus_state,
    plane_camera_info,
    rgb_image,
)
from dualfocus_ros.msg import StackInfo
from dualfocus_ros.nodes.stack_processor import load_estimator
from rendered_stacks import rendered_stack

WIDTH, HEIGHT, PLANES = 160, 120, 8
PARTIAL = StackInfo.FLAG_PLANE_MISSING | StackInfo.FLAG_PARTIAL


numbers = itertools.count(1, 2)


@pytest.fixture(scope='module')
def scenes():
    """Return the planes of sweeps from far to near, and the true depth, by scene."""
    rendered = {
        name: rendered_stack(name, 11, WIDTH, HEIGHT, PLANES) for name in ('table', 'floor')
    }
    return {name: (stack.planes, truth) for name, (stack, truth) in rendered.items()}


@pytest.fixture(scope='module')
def harness():
    """Return a harness with the shipped network, connected."""
    harness = DepthNodeHarness(
        load=load_estimator, device='cpu', threads=1, depth__edge_filter=0.0
    )
    yield harness.connect('depth/image_rect', 'depth/sigma', 'depth/confidence', 'stack_info')
    harness.close()


def depth_without(harness, planes, lost):
    """Publish a sweep without some planes; return flags, depth, sigma and confidence."""
    sweep = next(numbers)
    for messages in harness.received.values():
        messages.clear()
    for n, plane in enumerate([*planes, planes[0]]):
        if n in lost:
            continue
        # The first plane of the next sweep ends this one.
        number, index = (sweep, n) if n < PLANES else (sweep + 1, 0)
        stamp = START + (100 * sweep + n) * 33 * MS
        state = focus_state(stamp, plane.focus_dioptres, number, index, PLANES)
        harness.publish('camera_info', plane_camera_info(plane, stamp))
        harness.publish('focus_state', state)
        harness.publish('image_raw', rgb_image(stamp, plane.image))
    topics = ('stack_info', 'depth/image_rect', 'depth/sigma', 'depth/confidence')
    harness.until(lambda: all(harness.received[topic] for topic in topics))
    info, depth, sigma, confidence = (harness.received[topic][0] for topic in topics)
    return info.flags, *(
        np.frombuffer(m.data, kind).reshape(HEIGHT, WIDTH)
        for m, kind in ((depth, np.float32), (sigma, np.float32), (confidence, np.uint8))
    )


@pytest.mark.parametrize(
    ('name', 'lost', 'sign'),
    [
        ('table', (5, 6, 7), -1),
        ('floor', (0, 1), 1),
    ],
)
def test_depth_beyond_a_lost_end_is_infinite(harness, scenes, name, lost, sign):
    planes, truth = scenes[name]
    present = [p.focus_dioptres for n, p in enumerate(planes) if n not in lost]
    spacing = abs(planes[1].focus_dioptres - planes[0].focus_dioptres)
    flags, depth, sigma, confidence = depth_without(harness, planes, lost)
    assert flags == PARTIAL
    end = max(present) if sign < 0 else min(present)
    past = (end - 1.0 / truth) * sign / spacing  # spacings beyond the outermost plane
    beyond, before = past > 0.5, past < -1.0
    assert beyond.mean() > 0.2 and before.mean() > 0.2
    infinite = depth == sign * np.inf
    print(
        f'{name} without {lost}: half a spacing beyond the planes {infinite[beyond].mean():.3f} '
        f'infinite, a spacing before their end {infinite[before].mean():.3f}'
    )
    assert infinite[beyond].mean() > 0.8
    assert infinite[before].mean() < 0.1
    assert not (depth == -sign * np.inf).any()
    assert np.isnan(sigma[infinite]).all() and (confidence[infinite] == 0).all()


def test_depth_is_finite_if_both_ends_are_present(harness, scenes):
    for lost, flags in (((3,), PARTIAL), ((), 0)):
        found, depth, _, _ = depth_without(harness, scenes['table'][0], lost)
        assert found == flags
        assert not np.isinf(depth).any()
