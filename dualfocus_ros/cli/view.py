# SPDX-License-Identifier: Apache-2.0
"""``dualfocus view``: sweeps with their depth in a browser, from a bag or live."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
import re
from typing import Any
import webbrowser

from dualfocus_ros.cli import camera_arguments, parameter_arguments
from dualfocus_ros.cli.bag_arguments import add_topic_arguments
from dualfocus_ros.cli.console import echo
from dualfocus_ros.exceptions import CommandError, UsageError
from dualfocus_ros.io.atomic_files import write_text
from dualfocus_ros.nodes.bag_inputs import absolute_name

logger = logging.getLogger(__name__)

_TOPIC = re.compile(r'/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*|/')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.add_argument(
        'source',
        nargs='*',
        metavar='BAG|TOPICS',
        help='a bag (folder, .mcap or .db3); or the namespace or topics of a running depth node',
    )
    parser.add_argument(
        '-o', '--output', type=Path, metavar='HTML', help='write the page instead of serving it'
    )
    parser.add_argument(
        '--live', action='store_true', help='show a running depth node; without TOPICS, any'
    )
    sweeps = parser.add_argument_group('sweeps of a bag')
    sweeps.add_argument(
        '--sweeps', type=int, default=4, metavar='N', help='show at most N (default 4)'
    )
    sweeps.add_argument(
        '--first', type=int, default=0, metavar='N', help='begin with this one, from 0'
    )
    sweeps.add_argument(
        '--every', type=int, default=1, metavar='N', help='show every Nth (default 1)'
    )
    sweeps.add_argument(
        '--recompute', action='store_true', help='compute depth even if the bag has it'
    )
    sweeps.add_argument(
        '--no-network',
        action='store_true',
        help='show only what was recorded: no planes, no focus curves',
    )
    sweeps.add_argument('--depth-topic', metavar='TOPIC', help='depth, where there are several')
    live = parser.add_argument_group('live')
    live.add_argument(
        '--curves',
        action='store_true',
        help='run the network here too, for the focus curves: as much work as the node has',
    )
    live.add_argument('--use-sim-time', action='store_true', help='follow /clock')
    look = parser.add_argument_group('page')
    look.add_argument(
        '--range',
        nargs=2,
        type=float,
        metavar=('NEAR', 'FAR'),
        help='ends of the colours of depth, in metres (by default those of the depth shown)',
    )
    look.add_argument('--title', help='title of the page')
    look.add_argument(
        '--host',
        default='127.0.0.1',
        help='address to serve at (default 127.0.0.1: this machine only)',
    )
    look.add_argument(
        '--port', type=int, default=8090, help='port to serve at; 0 for any (default 8090)'
    )
    look.add_argument('--open', action='store_true', help='open a browser')
    parser.add_argument('--json', action='store_true', help='print the summary as JSON')
    add_topic_arguments(parser)
    camera_arguments.add_arguments(parser)
    parameter_arguments.add_arguments(parser)
    parser.epilog = (
        'One page with everything in it: no other file, no network. From a bag it shows the depth '
        'that was recorded, or computes it; the focus curve always needs the network. Ctrl-C ends '
        'the serving.'
    )


def execute(arguments: argparse.Namespace) -> int:
    """Write or serve the page."""
    _check(arguments)
    bag = _bag_of(arguments)
    if bag is None:
        from dualfocus_ros.cli.view_live import show_live

        return show_live(arguments, [absolute_name(name) for name in arguments.source])
    if arguments.output is None:
        # An address that cannot be had is found out before the sweeps are computed.
        with start_server(arguments, '') as server:
            page, summary = _page_of(arguments, bag)
            server.page = page
            announce(arguments, server.url, {**summary, 'url': server.url})
            server.wait()
        return 0
    page, summary = _page_of(arguments, bag)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    write_text(arguments.output, page)
    if arguments.json:
        echo(json.dumps({**summary, 'output': str(arguments.output)}, indent=2))
    else:
        echo(
            f'{len(summary["sweeps"])} sweeps, {summary["bytes"] / 1e6:.2f} MB: {arguments.output}'
        )
    if arguments.open:
        webbrowser.open(arguments.output.resolve().as_uri())
    return 0


def _page_of(arguments: argparse.Namespace, bag: Path) -> tuple[str, dict[str, Any]]:
    """Return the page of a bag and a summary of it."""
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


def start_server(arguments: argparse.Namespace, page: str) -> Any:
    """Return a server where the user wants it.

    :raises CommandError: if the address cannot be used.
    """
    from dualfocus_ros.visualization.page_server import PageServer

    try:
        return PageServer(page, arguments.host, arguments.port)
    except OSError as error:
        raise CommandError(
            f'cannot serve at {arguments.host}:{arguments.port}: {error.strerror or error}; '
            'choose another --port, or 0 for any'
        ) from None


def announce(arguments: argparse.Namespace, url: str, summary: dict[str, Any]) -> None:
    """Tell where the page is."""
    if arguments.json:
        echo(json.dumps(summary, indent=2))
    else:
        echo(url)
    logger.info('Ctrl-C ends it')
    if arguments.open:
        webbrowser.open(url)


def _check(arguments: argparse.Namespace) -> None:
    for name, least in (('sweeps', 1), ('first', 0), ('every', 1)):
        if getattr(arguments, name) < least:
            raise UsageError(f'--{name} takes {least} or more, got {getattr(arguments, name)}')
    if arguments.range is not None and not 0.0 < arguments.range[0] < arguments.range[1]:
        raise UsageError('--range takes two distances in metres, the nearer one first')
    if not 0 <= arguments.port <= 65535:
        raise UsageError(f'--port takes 0 to 65535, got {arguments.port}')
    if arguments.depth_topic is not None:
        arguments.depth_topic = absolute_name(arguments.depth_topic)


def _bag_of(arguments: argparse.Namespace) -> Path | None:
    """Return the bag that is meant; None for live topics.

    :raises UsageError: if it is neither.
    """
    names: list[str] = arguments.source
    if not arguments.live:
        if not names:
            raise UsageError('name a bag, or --live for a running depth node')
        if any(Path(name).exists() for name in names):
            if len(names) > 1:
                raise UsageError('one bag at a time')
            return Path(names[0])
        if not all(name.startswith('/') and _TOPIC.fullmatch(name) for name in names):
            raise UsageError(f'{names[0]} is neither a bag that exists nor a topic such as /depth')
    for name in names:
        if not _TOPIC.fullmatch(name):
            raise UsageError(f'{name!r} is not a name of a topic or a namespace')
    if arguments.output is not None:
        missing = '' if arguments.live else f'there is no bag {names[0]}; and '
        raise UsageError(
            f'{missing}a live view is served, not written: record first (dualfocus record '
            '--outputs), then dualfocus view BAG -o page.html'
        )
    return None
