# SPDX-License-Identifier: Apache-2.0
"""``dualfocus calibrate settling``: latency, settling time, hysteresis."""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

from dualfocus_ros.calibration.parameter_file import CalibrationResult
from dualfocus_ros.cli import image_arguments
from dualfocus_ros.exceptions import CommandError

SUMMARY = 'latency, settling time and hysteresis of the lens'
WHAT_TO_RECORD = """\
what to record:
  Put a target with texture in front of the camera, at one end of the focus range or beyond it, so
  that it gets steadily sharper, both on firm stands. Sweep up and down in 6 to 10 steps, waiting
  at each for at least twice the settling time (focus_sweep_node with model_time or settle_time of
  0.5 s or more, pattern triangle), and record images, focus_command, and any topic that reports
  the focus, for 20 steps or more, at the frame rate of use.

example:
  dualfocus calibrate settling sweeps -o settling.yaml

result: command.latency_frames and command.settling_time of depth_node (camera_ros.* for a bag
without commands, of camera_ros), settle_frames, settle_time and model_time of focus_sweep_node.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('source', type=Path, metavar='BAG', help='bag of a sweep up and down')
    image_arguments.add_arguments(parser)


def calibrate(arguments: argparse.Namespace) -> CalibrationResult:
    """Locate the lens in the images after every command."""
    from dualfocus_ros.calibration.lens_tracking import (
        Thumbnail,
        commands_from_reports,
        make_thumbnail,
    )
    from dualfocus_ros.calibration.settling import MAX_FRAMES, measure_settling, settling_result

    arguments.rest = 0.0
    commands, source = image_arguments.read_commands(arguments.source)
    images = image_arguments.read_images(arguments.source, arguments)
    thumbnails = sorted(
        (make_thumbnail(image, arguments.region) for image in islice(images, MAX_FRAMES)),
        key=lambda thumbnail: thumbnail.stamp_ns,
    )
    group = 'command'
    if not commands:
        if source != 'camera_ros':
            raise CommandError(
                f'{arguments.source} has no focus_command: the latency needs the time of the '
                'commands; record that topic too'
            )
        group = 'camera_ros'
        commands = commands_from_reports(thumbnails)
    elif source == 'command':  # the focus of the images is that of the commands, not a report
        thumbnails = [Thumbnail(t.stamp_ns, t.values) for t in thumbnails]
    return settling_result(measure_settling(commands, thumbnails), group)
