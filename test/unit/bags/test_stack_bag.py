# SPDX-License-Identifier: Apache-2.0
"""Bags of focal stacks: pixels, camera and focus with equal stamps."""

import numpy as np
import pytest

from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.focal_stack import Plane
from stack_bag import random_planes, write_stack_bag


@pytest.mark.parametrize('colour', [True, False])
def test_image_camera_and_focus_have_equal_stamps(tmp_path, colour):
    stack = random_planes(colour=colour)
    path = write_stack_bag(
        tmp_path / 'bag', stack, prefix='camera', sweeps=2, period_ns=50_000_000
    )
    with BagReader(path) as bag:
        assert {name: topic.count for name, topic in bag.topics.items()} == {
            '/camera/image_raw': 6,
            '/camera/camera_info': 6,
            '/camera/focus_state': 6,
        }
        images = list(bag.messages(['/camera/image_raw']))
        infos = [m.message for m in bag.messages(['/camera/camera_info'])]
        states = [m.message for m in bag.messages(['/camera/focus_state'])]
    for n, (image, info, state) in enumerate(zip(images, infos, states, strict=True)):
        plane = stack[n % 3]
        picture = image.message
        assert picture.encoding == ('rgb8' if colour else 'mono8')
        assert picture.step == 64 * (3 if colour else 1)
        assert np.array_equal(picture.data.reshape(plane.image.shape), plane.image)
        assert image.stamp_ns == 1_000_000_000 + n * 50_000_000
        assert picture.header == info.header == state.header
        assert picture.header.stamp.sec * 10**9 + picture.header.stamp.nanosec == image.stamp_ns
        assert info.k[0] == info.p[0] == plane.camera.fx
        assert (state.sweep_id, state.plane_index, state.plane_count) == (n // 3, n % 3, 3)
        assert (state.focus_dioptres, state.state) == (plane.focus_dioptres, 1)


def test_rejects_planes_without_camera(tmp_path):
    with pytest.raises(ValueError, match='plane 0 has no camera'):
        write_stack_bag(tmp_path / 'blind', [Plane(np.zeros((4, 4), np.uint8), 1.0)])
