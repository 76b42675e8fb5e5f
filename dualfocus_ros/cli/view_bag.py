# SPDX-License-Identifier: Apache-2.0
"""Sweeps of a bag for ``dualfocus view``, recorded or computed."""

from __future__ import annotations

import argparse
import logging
from typing import Any

from dualfocus_ros.bags.reader import BagError, BagReader
from dualfocus_ros.cli.bag_arguments import (
    camera_info_from,
    format_rejections,
    open_bag,
    parameters_from,
    topic_options,
)
from dualfocus_ros.cli.console import progress_bar
from dualfocus_ros.cli.ros_environment import require_ros
from dualfocus_ros.exceptions import CommandError, UsageError
from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.nodes.offline.bag_inputs import BagInputs, find_inputs
from dualfocus_ros.nodes.parameters.derived_settings import estimator_settings
from dualfocus_ros.stamps import to_ns
from dualfocus_ros.topics import DEPTH, IMAGE
from dualfocus_ros.visualization.output_collector import (
    OUTPUTS,
    OutputCollector,
    OutputMessages,
    format_stamp,
)
from dualfocus_ros.visualization.sweep_view import SweepView, add_focus_curves, compute_sweep_view

logger = logging.getLogger(__name__)


def read_sweeps(arguments: argparse.Namespace, path: Any) -> list[SweepView]:
    """Return the selected sweeps.

    Recorded outputs of the depth node are shown unchanged; planes and focus curves are computed
    if the bag has the images as well.

    :raises CommandError: if there is nothing to show.
    """
    parameters = parameters_from(arguments)
    with open_bag(path) as bag:
        topics = {} if arguments.recompute else _recorded_topics(arguments, bag)
        recorded = _recorded_outputs(arguments, bag, topics) if topics else []
        try:
            inputs = find_inputs(bag, parameters, topic_options(arguments))
            missing = inputs.missing
        except UsageError:
            if not recorded:
                raise
            inputs, missing = None, ['the image topic of the recorded depth is ambiguous']
        if inputs is None or missing or arguments.no_network:
            if not recorded:
                reason = '; '.join(missing) or 'it has no depth, and --no-network is set'
                raise CommandError(f'{path}: {reason}')
            return [_recorded_view(outputs, n) for n, outputs in enumerate(recorded)]
        require_ros('dualfocus_ros.nodes.offline.offline_node')
        return _computed_views(arguments, bag, inputs, recorded)


def _recorded_view(outputs: OutputMessages, number: int) -> SweepView:
    """Return a recorded sweep without planes and focus curves."""
    try:
        return outputs.sweep(f'{number}: depth at {format_stamp(outputs.stamp_ns)}')
    except ValueError as error:
        raise CommandError(f'depth at {format_stamp(outputs.stamp_ns)}: {error}') from None


def _recorded_topics(arguments: argparse.Namespace, bag: BagReader) -> dict[str, str]:
    """Return the recorded outputs by relative name; none without depth."""
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


def _recorded_outputs(
    arguments: argparse.Namespace, bag: BagReader, topics: dict[str, str]
) -> list[OutputMessages]:
    """Return the selected depth images with all outputs of their stamps."""
    stamps: list[int] = []
    for number, message in enumerate(bag.messages([topics[DEPTH.name]])):
        if _is_selected(arguments, number):
            try:
                stamps.append(to_ns(message.message.header.stamp))
            except BagError as error:
                logger.warning('%s', error)
        if len(stamps) >= arguments.sweeps:
            break
    collector = OutputCollector(topics, len(stamps) + 1)
    found: dict[int, OutputMessages] = {}
    for message in bag.messages(list(topics.values())):
        try:
            decoded = message.message
        except BagError as error:
            logger.warning('%s', error)
            continue
        if to_ns(decoded.header.stamp) in stamps:
            outputs = collector.add(message.topic, decoded)
            found[outputs.stamp_ns] = outputs
    return [found[stamp] for stamp in stamps if DEPTH.name in found[stamp].messages]


def _is_selected(arguments: argparse.Namespace, number: int) -> bool:
    after = number - arguments.first
    return after >= 0 and after % arguments.every == 0


def _computed_views(
    arguments: argparse.Namespace,
    bag: BagReader,
    inputs: BagInputs,
    recorded: list[OutputMessages],
) -> list[SweepView]:
    """Run the stacks of the bag through the network and merge them with recorded outputs."""
    from dualfocus_ros.nodes.offline.offline_node import OfflinePipeline
    from dualfocus_ros.nodes.stack_processor import load_estimator

    estimator = load_estimator(inputs.settings)
    settings = estimator_settings(inputs.settings)
    views: dict[int, SweepView] = {}
    total = len(recorded) or arguments.sweeps
    count = 0

    def on_stack(stack: FocalStack) -> None:
        nonlocal count
        if len(views) >= total:
            return
        name = f'{count}: sweep {stack.sweep_id} at {format_stamp(stack.planes[0].stamp_ns)}'
        if recorded:
            match = _matching_output(recorded, {plane.stamp_ns for plane in stack.planes})
            if match is not None and match not in views:
                computed = compute_sweep_view(stack, estimator, settings, name)
                views[match] = add_focus_curves(_recorded_view(recorded[match], match), computed)
                bar.update()
        elif _is_selected(arguments, count):
            views[count] = compute_sweep_view(stack, estimator, settings, name)
            bar.update()
        count += 1

    camera = camera_info_from(arguments, bag, inputs)
    pipeline = OfflinePipeline(inputs, camera, on_stack)
    with progress_bar('computing', total=total, unit='sweep') as bar:
        for message in bag.messages([name for name in bag.topics if name in pipeline.topics]):
            pipeline.take(message)
            if len(views) >= total:
                break
        else:
            pipeline.finish()
    for number, outputs in enumerate(recorded):
        if number not in views:
            views[number] = _recorded_view(outputs, number)
            logger.warning(
                'no images of the depth at %s: no planes, no focus curves',
                format_stamp(outputs.stamp_ns),
            )
    if not views:
        reasons = format_rejections(pipeline.stage_counter.snapshot())
        raise CommandError(
            f'{bag.path}: no sweep to show; it has {count}, and --first is {arguments.first}'
            + (f'; rejected: {reasons}' if reasons else '')
        )
    return [views[number] for number in sorted(views)]


def _matching_output(recorded: list[OutputMessages], stamps: set[int]) -> int | None:
    """Return the index of the outputs that were computed from images with these stamps."""
    for index, outputs in enumerate(recorded):
        known = outputs.plane_stamps_ns
        if set(known) == stamps if known else min(stamps) <= outputs.stamp_ns <= max(stamps):
            return index
    return None
