# SPDX-License-Identifier: Apache-2.0
"""One depth per sweep at moderate load; bounded queues at ten times that.

The depth node is a process with the shipped network; the test is the camera.
"""

import statistics
import time

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import pytest
from sensor_msgs.msg import Image

from dualfocus_ros.msg import FocusState, StackInfo
from dualfocus_ros.stamps import to_stamp
from ros_client import newest_status

PLANES = 3
SWEEPS = 8
WIDTH, HEIGHT = 320, 240
OVERLOAD = 10
OVERLOADED_SECONDS = 4.0
MB = 1e6
QUEUE = 500


class Camera:
    """Publishes sweeps of random images, and hears what the node says of them."""

    def __init__(self, listener):
        self._listener = listener
        self._images = listener.node.create_publisher(Image, 'image_raw', QUEUE)
        self._states = listener.node.create_publisher(FocusState, 'focus_state', QUEUE)
        self.infos = listener.collect(StackInfo, 'stack_info', QUEUE)
        self._diagnostics = listener.collect(DiagnosticArray, '/diagnostics')
        self.depths = listener.collect(Image, 'depth/image_rect', QUEUE)
        self.sent = 0
        rng = np.random.default_rng(0)
        self._pictures = []
        for _ in range(PLANES):
            message = Image(height=HEIGHT, width=WIDTH, encoding='mono8', step=WIDTH)
            message.data = rng.integers(0, 255, WIDTH * HEIGHT, dtype=np.uint8).tobytes()
            message.header.frame_id = 'camera'
            self._pictures.append(message)

    def ready(self):
        """Whether the node listens, and publishes to us."""
        return (
            self._images.get_subscription_count()
            and self._states.get_subscription_count()
            and self._listener.node.count_publishers('stack_info') > 0
        )

    def sweep(self, period):
        """Publish a sweep, its frames a period apart; the last one now."""
        self.sent += 1
        for index, picture in enumerate(self._pictures):
            if index:
                self._listener.spin(period)
            picture.header.stamp = to_stamp(time.time_ns())
            state = FocusState(
                header=picture.header,
                focus_dioptres=0.5 + 0.5 * index,
                sweep_id=self.sent,
                plane_index=index,
                plane_count=PLANES,
                state=FocusState.SETTLED,
            )
            self._states.publish(state)
            self._images.publish(picture)

    def values(self, part):
        """Return the newest values that the node published of itself."""
        return newest_status(self._diagnostics, f'dualfocus: {part}')[2]


@pytest.fixture
def loaded(start, listener):
    """Return the node's process and a camera to which it has answered once."""
    program = start('depth_node', device='cpu', threads=1, autostart=True)
    camera = Camera(listener)
    listener.until(camera.ready)
    listener.until(lambda: camera.values('model').get('lifecycle') == 'active')

    def answered():
        camera.sweep(0.05)
        listener.spin(0.5)
        return camera.infos

    listener.until(answered, what='for the first depth')
    listener.spin(1.0)
    return program, camera


def own_memory(program):
    """Return what the process occupies without shared memory, in bytes."""
    with open(f'/proc/{program.process.pid}/status', encoding='ascii') as file:
        line = next(line for line in file if line.startswith('RssAnon'))
    return 1024 * int(line.split()[1])


@pytest.mark.fault(20)
@pytest.mark.timeout(300)
@pytest.mark.slow
def test_one_depth_per_sweep_and_newest_under_overload(loaded, listener):
    program, camera = loaded

    # What can be borne: the time of a stack again as a pause.
    first = camera.sent + 1
    pace = 2.0 * statistics.median(i.inference_ms + i.publish_ms for i in camera.infos) * 1e-3
    for _ in range(SWEEPS):
        camera.sweep(0.02)
        listener.spin(max(0.15, pace))
    listener.until(lambda: camera.infos[-1].sweep_id == camera.sent)
    listener.spin(0.5)
    calm = [info for info in camera.infos if info.sweep_id >= first]
    assert [info.sweep_id for info in calm] == list(range(first, first + SWEEPS))
    assert all(
        info.flags & (StackInfo.FLAG_PLANE_MISSING | StackInfo.FLAG_PARTIAL) == 0
        and len(info.stamps) == PLANES
        for info in calm
    )
    assert [d.header.stamp for d in camera.depths[-SWEEPS:]] == [i.header.stamp for i in calm]

    # Ten times what the network can do.
    stack = statistics.median(info.inference_ms + info.publish_ms for info in calm) * 1e-3
    listener.until(lambda: 'stacks superseded' in camera.values('depth'))
    superseded = int(camera.values('depth')['stacks superseded'])
    first, period = camera.sent + 1, stack / OVERLOAD
    begin = due = time.monotonic()
    memory, at = [], begin
    while time.monotonic() - begin < OVERLOADED_SECONDS:
        camera.sweep(0.0)
        due += period
        listener.spin(max(0.001, due - time.monotonic()))
        if time.monotonic() > at:
            memory.append(own_memory(program))
            at += 0.25
    sent = camera.sent - first + 1
    rate = sent / (time.monotonic() - begin)
    listener.until(lambda: camera.infos[-1].sweep_id == camera.sent, what='for the last sweep')
    listener.until(lambda: int(camera.values('input').get('received', 0)) == PLANES * camera.sent)
    listener.spin(1.2)
    busy = [info for info in camera.infos if info.sweep_id >= first]
    dropped = int(camera.values('depth')['stacks superseded']) - superseded
    took = [info.inference_ms + info.publish_ms for info in busy]
    figures = (
        f'{rate * stack:.1f} times the load: {sent} sweeps, {len(busy)} depths, {dropped} '
        f'superseded; stack {statistics.median(took):.0f} ms, wait at most '
        f'{max(i.assemble_ms for i in busy):.0f} ms, latency median '
        f'{statistics.median(i.latency_ms for i in busy):.0f} ms, at most '
        f'{max(i.latency_ms for i in busy):.0f} ms; memory {memory[len(memory) // 3] / MB:.0f} to '
        f'{memory[-1] / MB:.0f} MB'
    )
    print(figures)
    assert rate * stack > 0.5 * OVERLOAD, figures
    # Each sweep is a depth or counted, each depth is of a newer sweep than the one before.
    assert len(busy) + dropped == sent, figures
    assert dropped > len(busy) > 0, figures
    numbers = [info.sweep_id for info in busy]
    assert numbers == sorted(set(numbers)) and numbers[-1] == camera.sent
    # The oldest that is ever worked on came while the stack before it was worked on.
    waits = [info.assemble_ms for info in busy[1:]]
    assert all(wait <= before + 100.0 for wait, before in zip(waits, took, strict=False)), figures
    assert statistics.median(i.latency_ms for i in busy) < 3.0 * statistics.median(took), figures
    assert memory[-1] - memory[len(memory) // 3] < 30 * MB, figures
