# SPDX-License-Identifier: Apache-2.0
"""Depth node with a fake estimator, and a peer that is camera and subscriber over DDS.

The depth of the fake is the focus distance of the reference plane, except in one pixel.
"""

from __future__ import annotations

from collections import defaultdict
import itertools
import threading

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
from rcl_interfaces.msg import Log
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image
from std_msgs.msg import Header
import torch

from dualfocus_ros.inference.point_cloud import back_project, decimate_stride
from dualfocus_ros.inference.result import DepthResult
from dualfocus_ros.msg import FocalStack, FocusCommand, FocusState
from dualfocus_ros.nodes.depth_node import DepthNode
from dualfocus_ros.stamps import to_ns, to_stamp
from image_messages import calibration_message, image_message
from rep_client import OUTPUTS
from ros_client import RosClient, newest_status

WIDTH, HEIGHT = 32, 24
MS = 1_000_000
START = 1_700_000_000 * 10**9
FRAME = 'camera_optical_frame'
PATIENCE = 30.0

INPUTS = {
    'image_raw': Image,
    'image_raw/compressed': CompressedImage,
    'camera_info': CameraInfo,
    'focus_state': FocusState,
    'focus_command': FocusCommand,
    'metadata': DiagnosticArray,
    'focal_stack': FocalStack,
    '/clock': Clock,
}
CAMERA = ('image_raw', 'camera_info', 'focus_state')  # with a lens that reports its position
_numbers = itertools.count()


class FakeEstimator:
    """Estimator without a network; records its calls."""

    model_name = 'stand-in'
    sha256 = 'f' * 64
    device_name = 'cpu (test)'
    device_memory = 0

    def __init__(self):
        self.settings = None
        self.asked = []
        self.foreseen = []
        self.errors = []
        self.released = False
        self.made_room = 0
        self.gate = threading.Event()
        self.gate.set()

    def estimate(self, stack, outputs):
        """Return the distance of the reference plane everywhere, NaN in the first pixel."""
        assert self.gate.wait(PATIENCE)
        self.asked.append((stack, outputs, self.settings))
        if self.errors:
            raise self.errors.pop()
        height, width = stack.size
        reference = stack.planes[stack.reference]
        depth = np.full((height, width), 1.0 / reference.focus_dioptres, np.float32)
        depth[0, 0] = np.nan
        image = reference.image if reference.image.ndim == 3 else np.dstack([reference.image] * 3)
        points = few = None
        if (outputs.points or outputs.points_decimated) and reference.camera is not None:
            colour = torch.from_numpy(image.copy()) if self.settings.points_color else None
            points = back_project(torch.from_numpy(depth), reference.camera, colour)
            few = decimate_stride(points, self.settings.points_decimation)
        return DepthResult(
            depth=depth,
            focus_dioptres=stack.focus_dioptres,
            reference=stack.reference,
            sigma=np.full_like(depth, 0.01) if outputs.sigma else None,
            confidence=np.full(depth.shape, 200, np.uint8) if outputs.confidence else None,
            all_in_focus=image if outputs.all_in_focus else None,
            points=points.numpy() if outputs.points and points is not None else None,
            points_decimated=few.numpy() if outputs.points_decimated and few is not None else None,
            camera=reference.camera,
            stage_ms={'decode': 1.0},
        )

    def prefetch(self, plane):
        """Record the plane."""
        self.foreseen.append(plane)
        return True

    def clear_caches(self):
        """Count the call."""
        self.made_room += 1

    def release(self):
        """Record the call."""
        self.released = True


class DepthNodeHarness(RosClient):
    """The node under test and a peer, which is camera and consumer, on one executor."""

    patience = PATIENCE

    def __init__(self, load=None, sim_time=False, qos_overrides=None, **parameters):
        self.namespace = f'/harness{next(_numbers)}'
        super().__init__('peer', self.namespace)
        self.estimators = []
        overrides = [Parameter(k.replace('__', '.'), value=v) for k, v in parameters.items()]
        for name, value in (qos_overrides or {}).items():
            topic = f'qos_overrides.{self.namespace}/{name}'
            overrides.append(Parameter(topic, value=value))
        if sim_time:
            overrides.append(Parameter('use_sim_time', value=True))
        self.depth_node = DepthNode(
            load=load or self._load,
            context=self.context,
            namespace=self.namespace,
            parameter_overrides=overrides,
        )
        self.executor.add_node(self.depth_node)
        self.received = defaultdict(list)
        self.publishers = {}
        self.edits = {}
        self.subscriptions = {}
        self.listen('/diagnostics', DiagnosticArray)

    def _load(self, settings):
        self.estimators.append(FakeEstimator())
        return self.estimators[-1]

    @property
    def estimator(self):
        return self.estimators[-1]

    def listen(self, topic, kind=None, reliability=ReliabilityPolicy.RELIABLE):
        """Subscribe; messages are appended to ``received[topic]``."""
        qos = QoSProfile(depth=50, reliability=reliability)
        self.subscriptions[topic] = self.node.create_subscription(
            kind or {**OUTPUTS, '/rosout': Log}[topic], topic, self.received[topic].append, qos
        )

    def ignore(self, topic):
        """Unsubscribe."""
        self.node.destroy_subscription(self.subscriptions.pop(topic))

    def advertise(self, topic, kind, reliability=ReliabilityPolicy.RELIABLE):
        """Create a publisher."""
        qos = QoSProfile(depth=50, reliability=reliability)
        self.publishers[topic] = self.node.create_publisher(kind, topic, qos)

    def ready(self):
        """Wait until the node is active, connected, and knows its subscribers."""
        self.until(lambda: self.state == 'active', 'for the node to become active')
        self.until(
            lambda: all(p.get_subscription_count() for p in self.publishers.values()),
            f'for subscriptions to {list(self.publishers)}',
        )
        outputs = [t for t in self.subscriptions if t in OUTPUTS]
        self.until(
            lambda: self.depth_node._outputs.subscribed_topics() == frozenset(outputs),
            f'for publishers of {outputs}',
        )
        self.until(lambda: self.input.enabled == bool(outputs))

    @property
    def state(self):
        return self.depth_node.state_label

    @property
    def depths(self):
        """The depth images received so far."""
        return self.received['depth/image_rect']

    @property
    def input(self):
        return self.depth_node._input

    @property
    def worker(self):
        return self.depth_node._worker

    def counts(self):
        """Return the counts of frames and rejections by stage."""
        return self.depth_node._stage_counter.snapshot()

    def change_state(self, transition):
        """Ask for a lifecycle transition by its number; return whether it succeeded."""
        request = ChangeState.Request()
        request.transition.id = transition
        return self.call(ChangeState, 'dualfocus/change_state', request).success

    def get_state(self):
        """Ask for the lifecycle state."""
        return self.call(GetState, 'dualfocus/get_state', GetState.Request()).current_state.label

    def status(self, part):
        """Return level, text and values of the newest diagnostics of one part of the node."""
        name = f'{self.namespace}/dualfocus: {part}'.lstrip('/')
        return newest_status(self.received['/diagnostics'], name)

    def use_camera(self, inputs=CAMERA, reliability=ReliabilityPolicy.RELIABLE):
        """Create the publishers of a camera.

        :param reliability: of ``image_raw``.
        """
        for topic in inputs:
            kind = Image if topic.startswith('plane_') else INPUTS[topic]
            self.advertise(topic, kind, *[reliability] * (topic == 'image_raw'))

    def connect(self, *outputs, **camera):
        """Create the publishers of a camera, subscribe to outputs and wait until connected."""
        self.use_camera(**camera)
        for topic in outputs:
            self.listen(topic)
        self.ready()
        return self

    def publish(self, topic, message):
        """Publish a message after the edit of its topic, which changes or replaces it."""
        edit = self.edits.get(topic, lambda message: None)
        self.publishers[topic].publish(edit(message) or message)

    def shoot(self, stamp, dioptres, sweep=1, index=0, count=0, state=FocusState.SETTLED):
        """Publish one image with everything that belongs to it."""
        if 'camera_info' in self.publishers:
            self.publish('camera_info', camera_info(stamp, 40.0 + dioptres))
        if 'focus_state' in self.publishers:
            self.publish('focus_state', focus_state(stamp, dioptres, sweep, index, count, state))
        if 'metadata' in self.publishers:
            values = [KeyValue(key='LensPosition', value=repr(dioptres))]
            status = DiagnosticStatus(values=values)
            self.publish('metadata', DiagnosticArray(header=header(stamp), status=[status]))
        self.publish('image_raw', image(stamp, 10 + index))

    def sweep(
        self, focus=(0.5, 1.0, 2.0), start=START, sweep=1, period=33 * MS, first=0, last=None
    ):
        """Publish a sweep, or a part of it; return the stamps."""
        stamps = [start + n * period for n in range(len(focus))]
        for n in range(len(focus))[first:last]:
            self.shoot(stamps[n], focus[n], sweep, n, len(focus))
        return stamps

    def close(self):
        for estimator in self.estimators:
            estimator.gate.set()
        self.depth_node.close()
        self.executor.shutdown()
        self.depth_node.destroy_node()
        super().close()


def header(stamp):
    return Header(stamp=to_stamp(stamp), frame_id=FRAME)


def image(stamp, value, encoding='rgb8'):
    """Return an image of one grey value."""
    pixels = np.full((HEIGHT, WIDTH, 3), value % 256, np.uint8)
    return rgb_image(stamp, pixels, encoding)


def rgb_image(stamp, pixels, encoding='rgb8'):
    message = image_message(pixels.tobytes(), encoding, pixels.shape[1], pixels.shape[0])
    message.header = header(stamp)
    return message


def camera_info(stamp, focal):
    return calibration_message(WIDTH, HEIGHT, (focal, focal, 15.5, 11.5), header=header(stamp))


def plane_camera_info(plane, stamp):
    """Return the calibration of a rendered plane."""
    camera = plane.camera
    intrinsics = (camera.fx, camera.fy, camera.cx, camera.cy)
    return calibration_message(camera.width, camera.height, intrinsics, header=header(stamp))


def focus_state(stamp, dioptres, sweep=1, index=0, count=0, state=FocusState.SETTLED):
    return FocusState(
        header=header(stamp),
        focus_dioptres=dioptres,
        state=state,
        sweep_id=sweep,
        plane_index=index,
        plane_count=count,
    )


def command(stamp, dioptres, sweep=1, index=0, count=0):
    return FocusCommand(
        header=header(stamp),
        focus_dioptres=dioptres,
        sweep_id=sweep,
        plane_index=index,
        plane_count=count,
    )


def stack_message(stamp, focus=(0.5, 1.0, 2.0)):
    return FocalStack(
        header=header(stamp),
        images=[image(stamp + n, 10 + n) for n in range(len(focus))],
        focus_dioptres=list(focus),
        camera_info=camera_info(stamp, 42.0),
    )


def stamps_of(messages):
    return [to_ns(message.header.stamp) for message in messages]
