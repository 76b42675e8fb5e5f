# SPDX-License-Identifier: Apache-2.0
"""``dualfocus view``: sweeps with depth in a browser, from a bag or live topics."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path
import re
from typing import Any
import webbrowser

from dualfocus_ros.cli.arguments import add_json_argument, add_number, positive_int
from dualfocus_ros.cli.bag_arguments import add_bag_arguments
from dualfocus_ros.cli.console import echo, echo_json
from dualfocus_ros.cli.ros_environment import require_ros
from dualfocus_ros.cli.view_server import announce, start_server
from dualfocus_ros.exceptions import UsageError
from dualfocus_ros.io.atomic_files import write_text
from dualfocus_ros.nodes.offline.bag_inputs import absolute_name

logger = logging.getLogger(__name__)

_TOPIC = re.compile(r'/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*|/')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.add_argument(
        'source',
        nargs='*',
        metavar='BAG|TOPICS',
        help='bag (folder, .mcap or .db3), or namespace or topics of a running depth node',
    )
    parser.add_argument(
        '-o', '--output', type=Path, metavar='HTML', help='write the page instead of serving it'
    )
    parser.add_argument(
        '--live', action='store_true', help='show a running depth node, by default the only one'
    )
    sweeps = parser.add_argument_group('sweeps of a bag')
    add_number(sweeps, '--sweeps', 'N', 4, 'show at most N', positive_int)
    add_number(sweeps, '--first', 'N', 0, 'start with sweep N, counted from 0')
    add_number(sweeps, '--every', 'N', 1, 'show every Nth', positive_int)
    sweeps.add_argument(
        '--recompute', action='store_true', help='compute depth even if the bag has it'
    )
    sweeps.add_argument(
        '--no-network',
        action='store_true',
        help='show recorded outputs only, without planes and focus curves',
    )
    sweeps.add_argument(
        '--depth-topic', metavar='TOPIC', help='depth topic, if the bag has several'
    )
    live = parser.add_argument_group('live')
    live.add_argument(
        '--curves',
        action='store_true',
        help='run the network here as well, for the focus curves; costs as much as the node',
    )
    live.add_argument('--use-sim-time', action='store_true', help='follow /clock')
    page = parser.add_argument_group('page')
    page.add_argument(
        '--range',
        nargs=2,
        type=float,
        metavar=('NEAR', 'FAR'),
        help='ends of the depth scale in metres (default: range of the depth shown)',
    )
    page.add_argument('--title', help='page title')
    page.add_argument(
        '--host',
        default='127.0.0.1',
        help='address to serve at (default 127.0.0.1: this machine only)',
    )
    add_number(page, '--port', 'PORT', 8090, 'port to serve at; 0 for any')
    page.add_argument('--open', action='store_true', help='open a browser')
    add_json_argument(parser)
    add_bag_arguments(parser)
    parser.epilog = (
        'The page is one file that loads nothing else. Depth of a bag is shown as recorded, or '
        'computed if absent; focus curves are always computed. Ctrl-C stops the server.'
    )


def execute(arguments: argparse.Namespace) -> int:
    """Write or serve the page."""
    _check(arguments)
    bag = _bag_path(arguments)
    if bag is None:
        require_ros('dualfocus_ros.nodes.messages.input_messages')
        from dualfocus_ros.cli.view_live import show_live

        return show_live(arguments, [absolute_name(name) for name in arguments.source])
    if arguments.output is None:
        # Started first, so that an unusable address fails before the sweeps are computed.
        with start_server(arguments, '') as server:
            page, summary = _bag_page(arguments, bag)
            server.page = page
            announce(arguments, server.url, {**summary, 'url': server.url})
            server.wait()
        return 0
    page, summary = _bag_page(arguments, bag)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_text(arguments.output, page)
    if arguments.json:
        echo_json({**summary, 'output': str(arguments.output)})
    else:
        echo(
            f'{len(summary["sweeps"])} sweeps, {summary["bytes"] / 1e6:.2f} MB: {arguments.output}'
        )
    if arguments.open:
        webbrowser.open(arguments.output.resolve().as_uri())
    return 0


def _bag_page(arguments: argparse.Namespace, bag: Path) -> tuple[str, dict[str, Any]]:
    """Return the page of a bag and its summary."""
    from dualfocus_ros.cli.view_bag import read_sweeps
    from dualfocus_ros.visualization.sweep_encoding import encode_scales, encode_sweep
    from dualfocus_ros.visualization.sweep_page import build_page

    sweeps = read_sweeps(arguments, bag)
    scales = encode_scales(sweeps, None if arguments.range is None else tuple(arguments.range))
    page = build_page(
        arguments.title or str(bag), [encode_sweep(sweep, scales) for sweep in sweeps]
    )
    return page, {
        'bag': str(bag),
        'bytes': len(page.encode()),
        'sweeps': [
            {
                'name': sweep.name,
                'width': sweep.depth.shape[1],
                'height': sweep.depth.shape[0],
                'planes': 0 if sweep.planes is None else len(sweep.planes),
                'curves': sweep.probability is not None,
            }
            for sweep in sweeps
        ],
    }


def _check(arguments: argparse.Namespace) -> None:
    if arguments.first < 0:
        raise UsageError(f'--first takes 0 or more, got {arguments.first}')
    if arguments.range is not None and not 0.0 < arguments.range[0] < arguments.range[1]:
        raise UsageError(
            '--range takes two distances in metres, the nearer one first, got '
            f'{arguments.range[0]:g} {arguments.range[1]:g}'
        )
    if not 0 <= arguments.port <= 65535:
        raise UsageError(f'--port takes 0 to 65535, got {arguments.port}')
    if arguments.depth_topic is not None:
        arguments.depth_topic = absolute_name(arguments.depth_topic)


def _bag_path(arguments: argparse.Namespace) -> Path | None:
    """Return the bag that the arguments name; None for live topics.

    :raises UsageError: if they name neither.
    """
    names: list[str] = arguments.source
    if not arguments.live:
        if not names:
            raise UsageError('give a bag, or --live for a running depth node')
        if any(Path(name).exists() for name in names):
            if len(names) > 1:
                raise UsageError(f'got {len(names)} sources; give one bag')
            return Path(names[0])
        if not all(name.startswith('/') and _TOPIC.fullmatch(name) for name in names):
            raise UsageError(f'{names[0]} is neither an existing bag nor a topic such as /depth')
    for name in names:
        if not _TOPIC.fullmatch(name):
            raise UsageError(f'{name!r} is not the name of a topic or a namespace')
    if arguments.output is not None:
        missing = '' if arguments.live else f'there is no bag {names[0]}, and '
        raise UsageError(
            f'{missing}a live view cannot be written to a file: record it (dualfocus record '
            '--outputs), then dualfocus view BAG -o page.html'
        )
    return None
