# SPDX-License-Identifier: Apache-2.0
"""The frames of a stack give the same depth through `dualfocus estimate` and, from a bag that is
played over DDS, through the depth node."""

from __future__ import annotations

import os
from pathlib import Path
import threading
import time

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import Image, PointCloud2

from dualfocus_ros.alignment.align import align, warp_planes
from dualfocus_ros.bags.player import BagPlayer, PlaybackSettings, TopicPublisher
from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.cli.main import main
from dualfocus_ros.demo.collector import decode_cloud, decode_image
from dualfocus_ros.demo.node_processes import NodeGroup
from dualfocus_ros.focal_stack import Plane
from dualfocus_ros.stamps import read_header_stamp
from ros_client import RosClient
from stack_bag import write_stack_bag

START, PERIOD, SWEEPS = 1_700_000_000_123_456_789, 100_000_000, 6
PHONE_TABLE = Path(__file__).parents[3] / 'shared/data/stacks/phone_table'


def depth_of_node(bag_path: Path, stamps: set[int], logs: Path) -> tuple[np.ndarray, np.ndarray]:
    """Play the bag to a new depth node; return depth and cloud of the first such stamp."""
    got: dict[str, bytes] = {}
    client = RosClient('bag_test')
    node = client.node
    try:
        for topic, kind in (('depth/image_rect', Image), ('depth/points', PointCloud2)):

            def take(data: bytes, topic: str = topic) -> None:
                if read_header_stamp(data) in stamps:
                    got.setdefault(topic, data)

            node.create_subscription(kind, topic, take, 5, raw=True)
        with NodeGroup() as processes, BagReader(bag_path) as bag:
            processes.start('depth_node', ['-p', 'device:=cpu'], logs, dict(os.environ))
            publisher = TopicPublisher(node, bag)
            player = BagPlayer(bag, publisher.topics, PlaybackSettings(), publisher.publish)
            deadline = time.monotonic() + 150.0
            while not publisher.all_subscribed or node.count_publishers('depth/image_rect') == 0:
                assert time.monotonic() < deadline and not processes.exited(), logs
                time.sleep(0.1)
            playing = threading.Thread(target=player.run)
            playing.start()
            while len(got) < 2:
                assert time.monotonic() < deadline and not processes.exited(), logs
                client.spin(0.2)
            playing.join()
            assert processes.stop() == {'depth_node': 0}
            assert processes.problems == []
    finally:
        client.close()
    assert read_header_stamp(got['depth/image_rect']) == read_header_stamp(got['depth/points'])
    return decode_image(got['depth/image_rect']), decode_cloud(got['depth/points'])


def compare(folder: Path, images: list[np.ndarray], focus: list[float]) -> np.ndarray:
    """Check that both ways agree; return the depth of the command."""
    height, width = images[0].shape[:2]
    camera = PinholeCamera(width, height, 0.9 * width, 0.9 * width, width / 2, height / 2)
    for n, image in enumerate(images):
        cv2.imwrite(str(folder / f'{n}.png'), image[..., ::-1])
    bag = write_stack_bag(
        folder / 'bag',
        [Plane(image, q, camera=camera) for image, q in zip(images, focus, strict=True)],
        start_ns=START,
        # Discovery may still be on its way when the first frames are sent.
        sweeps=SWEEPS,
        period_ns=PERIOD,
    )
    intrinsics = f'{camera.fx},{camera.fy},{camera.cx},{camera.cy}'
    files = [str(folder / f'{n}.png') for n in range(len(images))]
    options = ['--no-align', '--device', 'cpu', '--intrinsics', intrinsics]
    focus_option = ['--focus-dioptres', *map(repr, focus)]
    status = main(['estimate', *files, '-o', str(folder / 'out'), *options, *focus_option])
    assert status == 0
    expected = np.load(folder / 'out/depth.npy')
    # Stamps of the nearest-focused planes, to the nanosecond.
    nearest = int(np.argmax(focus))
    stamps = {START + (k * len(images) + nearest) * PERIOD for k in range(SWEEPS)}
    depth, points = depth_of_node(bag, stamps, folder)
    both = np.isfinite(depth) & np.isfinite(expected)
    assert both.mean() > 0.9
    difference = np.abs(depth[both] / expected[both] - 1.0)
    assert np.percentile(difference, 99) < 1e-3
    v, u = np.nonzero(both)
    z = depth[both]
    assert np.allclose(points[both][:, 0], (u - camera.cx) / camera.fx * z, rtol=1e-3, atol=1e-5)
    assert np.allclose(points[both][:, 1], (v - camera.cy) / camera.fy * z, rtol=1e-3, atol=1e-5)
    return expected


@pytest.mark.slow
def test_wall_live_and_offline(tmp_path):
    rng = np.random.default_rng(6)
    fine = rng.integers(0, 255, (120, 160, 3), dtype=np.uint8)
    coarse = cv2.resize(fine[:15, :20], (160, 120), interpolation=cv2.INTER_CUBIC)
    scene = (0.5 * fine + 0.5 * coarse).astype(np.uint8)
    images = [cv2.GaussianBlur(scene, (0, 0), blur) for blur in (2.0, 1.1, 0.3, 1.1, 2.0)]
    depth = compare(tmp_path, images, [2.2, 1.8, 1.4, 1.0, 0.6])
    assert np.nanmedian(depth) == pytest.approx(1 / 1.4, rel=0.2)


def test_recorded_frames_live_and_offline(tmp_path):
    files = sorted(PHONE_TABLE.glob('*.jpg'))
    if not files:
        pytest.skip('the shared example stack is not on this machine')
    metres = [float(file.stem.split('_')[-1]) for file in files]
    focus = [1.0 / m for m in metres]
    images = [cv2.imread(str(file))[..., ::-1] for file in files]
    small = [cv2.resize(image, (680, 512), interpolation=cv2.INTER_AREA) for image in images]
    aligned, _ = warp_planes(small, align(small, focus, model='homography'))
    depth = compare(tmp_path, aligned, focus)
    # The carpet is a plane: inverse depth falls linearly from the near rows to the far ones.
    rows = np.arange(290, 425)
    inverse = np.nanmedian(1.0 / depth[290:425, 180:400], axis=1)
    slope, offset = np.polyfit(rows, inverse, 1)
    assert slope > 0.0
    assert np.abs(np.polyval((slope, offset), rows) - inverse).mean() < 0.15 * np.ptp(inverse)
