# SPDX-License-Identifier: Apache-2.0
"""Serialised messages of the demo, and a simulated sweep."""

import numpy as np

from dualfocus_ros.bags.message_types import typestore
from dualfocus_ros.demo.collector import DemoCollector
from stack_bag import make_header, make_image

SECOND = 1_000_000_000
TYPES = typestore()


def image_cdr(stamp_ns: int, values: np.ndarray, encoding: str = '') -> bytes:
    header = make_header(TYPES, stamp_ns, 'camera')
    message = make_image(TYPES, header, values) if values.dtype == np.uint8 else None
    if message is None:
        height, width = values.shape
        data = np.frombuffer(values.tobytes(), np.uint8)
        message = TYPES.types['sensor_msgs/msg/Image'](
            header, height, width, encoding, 0, data.size // height, data
        )
    return bytes(TYPES.serialize_cdr(message, 'sensor_msgs/msg/Image'))


def cloud_cdr(stamp_ns: int, points: np.ndarray) -> bytes:
    height, width = points.shape[:2]
    data = np.frombuffer(points.astype('<f4').tobytes(), np.uint8)
    message = TYPES.types['sensor_msgs/msg/PointCloud2'](
        make_header(TYPES, stamp_ns, 'camera'),
        height,
        width,
        [],
        False,
        16,
        16 * width,
        data,
        False,
    )
    return bytes(TYPES.serialize_cdr(message, 'sensor_msgs/msg/PointCloud2'))


def info_cdr(stamp_ns: int, planes: list[int], flags: int = 0) -> bytes:
    message = TYPES.types['dualfocus_ros/msg/StackInfo'](
        header=make_header(TYPES, stamp_ns, 'camera'),
        stamps=[make_header(TYPES, s, '').stamp for s in planes],
        focus_dioptres=np.linspace(2.0, 0.5, len(planes), dtype=np.float32),
        sweep_id=1,
        flags=flags,
        sweep_duration=0.5,
        assemble_ms=1.0,
        inference_ms=50.0,
        publish_ms=2.0,
        latency_ms=60.0,
        model='small',
        device='cpu',
    )
    return bytes(TYPES.serialize_cdr(message, 'dualfocus_ros/msg/StackInfo'))


def feed(collector: DemoCollector, start: int, factor: float, flags: int = 0) -> None:
    """Collect a sweep of three planes and its outputs; depth is ground truth times ``factor``."""
    stamps = [start + n * SECOND // 10 for n in range(3)]
    truth = np.full((48, 64), 1.25, np.float32)
    truth[:, 32:] = 0.8
    grey = np.random.default_rng(2).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    for stamp in stamps:
        collector('/image_raw', image_cdr(stamp, grey), stamp)
        collector('/ground_truth/depth', image_cdr(stamp, truth, '32FC1'), stamp)
    at = stamps[0]
    receipt = stamps[-1] + 70_000_000
    points = np.dstack([truth, truth, truth * factor, np.zeros_like(truth)])
    collector('/depth/image_rect', image_cdr(at, truth * np.float32(factor), '32FC1'), receipt)
    collector('/depth/sigma', image_cdr(at, 0.1 * truth, '32FC1'), receipt)
    collector('/rgb/image_rect', image_cdr(at, grey), receipt)
    collector('/depth/points', cloud_cdr(at, points), receipt)
    collector('/stack_info', info_cdr(at, stamps, flags), receipt)
