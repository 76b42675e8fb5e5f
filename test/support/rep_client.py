# SPDX-License-Identifier: Apache-2.0
"""Camera and consumer that use the REPs and the messages only, like nav2 or MoveIt.

REP 103 (optical frame), 104 (camera_info), 117 (special distances), 118 (depth images), 2003
(quality of service), and the fields of PointCloud2.
"""

from __future__ import annotations

from collections import defaultdict
import math

from builtin_interfaces.msg import Time
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rcl_interfaces.srv import SetParametersAtomically
from rclpy.parameter import Parameter
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField

from dualfocus_ros.msg import FocusState, StackInfo
from image_messages import calibration_message
from ros_client import RosClient, newest_status

OUTPUTS = {
    'depth/image_rect': Image,
    'depth/camera_info': CameraInfo,
    'depth/points': PointCloud2,
    'depth/points_decimated': PointCloud2,
    'depth/sigma': Image,
    'depth/confidence': Image,
    'rgb/image_rect': Image,
    'rgb/camera_info': CameraInfo,
    'stack_info': StackInfo,
}
OPTICAL_FRAME = 'camera_optical_frame'
_DTYPES = {'32FC1': np.float32, '16UC1': np.uint16, 'mono8': np.uint8, 'rgb8': np.uint8}


def to_stamp(nanoseconds):
    seconds, rest = divmod(nanoseconds, 10**9)
    return Time(sec=seconds, nanosec=rest)


def pixels(image):
    """Return the pixels of an image message row by row, checking step and size."""
    dtype = np.dtype(_DTYPES[image.encoding]).newbyteorder('>' if image.is_bigendian else '<')
    channels = 3 if image.encoding == 'rgb8' else 1
    row = image.width * channels * dtype.itemsize
    assert image.step >= row
    assert len(image.data) == image.step * image.height
    rows = np.frombuffer(image.data, np.uint8).reshape(image.height, image.step)[:, :row]
    values = np.ascontiguousarray(rows).view(dtype).reshape(image.height, image.width, channels)
    return values[..., 0] if channels == 1 else values


def metres(depth):
    """Return a depth image as float64 metres along z, NaN invalid (REP 118)."""
    values = pixels(depth).astype(np.float64)
    if depth.encoding == '32FC1':
        return values
    assert depth.encoding == '16UC1'
    return np.where(values == 0, np.nan, values * 1e-3)


def back_projection(depth, info):
    """Return the points of a depth image, (H, W, 3), by K of its camera_info."""
    z = metres(depth)
    fx, _, cx, _, fy, cy, _, _, _ = info.k
    points = np.full((*z.shape, 3), np.nan)
    for v in range(depth.height):
        for u in range(depth.width):
            if math.isfinite(z[v, u]):
                points[v, u] = (u - cx) * z[v, u] / fx, (v - cy) * z[v, u] / fy, z[v, u]
    return points


def cloud_fields(cloud):
    """Return the fields of a cloud, (height, width) each, by their offsets and types."""
    types = {PointField.FLOAT32: 'f4', PointField.UINT32: 'u4'}
    order = '>' if cloud.is_bigendian else '<'
    layout = np.dtype(
        {
            'names': [field.name for field in cloud.fields],
            'formats': [order + types[field.datatype] for field in cloud.fields],
            'offsets': [field.offset for field in cloud.fields],
            'itemsize': cloud.point_step,
        }
    )
    assert all(field.count == 1 for field in cloud.fields)
    assert cloud.row_step == cloud.width * cloud.point_step
    assert len(cloud.data) == cloud.row_step * cloud.height
    return np.frombuffer(cloud.data, layout).reshape(cloud.height, cloud.width)


def positions(cloud):
    """Return x, y, z of a cloud, (height, width, 3) float64."""
    fields = cloud_fields(cloud)
    return np.stack([fields[name].astype(np.float64) for name in ('x', 'y', 'z')], axis=-1)


def colours(cloud):
    """Return the colours of a cloud, (height, width, 3): the bits of the float are 0x00RRGGBB."""
    packed = np.ascontiguousarray(cloud_fields(cloud)['rgb']).view(np.uint32)
    return np.stack([packed >> 16 & 255, packed >> 8 & 255, packed & 255], axis=-1)


class Client(RosClient):
    """Camera and consumer on a separate executor.

    :param node: name of the depth node.
    """

    patience = 90.0

    def __init__(self, node='dualfocus'):
        self.target = node
        super().__init__('rep_client')
        self._publishers = {
            topic: self.node.create_publisher(kind, topic, 50)
            for topic, kind in (
                ('image_raw', Image),
                ('camera_info', CameraInfo),
                ('focus_state', FocusState),
            )
        }
        self._subscriptions = {}
        self.heard = defaultdict(list)
        self.diagnostics = []
        self.node.create_subscription(DiagnosticArray, '/diagnostics', self.diagnostics.append, 10)
        self._sweeps = 0
        self.stamp_ns = 1_700_000_000 * 10**9

    def subscribe(self, *topics, reliability=ReliabilityPolicy.RELIABLE):
        """Listen to exactly these outputs from now on, and wait until they are connected."""
        for topic in list(self._subscriptions):
            self.node.destroy_subscription(self._subscriptions.pop(topic))
        self.heard.clear()
        for topic in topics:
            self.join(topic, reliability, key=topic)
        self.until(
            lambda: (
                all(self.node.count_publishers(topic) == 1 for topic in topics)
                and all(p.get_subscription_count() for p in self._publishers.values())
            ),
            'for the node',
        )
        seen = len(self.diagnostics)
        # The second message from now on was made after the node has noticed.
        self.until(lambda: len(self.diagnostics) > seen + 1, 'for diagnostics')
        idle = 'nothing to do'
        self.until(
            lambda: (self.status('depth')[0] == idle) == (not topics),
            'for the node to notice subscribers',
        )

    def join(self, topic, reliability, key):
        """Subscribe to another topic under a separate name."""
        self._subscriptions[key] = self.node.create_subscription(
            OUTPUTS[topic],
            topic,
            self.heard[key].append,
            QoSProfile(depth=10, reliability=reliability),
        )

    def sweep(self, planes, k, distortion=(0.0,) * 5, wait_for=()):
        """Publish a sweep of (image, dioptres, magnification) planes; return the stamps.

        :param k: fx, fy, cx, cy of a plane of magnification 1.
        :param wait_for: keys of topics that must have one more message afterwards.
        """
        before = {key: len(self.heard[key]) for key in wait_for}
        self._sweeps += 1
        stamps = []
        for index, (picture, dioptres, magnification) in enumerate(planes):
            self.stamp_ns += 100_000_000
            stamps.append(self.stamp_ns)
            self._shoot(
                picture,
                dioptres,
                index,
                len(planes),
                [k[0] * magnification, k[1] * magnification, k[2], k[3]],
                distortion,
            )
        self.until(
            lambda: all(len(self.heard[key]) > before[key] for key in wait_for), f'for {wait_for}'
        )
        return stamps

    def _shoot(self, picture, dioptres, index, count, k, distortion):
        height, width = picture.shape[:2]
        image = Image(height=height, width=width, encoding='rgb8', step=3 * width)
        image.header.stamp, image.header.frame_id = to_stamp(self.stamp_ns), OPTICAL_FRAME
        image.data = picture.tobytes()
        info = calibration_message(width, height, k, header=image.header, d=list(distortion))
        state = FocusState(
            header=image.header,
            focus_dioptres=dioptres,
            state=FocusState.SETTLED,
            sweep_id=self._sweeps,
            plane_index=index,
            plane_count=count,
        )
        self._publishers['camera_info'].publish(info)
        self._publishers['focus_state'].publish(state)
        self._publishers['image_raw'].publish(image)

    def status(self, part):
        """Return text and values of the newest diagnostics of one part of the node."""
        return newest_status(self.diagnostics, f'{self.target}: {part}')[1:]

    def set(self, **values):
        """Set parameters at once; returns whether that succeeded, and the reason if not."""
        request = SetParametersAtomically.Request(
            parameters=[
                Parameter(name.replace('__', '.'), value=value).to_parameter_msg()
                for name, value in values.items()
            ]
        )
        result = self.call(
            SetParametersAtomically, f'{self.target}/set_parameters_atomically', request
        ).result
        return result.successful, result.reason
