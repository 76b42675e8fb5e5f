# SPDX-License-Identifier: Apache-2.0
"""``dualfocus inspect``: list topics, sweeps and rejected frames of a bag."""

from __future__ import annotations

import argparse
import itertools
import math
from pathlib import Path

from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.bags.topic_summary import TopicSummary
from dualfocus_ros.cli.arguments import add_json_argument
from dualfocus_ros.cli.bag_arguments import (
    add_bag_arguments,
    camera_info_from,
    open_bag,
    parameters_from,
    topic_options,
)
from dualfocus_ros.cli.console import echo, echo_json, progress_bar
from dualfocus_ros.cli.ros_environment import require_ros
from dualfocus_ros.exceptions import CommandError, UsageError
from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.nodes.offline.bag_inputs import BagInputs, find_inputs
from dualfocus_ros.nodes.offline.bag_inspection import BagInspection, inspect_bag
from dualfocus_ros.nodes.parameters.parameter_reader import DepthNodeParameters

_MAX_SWEEPS = 8
_BAR_LENGTH = 40


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.add_argument('bag', type=Path, metavar='BAG', help='folder, .mcap or .db3')
    add_json_argument(parser)
    parser.add_argument(
        '--sheet',
        type=Path,
        metavar='PNG',
        help='write a contact sheet: the planes of a sweep, all in focus, depth',
    )
    parser.add_argument(
        '--sweep',
        type=int,
        metavar='N',
        help='sweep of the contact sheet, from 0 (default: the first complete one)',
    )
    add_bag_arguments(parser)
    parser.epilog = (
        'Topics and stamps need no ROS. Sweeps are found by the code of the depth node, which '
        'needs rclpy and the message classes, but joins no DDS domain.'
    )


def execute(arguments: argparse.Namespace) -> int:
    """Read the bag once and print its contents."""
    if arguments.sheet is not None and arguments.sheet.suffix.lower() != '.png':
        raise UsageError(f'--sheet writes PNG, got {arguments.sheet}')
    parameters = parameters_from(arguments)
    shown: FocalStack | None = None  # of the contact sheet
    count = itertools.count()

    def select(stack: FocalStack) -> None:
        nonlocal shown
        if next(count) == arguments.sweep or (
            arguments.sweep is None and (shown is None or (bool(shown.flags) and not stack.flags))
        ):
            shown = stack

    with open_bag(arguments.bag) as bag:
        inputs, missing = _find_inputs(arguments, bag, parameters)
        camera = None
        if inputs is not None and not missing:
            camera = camera_info_from(arguments, bag, inputs)
        total = sum(topic.count for topic in bag.topics.values())
        with progress_bar('reading', total=total, unit='msg') as bar:
            inspection = inspect_bag(
                bag,
                inputs,
                missing,
                max_pixels=parameters.settings.max_pixels,
                camera=camera,
                on_stack=(lambda stack: None) if arguments.sheet is None else select,
                on_message=bar.update,
            )
    if arguments.sheet is not None:
        _write_sheet(arguments, inspection, shown)
    if arguments.json:
        sheet = None if arguments.sheet is None else str(arguments.sheet)
        echo_json({'bag': str(arguments.bag), **inspection.as_dict(), 'sheet': sheet})
    else:
        _print(arguments, inspection)
    return 0


def _find_inputs(
    arguments: argparse.Namespace, bag: BagReader, parameters: DepthNodeParameters
) -> tuple[BagInputs | None, list[str]]:
    """Return inputs of the depth node, and reasons not to look for sweeps."""
    options = topic_options(arguments)
    try:
        inputs = find_inputs(bag, parameters, options)
    except UsageError as error:
        # Ambiguous topics are a finding, unless the user named them.
        if options:
            raise
        return None, [str(error)]
    if not inputs.missing:
        try:
            require_ros('dualfocus_ros.nodes.offline.offline_node')
        except CommandError as error:
            return inputs, [str(error)]
    return inputs, inputs.missing


def _write_sheet(
    arguments: argparse.Namespace, inspection: BagInspection, stack: FocalStack | None
) -> None:
    if stack is None or inspection.inputs is None:
        which = 'no sweep' if arguments.sweep is None else f'no sweep {arguments.sweep}'
        raise CommandError(
            f'{arguments.bag} has {which} to show ({len(inspection.sweeps)} found): '
            + (_rejections(inspection) or 'nothing was rejected')
        )
    from dualfocus_ros.io.image_files import save_png
    from dualfocus_ros.nodes.stack_processor import load_estimator
    from dualfocus_ros.visualization.result_files import contact_sheet

    picture = contact_sheet(stack, load_estimator(inspection.inputs.settings), str(arguments.bag))
    arguments.sheet.parent.mkdir(parents=True, exist_ok=True)
    save_png(arguments.sheet, picture)


def _print(arguments: argparse.Namespace, inspection: BagInspection) -> None:
    echo(f'{arguments.bag}: {inspection.seconds:.3f} s, {len(inspection.topics)} topics')
    for name, topic in inspection.topics.items():
        _print_topic(name, topic)
    _print_focus(inspection)
    if inspection.missing:
        echo('sweeps: cannot be found: ' + '; '.join(inspection.missing))
        return
    inputs = inspection.inputs
    assert inputs is not None
    echo(
        f'sweeps: {len(inspection.sweeps)} from {inputs.image}, calibration '
        f'{inputs.camera_info or "none"}'
    )
    for sweep in inspection.sweeps[:_MAX_SWEEPS]:
        focus = ' '.join(f'{dioptres:.2f}' for dioptres in sweep.focus_dioptres)
        flags = f' ({", ".join(sweep.flags)})' if sweep.flags else ''
        echo(
            f'  {sweep.sweep_id} at {sweep.start_ns * 1e-9:.3f} s, {sweep.seconds:.3f} s, '
            f'{len(sweep.focus_dioptres)} planes: {focus} dioptres{flags}'
        )
    if len(inspection.sweeps) > _MAX_SWEEPS:
        echo(f'  … and {len(inspection.sweeps) - _MAX_SWEEPS} more')
    echo(f'rejected: {_rejections(inspection) or "nothing"}')
    if arguments.sheet is not None:
        echo(f'contact sheet: {arguments.sheet}')


def _print_topic(name: str, topic: TopicSummary) -> None:
    rate = '' if topic.rate is None else f', {topic.rate:.1f} Hz'
    echo(f'  {name} [{topic.topic.message_type}] {topic.count} messages{rate}')
    for text, count in topic.formats.most_common():
        echo(f'      {text}: {count}')
    if topic.header_first_ns is not None and topic.header_last_ns is not None:
        first, last = topic.header_first_ns * 1e-9, topic.header_last_ns * 1e-9
        echo(f'      header stamps {first:.3f} to {last:.3f} s')
    stamps = {'go back': topic.backward, 'repeat the last': topic.repeated, 'are zero': topic.zero}
    for text, count in stamps.items():
        if count:
            echo(f'      {count} stamps {text}')
    for text, count in topic.refused.items():
        echo(f'      {count} would be refused: {text}')
    if topic.undecodable:
        echo(f'      {topic.undecodable} messages cannot be decoded')


def _print_focus(inspection: BagInspection) -> None:
    histogram = inspection.focus_histogram
    if not histogram:
        return
    echo('focus (dioptres):')
    largest = max(count for _, count in histogram)
    for (focus, state), count in histogram:
        bar = '#' * max(1, round(_BAR_LENGTH * count / largest))
        value = 'unknown' if math.isnan(focus) else f'{focus:7.2f}'
        echo(f'  {value} {state:<8} {count:6d} {bar}')


def _rejections(inspection: BagInspection) -> str:
    """Return missing inputs, or a line for each reason of a rejection."""
    if inspection.missing:
        return '; '.join(inspection.missing)
    if inspection.stage_counts is None:
        return ''
    return ''.join(
        f'\n  {r.count} not {r.stage.value}: {r.reason}, such as: {r.text}'
        for r in inspection.stage_counts.rejections
    )
