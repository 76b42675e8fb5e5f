# SPDX-License-Identifier: Apache-2.0
"""The sweeps of a bag for ``dualfocus view``: as they were recorded, or computed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
import logging
from typing import Any

from tqdm import tqdm

from dualfocus_ros.bags.reader import BagError, BagReader
from dualfocus_ros.cli import camera_arguments, parameter_arguments
from dualfocus_ros.cli.bag_arguments import format_rejections, open_bag, topic_options
from dualfocus_ros.cli.ros_environment import require_ros
from dualfocus_ros.exceptions import CommandError, UsageError
from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.nodes.bag_inputs import BagInputs, find_inputs
from dualfocus_ros.topics import DEPTH, IMAGE
from dualfocus_ros.visualization.output_collector import (
    OUTPUTS,
    OutputCollector,
    OutputMessages,
    format_stamp,
    to_ns,
)
from dualfocus_ros.visualization.sweep_view import SweepView

logger = logging.getLogger(__name__)


class _EnoughError(Exception):
    """All sweeps that were asked for are there."""


def read_sweeps(arguments: argparse.Namespace, path: Any) -> list[SweepView]:
    """Return the sweeps that the user asked for.

    What the bag has of the depth node's outputs is shown as it is; planes and focus curves are
    computed for it where the bag has the images too.

    :raises CommandError: if there is nothing to show.
    """
    parameters = parameter_arguments.parameters_from(arguments)
    with open_bag(path) as bag:
        topics = {} if arguments.recompute else _recorded_topics(arguments, bag)
        recorded = _recorded(arguments, bag, topics) if topics else []
        try:
            inputs = find_inputs(bag, parameters, topic_options(arguments))
            missing = inputs.missing
        except UsageError:
            if not recorded:
                raise
            inputs, missing = None, ['which images depth was computed from is not clear']
        if inputs is None or missing or arguments.no_network:
            if not recorded:
                why = '; '.join(missing) or 'it has no depth, and --no-network forbids to compute'
                raise CommandError(f'{path}: {why}')
            return recorded_only(recorded)
        require_ros('dualfocus_ros.nodes.offline')
        found = _computed(arguments, bag, inputs, recorded)
        return found or recorded_only(recorded)


def recorded_only(recorded: list[OutputMessages]) -> list[SweepView]:
    """Return sweeps without planes and curves."""
    return [_as_recorded(outputs, n) for n, outputs in enumerate(recorded)]


def _as_recorded(outputs: OutputMessages, number: int) -> SweepView:
    try:
        return outputs.sweep(f'{number}: depth at {format_stamp(outputs.stamp_ns)}')
    except ValueError as error:
        raise CommandError(f'depth at {format_stamp(outputs.stamp_ns)}: {error}') from None


def _recorded_topics(arguments: argparse.Namespace, bag: BagReader) -> dict[str, str]:
    """Return the outputs that the bag has, by relative name; empty without depth."""
    types = {name: topic.message_type for name, topic in bag.topics.items() if topic.count}
    found = [
        name for name, kind in types.items() if kind == IMAGE and name.endswith(f'/{DEPTH.name}')
    ]
    if arguments.depth_topic is not None:
        if arguments.depth_topic not in found:
            raise UsageError(
                f'the bag has no depth on {arguments.depth_topic}; it has depth on '
                f'{", ".join(found) or "no topic"}'
            )
        found = [arguments.depth_topic]
    if len(found) > 1:
        raise UsageError(
            f'the bag has depth of several nodes, {", ".join(found)}: choose one with '
            f'--depth-topic {found[0]}'
        )
    if not found:
        return {}
    base = found[0].removesuffix(DEPTH.name)
    return {
        relative: base + relative
        for relative, kind in OUTPUTS.items()
        if types.get(base + relative) == kind
    }


def _recorded(
    arguments: argparse.Namespace, bag: BagReader, topics: dict[str, str]
) -> list[OutputMessages]:
    """Return the depth images that were asked for with all that has their stamps."""
    wanted: list[int] = []
    for number, message in enumerate(bag.messages([topics[DEPTH.name]])):
        if _chosen(arguments, number):
            try:
                wanted.append(to_ns(message.message.header.stamp))
            except BagError as error:
                logger.warning('%s', error)
        if len(wanted) >= arguments.sweeps:
            break
    gatherer = OutputCollector(topics, len(wanted) + 1)
    found: dict[int, OutputMessages] = {}
    for message in bag.messages(list(topics.values())):
        try:
            decoded = message.message
        except BagError as error:
            logger.warning('%s', error)
            continue
        if to_ns(decoded.header.stamp) in wanted:
            outputs = gatherer.take(message.topic, decoded)
            found[outputs.stamp_ns] = outputs
    return [found[stamp] for stamp in wanted if DEPTH.name in found[stamp].messages]


def _chosen(arguments: argparse.Namespace, number: int) -> bool:
    after = number - arguments.first
    return after >= 0 and after % arguments.every == 0


def _computed(
    arguments: argparse.Namespace,
    bag: BagReader,
    inputs: BagInputs,
    recorded: list[OutputMessages],
) -> list[SweepView]:
    """Run the stacks of the bag through the network, as many as were asked for."""
    from dualfocus_ros.nodes.offline import OfflineNode, OfflinePipeline
    from dualfocus_ros.nodes.stack_processor import load_estimator
    from dualfocus_ros.visualization.sweep_computation import add_focus_curves, compute_sweep_view

    estimator = load_estimator(inputs.settings)
    settings = inputs.settings.pipeline()
    shown: dict[int, SweepView] = {}
    total = len(recorded) or arguments.sweeps
    seen = 0

    def look(stack: FocalStack) -> None:
        nonlocal seen
        name = f'{seen}: sweep {stack.sweep_id} at {format_stamp(stack.planes[0].stamp_ns)}'
        if recorded:
            stamps = {plane.stamp_ns for plane in stack.planes}
            match = next(
                (n for n, outputs in enumerate(recorded) if _made_of(outputs, stamps)), None
            )
            if match is not None and match not in shown:
                computed = compute_sweep_view(stack, estimator, settings, name)
                shown[match] = add_focus_curves(_as_recorded(recorded[match], match), computed)
                bar.update()
        elif _chosen(arguments, seen):
            shown[seen] = compute_sweep_view(stack, estimator, settings, name)
            bar.update()
        seen += 1
        if len(shown) >= total:
            raise _EnoughError

    camera = camera_arguments.camera_info_from(arguments, bag, inputs)
    node = OfflineNode(inputs.remap, (), lambda topic, message: None)
    pipeline = OfflinePipeline(inputs.settings, node, None, camera, look)
    with _bar(total) as bar:
        try:
            for message in bag.messages([name for name in bag.topics if name in pipeline.topics]):
                pipeline.take(message)
            pipeline.finish()
        except _EnoughError:
            pass
    for number, outputs in enumerate(recorded):
        if number not in shown:
            shown[number] = _as_recorded(outputs, number)
            logger.warning(
                'no images of the depth at %s: no planes, no focus curves',
                format_stamp(outputs.stamp_ns),
            )
    if not shown:
        why = format_rejections(pipeline.stage_counter.snapshot())
        raise CommandError(
            f'{bag.path}: nothing to show of {seen} sweeps from number {arguments.first} on'
            + (f'; rejected: {why}' if why else '')
        )
    return [shown[number] for number in sorted(shown)]


def _made_of(outputs: OutputMessages, stamps: set[int]) -> bool:
    """Whether depth was computed of the images with these stamps."""
    known = outputs.plane_stamps_ns
    return set(known) == stamps if known else min(stamps) <= outputs.stamp_ns <= max(stamps)


@contextmanager
def _bar(total: int) -> Iterator[Any]:
    quiet = not logger.isEnabledFor(logging.INFO)
    with tqdm(
        total=total, desc='computing', unit='sweep', leave=False, disable=True if quiet else None
    ) as bar:
        yield bar
