# SPDX-License-Identifier: Apache-2.0
"""``dualfocus replay``: the messages of a bag on live topics, and its time on ``/clock``."""

from __future__ import annotations

import argparse
import json
import logging
import math
from pathlib import Path
import time
from typing import Any

from dualfocus_ros.bags.player import BagPlayer
from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.bags.replay_schedule import Replay, ReplayCounts, ReplaySettings
from dualfocus_ros.cli.bag_arguments import open_bag
from dualfocus_ros.cli.bag_topics import absolute_name, is_output_topic, parse_remaps
from dualfocus_ros.cli.console import echo
from dualfocus_ros.cli.keyboard import keys, sleep
from dualfocus_ros.cli.live_node import live_node
from dualfocus_ros.exceptions import CommandError, UsageError

logger = logging.getLogger(__name__)

# Made by whoever runs now; those of the bag would contradict them.
_NOT_PLAYED = ('/clock', '/rosout', '/parameter_events', '/diagnostics', '/diagnostics_agg')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.add_argument('bag', type=Path, metavar='BAG', help='folder, .mcap or .db3')
    parser.add_argument(
        '--rate',
        type=float,
        default=1.0,
        metavar='R',
        help='times faster than recorded; 0 for as fast as possible (default 1)',
    )
    parser.add_argument('--loop', action='store_true', help='begin anew at the end, for ever')
    parser.add_argument('--loops', type=int, metavar='N', help='play N times')
    parser.add_argument(
        '--loop-delay',
        type=float,
        default=1.0,
        metavar='S',
        help='let the time stand still between loops, for what is still being computed '
        '(default 1)',
    )
    parser.add_argument(
        '--start-offset', type=float, default=0.0, metavar='S', help='leave out the first seconds'
    )
    parser.add_argument('--duration', type=float, metavar='S', help='play so many seconds of it')
    parser.add_argument('--paused', action='store_true', help='begin with a pause')
    parser.add_argument(
        '--topics',
        nargs='+',
        metavar='TOPIC',
        help='play these; by default all but outputs of the depth node and diagnostics',
    )
    parser.add_argument('--all', action='store_true', help='play outputs and diagnostics too')
    parser.add_argument(
        '-r',
        '--remap',
        action='append',
        default=[],
        metavar='FROM:=TO',
        help='publish a topic of the bag under another name',
    )
    parser.add_argument('--no-clock', action='store_true', help='do not publish /clock')
    parser.add_argument(
        '--wait',
        type=float,
        default=3.0,
        metavar='S',
        help='wait for so long until every topic has a subscriber (default 3)',
    )
    parser.add_argument('--json', action='store_true', help='print what was played as JSON')
    parser.epilog = (
        'Keys, where a terminal is attached: space pauses and goes on, s plays to the next sweep '
        'and pauses, q ends. Let nodes use the time of the bag: use_sim_time:=true.'
    )


def execute(arguments: argparse.Namespace) -> int:
    """Play the bag; Ctrl-C ends it and is no failure."""
    if arguments.loops is not None and arguments.loops < 1:
        raise UsageError(f'--loops takes 1 or more, got {arguments.loops}')
    try:
        settings = ReplaySettings(
            rate=arguments.rate,
            start_offset=arguments.start_offset,
            duration=math.inf if arguments.duration is None else arguments.duration,
            loops=0 if arguments.loop else arguments.loops or 1,
            loop_delay=arguments.loop_delay,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None
    remap = parse_remaps(arguments)
    with open_bag(arguments.bag) as bag:
        topics = _topics(arguments, bag)
        counts = ReplayCounts()
        try:
            with live_node('dualfocus_replay') as node:
                player = BagPlayer(node, bag, topics, remap)
                for topic, why in player.skipped.items():
                    logger.warning('%s is not played: %s', topic, why)
                if not player.topics:
                    raise CommandError(f'{arguments.bag} has nothing that can be played')
                topics = sorted(player.topics)
                counts = _play(arguments, settings, bag, player, node)
        except KeyboardInterrupt:  # before the first message
            logger.info('ended by a signal')
    if arguments.json:
        echo(
            json.dumps(
                {
                    'bag': str(arguments.bag),
                    'messages': counts.messages,
                    'loops': counts.loops,
                    'topics': topics,
                },
                indent=2,
            )
        )
    else:
        logger.info('%d messages in %d whole loops', counts.messages, counts.loops)
    return 0


def _topics(arguments: argparse.Namespace, bag: BagReader) -> list[str]:
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
    return [topic for topic in known if topic not in _NOT_PLAYED and not is_output_topic(topic)]


def _play(
    arguments: argparse.Namespace,
    settings: ReplaySettings,
    bag: BagReader,
    player: BagPlayer,
    node: Any,
) -> ReplayCounts:
    from rosgraph_msgs.msg import Clock

    publisher = None if arguments.no_clock else node.create_publisher(Clock, '/clock', 10)
    clock = Clock()

    def publish_clock(stamp_ns: int) -> None:
        if publisher is not None:
            clock.clock.sec, clock.clock.nanosec = divmod(stamp_ns, 1_000_000_000)
            publisher.publish(clock)

    with keys() as wait:
        replay = Replay(
            bag,
            player.topics,
            settings,
            player.publish,
            publish_clock,
            wait,
            paused=arguments.paused,
            on_state=logger.info,
        )
        if wait is not sleep:
            logger.info('keys: space pauses and goes on, s steps to the next sweep, q ends')
        try:
            _wait_for_listeners(arguments.wait, player)
            replay.run()
            # The last messages are to arrive before the publishers go.
            player.wait_until_received(2.0)
        except KeyboardInterrupt:
            logger.info('ended by a signal')
        return replay.counts


def _wait_for_listeners(seconds: float, player: BagPlayer) -> None:
    until = time.monotonic() + seconds
    while not player.subscribed and time.monotonic() < until:
        time.sleep(0.02)
    if not player.subscribed:
        logger.info('not every topic has a subscriber: playing anyway')
