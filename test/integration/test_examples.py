# SPDX-License-Identifier: Apache-2.0
"""The programs in examples/ run as they are."""

from __future__ import annotations

from itertools import permutations
import os
from pathlib import Path
import re
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / 'examples'
TABLE = EXAMPLES / 'table'


def run(name: str, *arguments: object) -> str:
    """Run an example and return its output."""
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_examples_are_listed_and_tested():
    listed = set(re.findall(r'\]\(([\w.]+\.py)\)', (EXAMPLES / 'README.md').read_text('utf-8')))
    assert listed == {path.name for path in EXAMPLES.glob('*.py')}
    here = Path(__file__).read_text('utf-8')
    elsewhere = (EXAMPLES.parent / 'test/launch/test_example_launch.py').read_text('utf-8')
    assert all(f"'{name}'" in here or name in elsewhere for name in listed)


@pytest.mark.slow
def test_table_images_are_reproducible(tmp_path):
    run('../tools/render_table.py', tmp_path)
    for shipped in sorted(TABLE.glob('*.jpg')):
        made = cv2.imread(str(tmp_path / shipped.name)).astype(float)
        # Noise and JPEG: another version of a library may change the last bits.
        assert np.abs(made - cv2.imread(str(shipped))).mean() < 2.0, shipped.name
    assert len(list(TABLE.glob('*.jpg'))) == 5


def test_depth_without_ros():
    output = run('depth_without_ros.py', TABLE)
    valid = int(re.search(r'(\d+)% of the pixels', output)[1])
    median = float(re.search(r'median depth: ([\d.]+) m', output)[1])
    assert valid > 90
    assert median == pytest.approx(0.68, abs=0.07)


@pytest.mark.parametrize('topics', list(permutations(('depth/image_rect', 'depth/sigma'))))
def test_node_using_depth_and_sigma(start, listener, topics):
    # A wall at 0.8 m in depth and sigma of one stamp stands in for the depth node, which publishes
    # them in no order that anybody could count on.
    from cv_bridge import CvBridge
    from sensor_msgs.msg import Image
    from std_msgs.msg import Float32

    node = start(str(EXAMPLES / 'nearest_obstacle.py'), certainty=2.0)
    heard = listener.collect(Float32, 'nearest_obstacle')
    publishers = {topic: listener.node.create_publisher(Image, topic, 2) for topic in topics}
    listener.until(lambda: all(p.get_subscription_count() for p in publishers.values()))
    depth = np.full((20, 30), 0.8, np.float32)
    depth[:, :3] = np.nan
    depth[:, 3:6] = np.inf
    sigma = np.where(np.isfinite(depth), np.float32(0.05), np.float32(np.nan))
    values = {'depth/image_rect': depth, 'depth/sigma': sigma}

    def send() -> bool:
        """Send a pair, one after the other, and return whether a distance was heard since."""
        stamp = listener.node.get_clock().now().to_msg()
        for topic, publisher in publishers.items():
            message = CvBridge().cv2_to_imgmsg(values[topic], '32FC1')
            message.header.stamp = stamp
            publisher.publish(message)
            listener.spin(0.3)
        return bool(heard)

    # Whoever has only just connected may miss the first.
    listener.until(send)
    assert heard[0].data == pytest.approx(0.7, abs=1e-3)
    assert node.stop() == 0, node.output
    assert 'nothing is nearer than 0.70 m' in node.output
    assert 'Traceback' not in node.output


def test_lens_bridge_reports_position(start, listener):
    from rclpy.time import Time
    from sensor_msgs.msg import Image

    from dualfocus_ros.msg import FocusCommand, FocusState

    node = start(str(EXAMPLES / 'lens_bridge.py'))
    states = listener.collect(FocusState, 'focus_state')
    commands = listener.node.create_publisher(FocusCommand, 'focus_command', 10)
    images = listener.node.create_publisher(Image, 'image_raw', 10)
    listener.until(
        lambda: (
            commands.get_subscription_count() > 0
            and images.get_subscription_count() > 0
            and listener.node.count_publishers('focus_state') > 0
        )
    )

    def image(after: float) -> FocusState:
        """Send an image stamped so many seconds from now and return its report."""
        sent: list[Image] = []

        def said() -> bool:
            # Whoever has only just connected may miss the first.
            sent.append(send(after))
            listener.spin(0.3)
            return bool(states) and states[-1].header in [image.header for image in sent]

        listener.until(said)
        return states[-1]

    def send(after: float) -> Image:
        now = listener.node.get_clock().now().nanoseconds
        message = Image()
        message.header.stamp = Time(nanoseconds=now + int(after * 1e9)).to_msg()
        message.header.frame_id = 'camera_optical_frame'
        images.publish(message)
        return message

    def commanded() -> bool:
        """Command, and return whether the lens received it."""
        commands.publish(
            FocusCommand(
                focus_dioptres=1.5,
                sweep_id=7,
                plane_index=2,
                plane_count=5,
            )
        )
        # Two topics have no common order: until the command has come, the state is unknown.
        return image(-60.0).state != FocusState.UNKNOWN

    unknown = image(0.0)
    assert unknown.state == FocusState.UNKNOWN and np.isnan(unknown.focus_dioptres)
    listener.until(commanded)
    assert states[-1].state == FocusState.MOVING, 'taken before the command'
    settled = image(1.0)
    assert settled.state == FocusState.SETTLED
    assert settled.focus_dioptres == pytest.approx(1.5)
    assert (settled.sweep_id, settled.plane_index, settled.plane_count) == (7, 2, 5)
    assert node.stop(signal.SIGINT) == 0, node.output
    assert 'Traceback' not in node.output


def test_examples_are_executable():
    assert all(os.access(path, os.X_OK) for path in EXAMPLES.glob('*.py'))
