# SPDX-License-Identifier: Apache-2.0
"""The calibration of a camera whose bag has no camera_info: from a file or from four numbers."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.cli.bag_topics import COMPRESSED, STACK, BagInputs
from dualfocus_ros.exceptions import UsageError

# A topic that is in no bag: what the user gives goes before what the bag has.
_NOWHERE = '/dualfocus/given/camera_info'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    group = parser.add_argument_group('calibration (by default camera_info of the bag)')
    group = group.add_mutually_exclusive_group()
    group.add_argument(
        '--camera-info',
        type=Path,
        metavar='YAML',
        help='calibration file as camera_calibration writes it',
    )
    group.add_argument(
        '--intrinsics', metavar='FX,FY,CX,CY', help='of images without distortion, in pixels'
    )


def camera_info_from(arguments: argparse.Namespace, bag: BagReader, inputs: BagInputs) -> Any:
    """Return the CameraInfo that the user gave, or None; then the bag's own is not read.

    :raises UsageError: if it cannot be understood.
    """
    if arguments.camera_info is not None:
        message = _from_file(arguments.camera_info)
    elif arguments.intrinsics is not None:
        message = _from_numbers(arguments.intrinsics, _image_size(bag, inputs))
    else:
        return None
    inputs.remap['/camera_info'] = _NOWHERE
    return message


def _from_numbers(text: str, size: tuple[int, int]) -> Any:
    from sensor_msgs.msg import CameraInfo

    try:
        fx, fy, cx, cy = (float(word) for word in text.split(','))
    except ValueError:
        raise UsageError(f'--intrinsics takes fx,fy,cx,cy in pixels, got {text!r}') from None
    return CameraInfo(
        width=size[0],
        height=size[1],
        distortion_model='plumb_bob',
        d=[0.0] * 5,
        k=[fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def _from_file(path: Path) -> Any:
    from sensor_msgs.msg import CameraInfo

    try:
        known = yaml.safe_load(path.read_text('utf-8'))

        def matrix(name: str) -> list[float]:
            return [float(value) for value in known[name]['data']]

        model = str(known.get('distortion_model', 'plumb_bob'))
        return CameraInfo(
            width=int(known['image_width']),
            height=int(known['image_height']),
            distortion_model=model,
            d=matrix('distortion_coefficients'),
            k=matrix('camera_matrix'),
            r=matrix('rectification_matrix'),
            p=matrix('projection_matrix'),
        )
    except OSError as error:
        raise UsageError(f'{path} cannot be read: {error}') from None
    except (
        UnicodeDecodeError,
        yaml.YAMLError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        AssertionError,
    ) as error:
        raise UsageError(
            f'{path} is not a calibration file as camera_calibration writes it (image_width, '
            f'camera_matrix, …): {type(error).__name__}: {error}'
        ) from None


def _image_size(bag: BagReader, inputs: BagInputs) -> tuple[int, int]:
    """Return width and height of the first image."""
    from dualfocus_ros.nodes.compressed_images import encoded_size

    assert inputs.image is not None
    for message in bag.messages([inputs.image]):
        decoded = message.message
        if message.message_type == STACK and decoded.images:
            decoded = decoded.images[0]
        if message.message_type == COMPRESSED:
            size = encoded_size(decoded.data)
            if size is not None:
                return size
        elif decoded.width and decoded.height:
            return int(decoded.width), int(decoded.height)
    raise UsageError(f'no image on {inputs.image} tells its size: use --camera-info')
