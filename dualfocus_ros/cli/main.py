# SPDX-License-Identifier: Apache-2.0
"""The ``dualfocus`` command.

A subcommand is a module with ``add_arguments(parser)`` and ``execute(arguments) -> int``, which
is imported only when it is used: ``dualfocus --help`` needs neither torch nor ROS.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
import logging
import os
import sys

from dualfocus_ros import __version__
from dualfocus_ros.exceptions import CommandError, UsageError

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

COMMANDS = {
    'estimate': 'depth, all-in-focus image and point cloud from the images of a focal stack',
    'record': 'live topics into a bag that survives a crash: inputs, or outputs as well',
    'inspect': 'what a bag holds, which sweeps, and why frames would be rejected',
    'view': 'sweeps with depth, cloud and focus curves in a browser: of a bag, or live',
    'process': 'depth from a bag, as the depth node computes it, without DDS',
    'replay': 'the messages of a bag on live topics, with its time on /clock',
    'completion': 'what makes a shell complete the words of this command',
    'run': 'start a node of this package (ros2 run for machines without ros2)',
    'demo': 'simulated camera, sweep and depth over DDS; measure against the truth',
    'calibrate': 'focus scale, breathing, settling or blur of a lens, as parameters of the nodes',
    'optics': 'what depth a lens can tell: expected error, range limit, suggested sweep',
    'train': 'train the network',
    'export': 'the network as ONNX for other runtimes, checked against PyTorch',
    'evaluate': 'measure methods side by side on data sets: tables, JSON, figures',
    'benchmark': 'how long methods take here, stage by stage and over DDS: tables, JSON, figure',
}

logger = logging.getLogger('dualfocus_ros')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its status: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    if '_ARGCOMPLETE' in os.environ:
        _complete()
    if os.environ.get('NO_COLOR'):
        # ROS's own loggers know only this name.
        os.environ.setdefault('RCUTILS_COLORIZED_OUTPUT', '0')
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in arguments if not word.startswith('-')), None)
    parser = _parser(chosen)
    rest: list[str] = []
    if chosen == 'run':
        # What follows a node's name belongs to the node, options and all.
        end = arguments.index('run') + 2
        arguments, rest = arguments[:end], arguments[end:]
    try:
        known = parser.parse_args(arguments)
    except SystemExit as leaving:  # argparse has printed help, a version or what is wrong
        return int(leaving.code or 0)
    known.rest = rest
    _start_logging(known)
    try:
        return int(known.execute(known))
    except KeyboardInterrupt:
        if known.debug:
            raise
        logger.error('interrupted')
        return INTERRUPTED
    except BrokenPipeError:  # `dualfocus … | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (CommandError, ValueError, OSError, ImportError) as error:
        if known.debug:
            raise
        logger.error('%s', _one_line(error))
        return USAGE if isinstance(error, UsageError) else FAILED


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    """Return the parser, with the arguments of the chosen subcommand only."""
    parser = argparse.ArgumentParser(
        prog='dualfocus',
        description='Metric depth from a camera whose focus can be driven (DualFocus).',
        epilog='dualfocus COMMAND --help tells more about a command.',
    )
    parser.add_argument('--version', action='version', version=f'dualfocus {__version__}')
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    for name, summary in COMMANDS.items():
        module = f'dualfocus_ros.cli.{name}'
        if find_spec(module) is None:
            continue
        sentence = f'{summary[0].upper()}{summary[1:]}.'
        sub = commands.add_parser(name, help=summary, description=sentence)
        if name != chosen:
            continue
        implementation = import_module(module)
        implementation.add_arguments(sub)
        sub.set_defaults(execute=implementation.execute)
        messages = sub.add_argument_group('messages')
        messages.add_argument('--quiet', action='store_true', help='only warnings and errors')
        messages.add_argument(
            '--debug', action='store_true', help='more messages, and a traceback on failure'
        )
    return parser


def _complete() -> None:
    """Answer a shell that asks how a line may go on, and leave; only with argcomplete."""
    try:
        import argcomplete
    except ImportError:
        sys.exit(FAILED)
    line = os.environ.get('COMP_LINE', '')[: int(os.environ.get('COMP_POINT', '0') or 0)]
    words = line.split()[1:]
    if words and not line.endswith(' '):
        words.pop()  # which is not finished
    chosen = next((word for word in words if not word.startswith('-')), None)
    argcomplete.autocomplete(_parser(chosen), always_complete_options='long')


class _Format(logging.Formatter):
    """Plain text for information, with the level in front of anything worse."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.levelno <= logging.INFO:
            return text
        return f'dualfocus: {record.levelname.lower()}: {text}'


def _start_logging(arguments: argparse.Namespace) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Format())
    logger.handlers[:] = [handler]
    logger.propagate = False
    level = logging.DEBUG if arguments.debug else logging.INFO
    logger.setLevel(logging.WARNING if arguments.quiet else level)


def _one_line(error: BaseException) -> str:
    text = ' '.join(str(error).split())
    return text or type(error).__name__


if __name__ == '__main__':
    sys.exit(main())
