# SPDX-License-Identifier: Apache-2.0
"""``dualfocus replay``: publish the messages of a bag, and its time on ``/clock``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
import logging
import math
from pathlib import Path
import time
from typing import Any

from dualfocus_ros.bags.player import BagPlayer, PlaybackCounts, PlaybackSettings, TopicPublisher
from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.cli.arguments import add_json_argument, add_number, non_negative, positive_int
from dualfocus_ros.cli.bag_arguments import add_remap_argument, open_bag, parse_remaps
from dualfocus_ros.cli.console import echo_json
from dualfocus_ros.cli.ros_environment import live_node
from dualfocus_ros.exceptions import CommandError, UsageError
from dualfocus_ros.nodes.offline.bag_inputs import absolute_name, is_output_topic

logger = logging.getLogger(__name__)

# Topics of running nodes, which recorded messages would contradict.
_LIVE_TOPICS = ('/clock', '/rosout', '/parameter_events', '/diagnostics', '/diagnostics_agg')
_ACKNOWLEDGEMENT_SECONDS = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.add_argument('bag', type=Path, metavar='BAG', help='folder, .mcap or .db3')
    speed = 'speed relative to the recording; 0 for as fast as possible'
    add_number(parser, '--rate', 'R', 1.0, speed, non_negative)
    parser.add_argument('--loop', action='store_true', help='repeat until interrupted')
    parser.add_argument('--loops', type=positive_int, metavar='N', help='play N times')
    delay = 'time for nodes to finish before the clock jumps back'
    add_number(parser, '--loop-delay', 'S', 1.0, delay, non_negative)
    add_number(parser, '--start-offset', 'S', 0.0, 'skip the first seconds', non_negative)
    parser.add_argument(
        '--duration',
        type=non_negative,
        default=math.inf,
        metavar='S',
        help='play this many seconds of the bag (default: all)',
    )
    parser.add_argument(
        '--topics',
        nargs='+',
        metavar='TOPIC',
        help='topics to play; by default all but outputs of the depth node and diagnostics',
    )
    parser.add_argument('--all', action='store_true', help='play outputs and diagnostics too')
    add_remap_argument(parser, 'publish a topic of the bag under another name')
    parser.add_argument('--no-clock', action='store_true', help='do not publish /clock')
    add_number(parser, '--wait', 'S', 3.0, 'longest wait for a subscriber on every topic')
    add_json_argument(parser)
    parser.epilog = 'Nodes follow the time of the bag with use_sim_time:=true.'


def execute(arguments: argparse.Namespace) -> int:
    """Play the bag until its end or Ctrl-C; both return 0."""
    settings = PlaybackSettings(
        rate=arguments.rate,
        start_offset=arguments.start_offset,
        duration=arguments.duration,
        loops=0 if arguments.loop else arguments.loops or 1,
        loop_delay=arguments.loop_delay,
    )
    remap = parse_remaps(arguments.remap)
    with open_bag(arguments.bag) as bag:
        topics = _selected_topics(arguments, bag)
        counts = PlaybackCounts()
        try:
            with live_node('dualfocus_replay') as node:
                publisher = TopicPublisher(node, bag, topics, remap)
                for topic, reason in publisher.skipped.items():
                    logger.warning('%s is not played: %s', topic, reason)
                if not publisher.topics:
                    raise CommandError(f'{arguments.bag} has no topic that can be played')
                topics = sorted(publisher.topics)
                clock = (lambda stamp_ns: None) if arguments.no_clock else _clock_publisher(node)
                player = BagPlayer(bag, topics, settings, publisher.publish, clock)
                counts = player.counts
                _wait_for_subscribers(arguments.wait, publisher)
                player.run()
                publisher.wait_for_acknowledgements(_ACKNOWLEDGEMENT_SECONDS)
        except KeyboardInterrupt:
            logger.info('ended by a signal')
    if arguments.json:
        summary = {
            'bag': str(arguments.bag),
            'messages': counts.messages,
            'loops': counts.loops,
            'topics': topics,
        }
        echo_json(summary)
    else:
        logger.info('%d messages in %d complete loops', counts.messages, counts.loops)
    return 0


def _selected_topics(arguments: argparse.Namespace, bag: BagReader) -> list[str]:
    known = bag.topics
    if arguments.topics:
        chosen = [absolute_name(topic) for topic in arguments.topics]
        missing = [topic for topic in chosen if topic not in known]
        if missing:
            raise UsageError(
                f'{arguments.bag} has no topic {", ".join(missing)}; it has '
                f'{", ".join(sorted(known)) or "none"}'
            )
        return chosen
    if arguments.all:
        return [topic for topic in known if topic != '/clock']
    return [topic for topic in known if topic not in _LIVE_TOPICS and not is_output_topic(topic)]


def _clock_publisher(node: Any) -> Callable[[int], None]:
    """Return a function that publishes nanoseconds on ``/clock``."""
    from rosgraph_msgs.msg import Clock

    publisher = node.create_publisher(Clock, '/clock', 10)
    message = Clock()

    def publish(stamp_ns: int) -> None:
        message.clock.sec, message.clock.nanosec = divmod(stamp_ns, 1_000_000_000)
        publisher.publish(message)

    return publish


def _wait_for_subscribers(seconds: float, publisher: TopicPublisher) -> None:
    until = time.monotonic() + seconds
    while not publisher.all_subscribed and time.monotonic() < until:
        time.sleep(0.02)
    if not publisher.all_subscribed:
        logger.info('not every topic has a subscriber: playing anyway')
