# SPDX-License-Identifier: Apache-2.0
"""What people expect of every command: exit status, one JSON document, quiet pipes, no colours."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

from dualfocus_ros.cli import optics
from dualfocus_ros.cli.main import COMMANDS, main
from dualfocus_ros.exceptions import CommandError, UsageError
from small_bags import wall_bag

# They print no results: a node's log, the log of a training, code for a shell.
WITHOUT_RESULTS = {'run', 'train'}
WITH_KINDS = {'calibrate': ['focus', 'breathing', 'settling', 'lens', 'field']}
OPTICS = ['optics', '--preset', 'oak', '--range', '0.3', '3']
COLOUR = re.compile(r'\x1b\[[0-9;]*m')


def help_of(capsys, *words: str) -> str:
    assert main([*words, '--help']) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize('command', [*COMMANDS])
def test_every_command_that_prints_results_prints_them_as_json(command, capsys):
    kinds = WITH_KINDS.get(command)
    texts = (
        [help_of(capsys, command, kind) for kind in kinds] if kinds else [help_of(capsys, command)]
    )
    for text in texts:
        assert ('--json' in text) is (command not in WITHOUT_RESULTS)
    text = help_of(capsys, command)
    assert '--quiet' in text and '--debug' in text


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    return wall_bag(tmp_path_factory.mktemp('habits') / 'wall', sweeps=2)


CPU = ['--device', 'cpu', '-p', 'threads:=1']


def commands(bag, tmp_path) -> dict[str, list[str]]:
    """Return what can be run within a second or so."""
    return {
        'optics': OPTICS,
        'inspect': ['inspect', str(bag)],
        'process': ['process', str(bag), str(tmp_path / 'out'), *CPU],
        'view': ['view', str(bag), '-o', str(tmp_path / 'page.html'), *CPU],
    }


@pytest.mark.parametrize('command', ['optics', 'inspect', 'process', 'view'])
def test_standard_output_is_one_json_document(command, bag, tmp_path, capsys):
    if command != 'optics':
        pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
    assert main([*commands(bag, tmp_path)[command], '--json']) == 0
    output = capsys.readouterr()

    def refuse(name: str) -> None:
        raise AssertionError(f'{name} is no JSON')

    document = json.loads(output.out, parse_constant=refuse)
    assert isinstance(document, dict) and document
    assert '{' not in output.err


@pytest.mark.parametrize(
    'raised, status, text',
    [
        (CommandError('no depth'), 1, 'dualfocus: error: no depth'),
        (OSError(28, 'No space left on device'), 1, 'No space left on device'),
        (UsageError('no such option'), 2, 'dualfocus: error: no such option'),
        (KeyboardInterrupt(), 130, 'dualfocus: error: interrupted'),
    ],
)
def test_exit_status(raised, status, text, monkeypatch, capsys):
    def fail(arguments):
        raise raised

    monkeypatch.setattr(optics, 'execute', fail)
    assert main(OPTICS) == status
    errors = capsys.readouterr().err
    assert text in errors and 'Traceback' not in errors


def test_ctrl_c_is_130(monkeypatch):
    def wait(arguments):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10.0)

    monkeypatch.setattr(optics, 'execute', wait)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(OPTICS) == 130
    finally:
        signal.signal(signal.SIGINT, handler)


def program(*words: str) -> list[str]:
    return [sys.executable, '-m', 'dualfocus_ros.cli.main', *words]


def test_a_reader_that_goes_away_is_no_traceback():
    done = subprocess.run(
        ['bash', '-o', 'pipefail', '-c', '"$@" | head -c 10', 'bash', *program(*OPTICS)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert 'Traceback' not in done.stderr and 'Exception' not in done.stderr


def on_a_terminal(*words: str, **more: str) -> str:
    """Return what a command shows on a terminal."""
    screen, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
    process = subprocess.Popen(
        program(*words),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        close_fds=True,
        env={**os.environ, 'TERM': 'xterm-256color', **more},
    )
    os.close(terminal)
    seen = b''
    while True:
        try:
            data = os.read(screen, 65536)
        except OSError:  # the terminal is closed with its last user
            break
        if not data:
            break
        seen += data
    process.wait(60)
    os.close(screen)
    return seen.decode(errors='replace')


@pytest.mark.parametrize('words', [OPTICS, ['--help'], ['inspect', '/nowhere']])
def test_no_colours_where_they_are_not_wanted(words):
    assert COLOUR.search(on_a_terminal(*words, NO_COLOR='1')) is None


def test_bars_are_for_terminals(bag, tmp_path):
    pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
    done = subprocess.run(program('inspect', str(bag)), capture_output=True, text=True)
    assert done.returncode == 0
    assert '\r' not in done.stdout + done.stderr and done.stderr == ''
    assert '\x1b' not in done.stdout
    shown = on_a_terminal('inspect', str(bag), NO_COLOR='1')
    assert 'reading:' in shown and COLOUR.search(shown) is None
    assert 'reading:' not in on_a_terminal('inspect', str(bag), '--quiet')


@pytest.mark.parametrize('value, expected', [('1', '0'), ('', None)])
def test_loggers_of_ros_hear_of_no_color(value, expected, monkeypatch, capsys):
    monkeypatch.setenv('NO_COLOR', value)
    # First set, then deleted: afterwards it is as before, whatever is set in between.
    monkeypatch.setenv('RCUTILS_COLORIZED_OUTPUT', '1')
    monkeypatch.delenv('RCUTILS_COLORIZED_OUTPUT')
    assert main(OPTICS) == 0
    assert os.environ.get('RCUTILS_COLORIZED_OUTPUT') == expected


def test_help_of_no_command_needs_torch_or_ros():
    code = (
        'import sys\nfrom dualfocus_ros.cli.main import COMMANDS, main\n'
        'heavy = {}\n'
        'for name in COMMANDS:\n'
        '    before = set(sys.modules)\n'
        '    assert main([name, "--help"]) == 0\n'
        '    heavy[name] = sorted({"torch", "rclpy", "matplotlib.pyplot"} & '
        '(set(sys.modules) - before))\n'
        'print("HEAVY", {k: v for k, v in heavy.items() if v})\n'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert 'HEAVY {}' in done.stdout
