# SPDX-License-Identifier: Apache-2.0
"""``dualfocus inspect``: what a bag holds, which sweeps the depth node would find, and why not."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass, field
import json
import logging
import math
from pathlib import Path
from typing import Any

from tqdm import tqdm

from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.bags.topic_summary import TopicSummary, has_header
from dualfocus_ros.cli import bag_topics, camera_arguments, node_parameters
from dualfocus_ros.cli.bag_arguments import image_checker, open_bag, require_offline_node
from dualfocus_ros.cli.bag_topics import BagInputs, find_inputs, is_output_topic
from dualfocus_ros.cli.console import echo
from dualfocus_ros.exceptions import CommandError, UsageError
from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.sweep.stage_counter import StageCounts

logger = logging.getLogger(__name__)

_SWEEPS_PRINTED = 8
_BAR = 40


@dataclass(frozen=True)
class SweepSummary:
    """One sweep that the depth node would make a depth image of."""

    sweep_id: int
    start_ns: int
    seconds: float
    focus_dioptres: tuple[float, ...]
    flags: tuple[str, ...]


@dataclass
class BagInspection:
    """Everything that is known about a bag.

    :param missing: why no sweep can be looked for, in words.
    :param shown: the stack of the contact sheet.
    """

    topics: dict[str, TopicSummary] = field(default_factory=dict)
    inputs: BagInputs | None = None
    missing: list[str] = field(default_factory=list)
    sweeps: list[SweepSummary] = field(default_factory=list)
    stage_counter: StageCounts | None = None
    shown: FocalStack | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.add_argument('bag', type=Path, metavar='BAG', help='folder, .mcap or .db3')
    parser.add_argument('--json', action='store_true', help='print everything as JSON')
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
        help='the sweep of the contact sheet, from 0; by default the first that lacks nothing',
    )
    bag_topics.add_arguments(parser)
    camera_arguments.add_arguments(parser)
    node_parameters.add_arguments(parser)
    parser.epilog = (
        "Topics and stamps are told without ROS; sweeps are found by the depth node's own code, "
        'for which the message classes and rclpy must be importable. No DDS domain is joined.'
    )


def execute(arguments: argparse.Namespace) -> int:
    """Read the whole bag once and tell about it."""
    if arguments.sheet is not None and arguments.sheet.suffix.lower() != '.png':
        raise UsageError(f'--sheet writes PNG, got {arguments.sheet}')
    parameters = node_parameters.read_parameters(arguments)
    with open_bag(arguments.bag) as bag:
        findings = _read(arguments, bag, parameters)
        duration = (bag.end_ns - bag.start_ns) * 1e-9
        problems = list(bag.problems)
    if arguments.sheet is not None:
        _write_sheet(arguments, findings)
    if arguments.json:
        echo(json.dumps(_as_dict(arguments, findings, duration, problems), indent=2))
    else:
        _print(arguments, findings, duration)
    return 0


def _read(
    arguments: argparse.Namespace, bag: BagReader, parameters: node_parameters.DepthNodeParameters
) -> BagInspection:
    findings = BagInspection()
    pipeline: Any = None
    try:
        findings.inputs = find_inputs(bag, parameters, arguments)
        findings.missing = findings.inputs.missing
        if not findings.missing:
            require_offline_node()
            pipeline = _pipeline(arguments, bag, findings)
    except CommandError as error:
        # What is wrong with the topics is a finding, unless the user named them.
        if isinstance(error, UsageError) and _topics_given(arguments):
            raise
        findings.missing = [str(error)]
    for name, topic in sorted(bag.topics.items()):
        findings.topics[name] = TopicSummary(
            topic,
            has_header(bag.types, topic.message_type),
            None if is_output_topic(name) else image_checker(parameters.settings.max_pixels),
        )
    total = sum(topic.count for topic in bag.topics.values())
    quiet = not logger.isEnabledFor(logging.INFO)
    with tqdm(
        total=total, unit='msg', desc='reading', leave=False, disable=True if quiet else None
    ) as bar:
        for message in bag.messages():
            findings.topics[message.topic].note(message)
            if pipeline is not None and message.topic in pipeline.topics:
                pipeline.take(message)
            bar.update()
    if pipeline is not None:
        pipeline.finish()
        findings.stage_counter = pipeline.stage_counter.snapshot()
    return findings


def _topics_given(arguments: argparse.Namespace) -> bool:
    named = (arguments.image_topic, arguments.camera_info_topic, arguments.focus_topic)
    return bool(arguments.remap) or any(topic is not None for topic in named)


def _pipeline(arguments: argparse.Namespace, bag: BagReader, findings: BagInspection) -> Any:
    """Return the depth node's pipeline without the network."""
    from dualfocus_ros.nodes.offline import OfflineNode, OfflinePipeline

    inputs = findings.inputs
    assert inputs is not None

    def note(stack: FocalStack) -> None:
        number = len(findings.sweeps)
        planes = stack.planes
        findings.sweeps.append(
            SweepSummary(
                stack.sweep_id,
                min(plane.stamp_ns for plane in planes),
                stack.sweep_duration_ns * 1e-9,
                tuple(round(float(plane.focus_dioptres), 4) for plane in planes),
                tuple(word.replace(' ', '_') for word in stack.flags.words),
            )
        )
        if arguments.sheet is None:
            return
        if arguments.sweep is not None:
            chosen = number == arguments.sweep
        else:
            # The first at all, for want of a better one.
            chosen = findings.shown is None or (bool(findings.shown.flags) and not stack.flags)
        if chosen:
            findings.shown = stack

    camera = camera_arguments.camera_info_from(arguments, bag, inputs)
    node = OfflineNode(inputs.remap, (), lambda topic, message: None)
    return OfflinePipeline(inputs.settings, node, None, camera, note)


def _write_sheet(arguments: argparse.Namespace, findings: BagInspection) -> None:
    stack, inputs = findings.shown, findings.inputs
    if stack is None or inputs is None:
        which = 'no sweep' if arguments.sweep is None else f'no sweep {arguments.sweep}'
        raise CommandError(
            f'{arguments.bag} has {which} to show ({len(findings.sweeps)} found): '
            + (_why(findings) or 'nothing was rejected')
        )
    from dualfocus_ros.io.png import save_png
    from dualfocus_ros.nodes.stack_processor import load_estimator
    from dualfocus_ros.visualization.contact_sheet import contact_sheet

    picture = contact_sheet(stack, load_estimator(inputs.settings), str(arguments.bag))
    arguments.sheet.parent.mkdir(parents=True, exist_ok=True)
    save_png(arguments.sheet, picture)


def _as_dict(
    arguments: argparse.Namespace, findings: BagInspection, duration: float, problems: list[str]
) -> dict[str, Any]:
    inputs, stage_counter = findings.inputs, findings.stage_counter
    return {
        'bag': str(arguments.bag),
        'seconds': duration,
        'problems': problems,
        'topics': {name: survey.as_dict() for name, survey in findings.topics.items()},
        'inputs': None
        if inputs is None or findings.missing
        else {
            'input': inputs.settings.input,
            'focus_source': inputs.settings.focus_source,
            'image': inputs.image,
            'camera_info': inputs.camera_info,
            'remap': inputs.remap,
        },
        'missing': findings.missing,
        'sweeps': [
            {
                'sweep_id': s.sweep_id,
                'start_ns': s.start_ns,
                'seconds': s.seconds,
                'focus_dioptres': list(s.focus_dioptres),
                'flags': list(s.flags),
            }
            for s in findings.sweeps
        ],
        'focus_histogram': [
            {
                'focus_dioptres': None if math.isnan(focus) else focus,
                'state': state,
                'count': count,
            }
            for (focus, state), count in _focus(findings)
        ],
        'funnel': {}
        if stage_counter is None
        else {stage.value: count for stage, count in stage_counter.counts.items()},
        'rejected': []
        if stage_counter is None
        else [
            {'stage': r.stage.value, 'reason': r.reason, 'count': r.count, 'last': r.text}
            for r in stage_counter.rejections
        ],
        'sheet': None if arguments.sheet is None else str(arguments.sheet),
    }


def _print(arguments: argparse.Namespace, findings: BagInspection, duration: float) -> None:
    echo(f'{arguments.bag}: {duration:.3f} s, {len(findings.topics)} topics')
    for name, survey in findings.topics.items():
        rate = '' if survey.rate is None else f', {survey.rate:.1f} Hz'
        echo(f'  {name} [{survey.topic.message_type}] {survey.count} messages{rate}')
        for text, count in survey.formats.most_common():
            echo(f'      {text}: {count}')
        if survey.header_first_ns is not None and survey.header_last_ns is not None:
            echo(
                f'      header stamps {survey.header_first_ns * 1e-9:.3f} to '
                f'{survey.header_last_ns * 1e-9:.3f} s'
            )
        for text, count in (
            ('go back', survey.backward),
            ('repeat the last', survey.repeated),
            ('are zero', survey.zero),
        ):
            if count:
                echo(f'      {count} stamps {text}')
        for text, count in survey.refused.items():
            echo(f'      {count} would be refused: {text}')
        if survey.undecodable:
            echo(f'      {survey.undecodable} messages cannot be decoded')
    _print_focus(findings)
    if findings.missing:
        echo('sweeps: none can be looked for: ' + '; '.join(findings.missing))
        return
    inputs = findings.inputs
    assert inputs is not None
    echo(
        f'sweeps: {len(findings.sweeps)} from {inputs.image}, calibration '
        f'{inputs.camera_info or "none"}'
    )
    for sweep in findings.sweeps[:_SWEEPS_PRINTED]:
        focus = ' '.join(f'{dioptres:.2f}' for dioptres in sweep.focus_dioptres)
        flags = f' ({", ".join(sweep.flags)})' if sweep.flags else ''
        echo(
            f'  {sweep.sweep_id} at {sweep.start_ns * 1e-9:.3f} s, {sweep.seconds:.3f} s, '
            f'{len(sweep.focus_dioptres)} planes: {focus} dioptres{flags}'
        )
    if len(findings.sweeps) > _SWEEPS_PRINTED:
        echo(f'  … and {len(findings.sweeps) - _SWEEPS_PRINTED} more')
    why = _why(findings)
    echo(f'rejected: {why}' if why else 'rejected: nothing')
    if arguments.sheet is not None:
        echo(f'contact sheet: {arguments.sheet}')


def _print_focus(findings: BagInspection) -> None:
    counts = _focus(findings)
    if not counts:
        return
    echo('focus (dioptres):')
    most = max(count for _, count in counts)
    for (focus, state), count in counts:
        bar = '#' * max(1, round(_BAR * count / most))
        value = 'unknown' if math.isnan(focus) else f'{focus:7.2f}'
        echo(f'  {value} {state:<8} {count:6d} {bar}')


def _focus(findings: BagInspection) -> list[tuple[tuple[float, str], int]]:
    """Return how often each focus was reported, or used where nothing reports it."""
    counts: Counter[tuple[float, str]] = Counter()
    for survey in findings.topics.values():
        counts.update(survey.focus)
    if not counts:
        for sweep in findings.sweeps:
            counts.update((round(focus, 2), 'used') for focus in sweep.focus_dioptres)
    return sorted(counts.items(), key=lambda item: (math.isnan(item[0][0]), item[0]))


def _why(findings: BagInspection) -> str:
    if findings.missing:
        return '; '.join(findings.missing)
    if findings.stage_counter is None:
        return ''
    return ''.join(
        f'\n  {r.count} not {r.stage.value}: {r.reason}, such as: {r.text}'
        for r in findings.stage_counter.rejections
    )
