# SPDX-License-Identifier: Apache-2.0
"""Options of commands that read bags: topics, calibration, parameters of the depth node."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
import logging
from pathlib import Path
from typing import Any

import yaml

from dualfocus_ros.bags.reader import BagError, BagReader
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.cli.arguments import intrinsics
from dualfocus_ros.exceptions import CommandError, DataError, UsageError
from dualfocus_ros.nodes.offline.bag_inputs import BagInputs, TopicOptions, absolute_name
from dualfocus_ros.nodes.parameters.depth_parameters import SPECS
from dualfocus_ros.nodes.parameters.parameter_reader import DepthNodeParameters, read_parameters
from dualfocus_ros.sweep.stage_counter import StageCounts

logger = logging.getLogger(__name__)


@contextmanager
def open_bag(path: Path) -> Iterator[BagReader]:
    """Open a bag and log its problems.

    :raises CommandError: if it cannot be read.
    """
    try:
        with BagReader(path) as bag:
            for problem in bag.problems:
                logger.warning('%s', problem)
            yield bag
    except BagError as error:
        raise CommandError(str(error)) from error


def check_new_bag(path: Path) -> None:
    """Raise UsageError if a bag to write exists."""
    if path.exists():
        raise UsageError(f'{path} exists already: remove it or choose another name')


def add_bag_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options for topics, calibration and parameters."""
    add_topic_arguments(parser)
    group = parser.add_argument_group('calibration (by default camera_info of the bag)')
    either = group.add_mutually_exclusive_group()
    either.add_argument(
        '--camera-info',
        type=Path,
        metavar='YAML',
        help='calibration file as camera_calibration writes it',
    )
    either.add_argument(
        '--intrinsics',
        type=intrinsics,
        metavar='FX,FY,CX,CY',
        help='in pixels, for images without distortion',
    )
    add_parameter_arguments(parser)


def add_topic_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options for topics."""
    group = parser.add_argument_group('topics (by default found by their types)')
    add_remap_argument(
        group, 'name of the node := name in the bag; for outputs, the name to write'
    )
    group.add_argument('--image-topic', metavar='TOPIC', help='images, if there are several')
    group.add_argument('--camera-info-topic', metavar='TOPIC', help='calibration of the images')
    group.add_argument('--focus-topic', metavar='TOPIC', help='FocusState, metadata or command')


def add_remap_argument(parser: argparse._ActionsContainer, text: str) -> None:
    """Declare ``--remap``."""
    parser.add_argument(
        '-r', '--remap', action='append', default=[], metavar='FROM:=TO', help=text
    )


def add_parameter_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options for parameters of the depth node."""
    group = parser.add_argument_group('parameters of the depth node')
    group.add_argument(
        '--params-file',
        action='append',
        default=[],
        type=Path,
        metavar='YAML',
        help='ROS parameter file, as for the node; may be repeated, the last one wins',
    )
    parameter = group.add_argument(
        '-p',
        '--param',
        action='append',
        default=[],
        metavar='NAME:=VALUE',
        help='one parameter, such as depth.max:=5.0; overrides files',
    )
    _set_completions(parameter, (f'{name}:=' for name in SPECS))
    group.add_argument('--model', metavar='NAME', help='the parameter model')
    device = group.add_argument('--device', metavar='DEVICE', help='the parameter device')
    _set_completions(device, ('auto', 'cpu', 'cuda'))


def _set_completions(action: argparse.Action, words: Iterable[str]) -> None:
    """Set the words that argcomplete offers for an argument without choices."""
    offered = [*words]
    action.completer = lambda **_: offered  # type: ignore[attr-defined]


def topic_options(arguments: argparse.Namespace) -> TopicOptions:
    """Return the topics that the options name.

    :raises UsageError: for a malformed ``--remap``.
    """
    return TopicOptions(
        parse_remaps(arguments.remap),
        arguments.image_topic,
        arguments.camera_info_topic,
        arguments.focus_topic,
    )


def parse_remaps(words: Sequence[str]) -> dict[str, str]:
    """Return absolute target name by absolute source name of ``FROM:=TO`` words.

    :raises UsageError: for any other form.
    """
    remap = {}
    for text in words:
        source, separator, target = text.partition(':=')
        if not separator or not source or not target:
            raise UsageError(f'--remap takes FROM:=TO, got {text!r}')
        remap[absolute_name(source)] = absolute_name(target)
    return remap


def parameters_from(arguments: argparse.Namespace) -> DepthNodeParameters:
    """Return the parameters that the options give.

    :raises UsageError: for an unreadable file, an unknown name or an invalid value.
    """
    overrides: dict[str, Any] = {}
    for text in arguments.param:
        name, separator, value = text.partition(':=')
        if not separator or not name:
            raise UsageError(f'--param takes NAME:=VALUE, got {text!r}')
        try:
            overrides[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            overrides[name] = value
    for name in ('model', 'device'):
        if getattr(arguments, name) is not None:
            overrides[name] = getattr(arguments, name)
    try:
        return read_parameters(arguments.params_file, overrides)
    except ValueError as error:
        raise UsageError(str(error)) from None


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


def format_rejections(counts: StageCounts) -> str:
    """Return the count and the last case of each reason; empty without rejections."""
    return '; '.join(
        f'{r.count} not {r.stage.value}: {r.reason} ({r.text})' for r in counts.rejections
    )
