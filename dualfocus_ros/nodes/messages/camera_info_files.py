# SPDX-License-Identifier: Apache-2.0
"""CameraInfo from a calibration file or from intrinsics, for bags without ``camera_info``."""

from __future__ import annotations

from pathlib import Path

from sensor_msgs.msg import CameraInfo
import yaml

from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.exceptions import DataError
from dualfocus_ros.nodes.messages.image_decoding import encoded_size
from dualfocus_ros.topics import COMPRESSED_IMAGE, FOCAL_STACK


def read_camera_info(path: Path) -> CameraInfo:
    """Read a YAML file of the ROS package ``camera_calibration``.

    :raises DataError: if the file is unreadable or incomplete.
    """
    try:
        document = yaml.safe_load(path.read_text('utf-8'))

        def matrix(name: str) -> list[float]:
            return [float(value) for value in document[name]['data']]

        return CameraInfo(
            width=int(document['image_width']),
            height=int(document['image_height']),
            distortion_model=str(document.get('distortion_model', 'plumb_bob')),
            d=matrix('distortion_coefficients'),
            k=matrix('camera_matrix'),
            r=matrix('rectification_matrix'),
            p=matrix('projection_matrix'),
        )
    except OSError as error:
        raise DataError(f'{path} cannot be read: {error}') from None
    except (
        yaml.YAMLError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        AssertionError,
    ) as error:
        raise DataError(
            f'{path} is not a calibration file as camera_calibration writes it (image_width, '
            f'camera_matrix, …): {type(error).__name__}: {error}'
        ) from None


def first_image_size(bag: BagReader, topic: str) -> tuple[int, int]:
    """Return width and height of the first image, or first image of a stack, on a topic.

    :raises DataError: if no image has a known size.
    """
    for message in bag.messages([topic]):
        decoded = message.message
        if message.message_type == FOCAL_STACK.message_type and decoded.images:
            decoded = decoded.images[0]
        if message.message_type == COMPRESSED_IMAGE:
            if (size := encoded_size(decoded.data)) is not None:
                return size
        elif decoded.width and decoded.height:
            return int(decoded.width), int(decoded.height)
    raise DataError(f'no image on {topic} has a known size')
