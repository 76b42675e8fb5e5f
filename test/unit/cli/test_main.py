# SPDX-License-Identifier: Apache-2.0
"""Conventions of all commands: help, exit status, JSON, pipes, colours, progress bars."""

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

# Commands that log without results.
WITHOUT_RESULTS = {'run', 'train'}
WITH_KINDS = {'calibrate': ['focus', 'breathing', 'settling', 'lens', 'field']}
OPTICS = ['optics', '--preset', 'oak', '--range', '0.3', '3']
COLOUR = re.compile(r'\x1b\[[0-9;]*m')


def help_of(capsys, *words: str) -> str:
    assert main([*words, '--help']) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize('command', [*COMMANDS])
def test_every_command_with_results_has_json(command, capsys):
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
    """Return commands that run within about a second."""
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
        raise AssertionError(f'{name} is not JSON')

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


def test_closed_pipe_gives_no_traceback():
    done = subprocess.run(
        ['bash', '-o', 'pipefail', '-c', '"$@" | head -c 10', 'bash', *program(*OPTICS)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert 'Traceback' not in done.stderr and 'Exception' not in done.stderr


def on_a_terminal(*words: str, **more: str) -> str:
    """Return the output of a command on a pseudo-terminal."""
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
        except OSError:  # closed by its last user
            break
        if not data:
            break
        seen += data
    process.wait(60)
    os.close(screen)
    return seen.decode(errors='replace')


@pytest.mark.parametrize('words', [OPTICS, ['--help'], ['inspect', '/nowhere']])
def test_no_color_is_respected(words):
    assert COLOUR.search(on_a_terminal(*words, NO_COLOR='1')) is None


def test_progress_bars_need_a_terminal(bag, tmp_path):
    pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
    done = subprocess.run(program('inspect', str(bag)), capture_output=True, text=True)
    assert done.returncode == 0
    assert '\r' not in done.stdout + done.stderr and done.stderr == ''
    assert '\x1b' not in done.stdout
    shown = on_a_terminal('inspect', str(bag), NO_COLOR='1')
    assert 'reading:' in shown and COLOUR.search(shown) is None
    assert 'reading:' not in on_a_terminal('inspect', str(bag), '--quiet')


@pytest.mark.parametrize('value, expected', [('1', '0'), ('', None)])
def test_no_color_reaches_ros_loggers(value, expected, monkeypatch, capsys):
    monkeypatch.setenv('NO_COLOR', value)
    # Set, then delete: monkeypatch then restores the original value afterwards.
    monkeypatch.setenv('RCUTILS_COLORIZED_OUTPUT', '1')
    monkeypatch.delenv('RCUTILS_COLORIZED_OUTPUT')
    assert main(OPTICS) == 0
    assert os.environ.get('RCUTILS_COLORIZED_OUTPUT') == expected


def test_help_of_commands_needs_neither_torch_nor_ros():
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


def test_help_needs_no_heavy_import():
    code = (
        'import sys; from dualfocus_ros.cli.main import main; status = main(["--help"]); '
        'heavy = {"torch", "rclpy", "cv2", "numpy", "rosbags"} & set(sys.modules); '
        'print("LOADED", sorted(heavy)); sys.exit(status)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ('estimate', 'run', 'demo'))
    assert 'LOADED []' in done.stdout


@pytest.mark.parametrize('command', ['estimate', 'run', 'demo'])
def test_every_command_has_help(capsys, command):
    assert main([command, '--help']) == 0
    assert f'usage: dualfocus {command}' in capsys.readouterr().out


@pytest.mark.parametrize('arguments', [[], ['nonsense'], ['run', 'no_such_node'], ['estimate']])
def test_wrong_usage_is_status_2(capsys, arguments):
    assert main(arguments) == 2
    assert 'usage: dualfocus' in capsys.readouterr().err
