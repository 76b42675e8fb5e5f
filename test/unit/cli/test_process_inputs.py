# SPDX-License-Identifier: Apache-2.0
"""`dualfocus process` with every kind of input of the depth node; constant memory."""

import os
from pathlib import Path
import subprocess
import sys

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')

import cv2
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np
from sensor_msgs.msg import CompressedImage, Image

from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.bags.writer import BagWriter
from dualfocus_ros.cli.main import main
from dualfocus_ros.msg import FocalStack, FocusCommand
from dualfocus_ros.nodes.messages.output_messages import camera_message, image_message
from dualfocus_ros.stamps import to_stamp
from small_bags import FOCUS, PERIOD, START, messages_by_topic, pixels, wall, wall_bag


def header(stamp):
    message = Image().header
    message.stamp = to_stamp(stamp)
    message.frame_id = 'camera_optical_frame'
    return message


def depth_of(bag, tmp_path, *options):
    assert (
        main(['process', str(bag), str(tmp_path / 'out'), '--device', 'cpu', '--quiet', *options])
        == 0
    )
    return pixels(messages_by_topic(tmp_path / 'out')['/depth/image_rect'][0])


@pytest.fixture(scope='module')
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp('expected')
    return depth_of(wall_bag(folder / 'in', sweeps=1), folder)


def check(depth, expected):
    assert np.nanmax(np.abs(depth / expected - 1.0)) < 1e-4


def frames(sweeps=1):
    """Yield number, stamp and plane of each frame."""
    for n in range(sweeps * len(FOCUS)):
        yield n, START + n * PERIOD, wall()[n % len(FOCUS)]


def test_compressed_images_and_camera_ros_metadata(tmp_path, expected):
    with BagWriter(tmp_path / 'in') as bag:
        for _, stamp, plane in frames():
            png = cv2.imencode('.png', plane.image[..., ::-1])[1].tobytes()
            bag.write_message(
                '/eye/image_raw/compressed',
                CompressedImage(
                    header=header(stamp), format='rgb8; png compressed bgr8', data=png
                ),
                stamp,
            )
            bag.write_message(
                '/eye/camera_info', camera_message(header(stamp), plane.camera), stamp
            )
            values = [KeyValue(key='LensPosition', value=repr(plane.focus_dioptres))]
            bag.write_message(
                '/eye/metadata',
                DiagnosticArray(header=header(stamp), status=[DiagnosticStatus(values=values)]),
                stamp,
            )
        other = DiagnosticArray(header=header(stamp))
        bag.write_message('/diagnostics', other, stamp)
    # The end of the sweep is not marked; it ends with the bag.
    check(depth_of(tmp_path / 'in', tmp_path), expected)


def test_commanded_focus(tmp_path, expected):
    with BagWriter(tmp_path / 'in') as bag:
        for n, stamp, plane in frames():
            command = FocusCommand(
                header=header(stamp - 10**7),
                focus_dioptres=plane.focus_dioptres,
                sweep_id=1,
                plane_index=n,
                plane_count=len(FOCUS),
            )
            bag.write_message('/focus_command', command, stamp - 10**7)
            bag.write_message('/camera_info', camera_message(header(stamp), plane.camera), stamp)
            image = image_message(header(stamp), plane.image, 'rgb8')
            bag.write_message('/image_raw', image, stamp)
    options = ['-p', 'command.latency_frames:=0', '-p', 'command.settling_time:=0.0']
    check(depth_of(tmp_path / 'in', tmp_path, *options), expected)


def test_whole_stacks(tmp_path, expected):
    planes = wall()
    message = FocalStack(
        header=header(START),
        focus_dioptres=[p.focus_dioptres for p in planes],
        camera_info=camera_message(header(START), planes[0].camera),
        images=[image_message(header(stamp), p.image, 'rgb8') for _, stamp, p in frames()],
    )
    with BagWriter(tmp_path / 'in') as bag:
        bag.write_message('/focal_stack', message, START)
    check(depth_of(tmp_path / 'in', tmp_path), expected)
    assert main(['inspect', str(tmp_path / 'in'), '--quiet']) == 0


def test_planes_of_several_cameras(tmp_path, expected):
    with BagWriter(tmp_path / 'in') as bag:
        camera = camera_message(header(START), wall()[0].camera)
        bag.write_message('/rig/camera_info', camera, START - 1)
        for n, _, plane in frames():
            image = image_message(header(START), plane.image, 'rgb8')
            bag.write_message(f'/rig/plane_{n}/image_raw', image, START)
    focus = str(list(FOCUS))
    options = ['-p', 'input:=planes', '-p', f'planes.focus_dioptres:={focus}']
    check(depth_of(tmp_path / 'in', tmp_path, *options), expected)


def test_wrong_data_length_allocates_nothing(tmp_path, capsys):
    source = wall_bag(tmp_path / 'all', sweeps=2)
    with BagReader(source) as bag, BagWriter(tmp_path / 'in') as out:
        for n, message in enumerate(bag.messages()):
            data = message.data
            if n == 0:
                at = len(data) - 96 * 64 * 3 - 4  # the length of the pixels
                data = data[:at] + b'\xf0\xff\xff\xff' + data[at + 4 :]
            out.write(message.topic, message.message_type, message.stamp_ns, data)
    assert main(['process', str(tmp_path / 'in'), str(tmp_path / 'out'), '--json']) == 0
    assert '"not_decodable": 1' in capsys.readouterr().out


MEASURE = """
import resource, sys
from dualfocus_ros.cli.main import main
assert main(['process', sys.argv[1], sys.argv[2], '--quiet', '--device', 'cpu']) == 0
print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_bag(tmp_path):
    """Ten times the images, 80 MB more, need less than 40 MB more memory."""
    peaks = []
    rng = np.random.default_rng(1)
    blank = rng.integers(0, 255, (480, 640, 3), dtype=np.uint8)
    for count in (10, 100):
        path = wall_bag(tmp_path / f'small{count}', sweeps=2)
        with BagReader(path) as source, BagWriter(tmp_path / f'in{count}') as bag:
            for message in source.messages():
                bag.copy(message, source.topics[message.topic])
            # Images without a focus: read, checked, held for a while and dropped.
            for n in range(count):
                stamp = START + 10**9 + n * PERIOD
                bag.write_message('/image_raw', image_message(header(stamp), blank, 'rgb8'), stamp)
        done = subprocess.run(
            [sys.executable, '-c', MEASURE, tmp_path / f'in{count}', tmp_path / f'out{count}'],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[3],
            env=os.environ.copy(),
        )
        peaks.append(int(done.stdout.split('peak')[1]) / 1024)
    assert peaks[1] - peaks[0] < 40.0, peaks
