# SPDX-License-Identifier: Apache-2.0
"""The ``dualfocus`` command.

A subcommand is a module of this package with ``add_arguments(parser)`` and ``execute(arguments) ->
int``, and its line in ``COMMANDS``. Only the chosen one is imported: ``dualfocus --help`` needs
neither torch nor ROS.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
import logging
import os
import sys
from typing import NoReturn

from dualfocus_ros import __version__
from dualfocus_ros.exceptions import CommandError, UsageError, one_line

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

COMMANDS = {
    'estimate': 'compute depth, all-in-focus image and point cloud of a focal stack',
    'record': 'record live topics into a bag: inputs of the depth node, optionally its outputs',
    'inspect': 'list topics, sweeps and rejected frames of a bag',
    'view': 'show sweeps with depth, cloud and focus curves in a browser: from a bag, or live',
    'process': 'compute depth from a bag as the depth node does, without DDS',
    'replay': 'publish the messages of a bag, and its time on /clock',
    'run': 'start a node of this package (ros2 run for machines without ros2)',
    'demo': 'run simulated camera, sweep and depth over DDS; compare with ground truth',
    'calibrate': 'measure focus scale, breathing, settling or blur of a lens as node parameters',
    'optics': 'predict depth error, range limit and sweep of a lens',
    'train': 'train the network',
    'export': 'export the network as ONNX and compare it with PyTorch',
    'evaluate': 'compare methods on data sets: tables, JSON, figures',
    'benchmark': 'time methods on this machine, stage by stage and over DDS: tables, JSON, figure',
}

logger = logging.getLogger('dualfocus_ros')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0 done, 1 failed, 2 wrong usage or 130 interrupted."""
    if '_ARGCOMPLETE' in os.environ:
        _complete()
    if os.environ.get('NO_COLOR'):
        # The loggers of ROS read this variable instead.
        os.environ.setdefault('RCUTILS_COLORIZED_OUTPUT', '0')
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = next((word for word in arguments if not word.startswith('-')), None)
    parser = _parser(chosen)
    rest: list[str] = []
    if chosen == 'run':
        # Words after the name of a node, options included, go to the node.
        end = arguments.index('run') + 2
        arguments, rest = arguments[:end], arguments[end:]
    try:
        known = parser.parse_args(arguments)
    except SystemExit as exit_:  # argparse has printed help, the version or an error
        return int(exit_.code or 0)
    known.rest = rest
    _start_logging(known)
    try:
        return int(known.execute(known))
    except KeyboardInterrupt:
        if known.debug:
            raise
        logger.error('interrupted')
        return INTERRUPTED
    except BrokenPipeError:  # `dualfocus … | head` closes the pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (CommandError, ValueError, OSError, ImportError) as error:
        if known.debug:
            raise
        logger.error('%s', one_line(error))
        return USAGE if isinstance(error, UsageError) else FAILED


class _Parser(argparse.ArgumentParser):
    """Parser whose errors have the form of all others."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(USAGE, f'dualfocus: error: {message}\n')


def _parser(chosen: str | None) -> argparse.ArgumentParser:
    """Return the parser with the arguments of the chosen subcommand."""
    parser = _Parser(
        prog='dualfocus',
        description='Metric depth from a camera whose focus can be driven (DualFocus).',
        epilog='dualfocus COMMAND --help describes a command.',
    )
    parser.add_argument('--version', action='version', version=f'dualfocus {__version__}')
    commands = parser.add_subparsers(dest='command', metavar='COMMAND', required=True)
    for name, summary in COMMANDS.items():
        sentence = f'{summary[0].upper()}{summary[1:]}.'
        sub = commands.add_parser(name, help=summary, description=sentence)
        if name != chosen:
            continue
        implementation = import_module(f'dualfocus_ros.cli.{name}')
        implementation.add_arguments(sub)
        sub.set_defaults(execute=implementation.execute)
        messages = sub.add_argument_group('messages')
        messages.add_argument('--quiet', action='store_true', help='only warnings and errors')
        messages.add_argument(
            '--debug', action='store_true', help='more messages, and a traceback on failure'
        )
    return parser


def _complete() -> None:
    """Print completions of COMP_LINE for the shell and exit; needs argcomplete."""
    try:
        import argcomplete
    except ImportError:
        sys.exit(FAILED)
    line = os.environ.get('COMP_LINE', '')[: int(os.environ.get('COMP_POINT', '0') or 0)]
    words = line.split()[1:]
    if words and not line.endswith(' '):
        words.pop()  # incomplete word
    chosen = next((word for word in words if not word.startswith('-')), None)
    argcomplete.autocomplete(_parser(chosen), always_complete_options='long')


class _Format(logging.Formatter):
    """Prefix warnings and errors with their level."""

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


if __name__ == '__main__':
    sys.exit(main())
