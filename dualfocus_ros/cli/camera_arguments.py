# SPDX-License-Identifier: Apache-2.0
"""Options for the calibration of images: ``--camera-info`` and ``--intrinsics``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.cli.argument_types import intrinsics
from dualfocus_ros.exceptions import DataError, UsageError
from dualfocus_ros.nodes.offline.bag_inputs import BagInputs


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
        '--intrinsics',
        type=intrinsics,
        metavar='FX,FY,CX,CY',
        help='in pixels, for images without distortion',
    )


def camera_info_from(arguments: argparse.Namespace, bag: BagReader, inputs: BagInputs) -> Any:
    """Return the CameraInfo that the options give, or None.

    :raises UsageError: if the file or the intrinsics are invalid.
    """
    if arguments.camera_info is None and arguments.intrinsics is None:
        return None
    from std_msgs.msg import Header

    from dualfocus_ros.nodes.messages.camera_info_files import first_image_size, read_camera_info
    from dualfocus_ros.nodes.messages.output_messages import camera_message

    try:
        if arguments.camera_info is not None:
            return read_camera_info(arguments.camera_info)
        assert inputs.image is not None
        size = first_image_size(bag, inputs.image)
    except DataError as error:
        raise UsageError(str(error)) from None
    return camera_message(Header(), PinholeCamera(*size, *arguments.intrinsics))
