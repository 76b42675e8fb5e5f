# SPDX-License-Identifier: Apache-2.0
"""Tab completion of ``dualfocus`` in real shells."""

import os
from pathlib import Path
import pty
import select
import shutil
import subprocess
import sys
import time

import pytest

from dualfocus_ros.cli.main import COMMANDS

pytest.importorskip('argcomplete', reason='needs argcomplete')
ROOT = Path(__file__).parents[3]

# Calls of bash on Tab.
BASH = """
eval "$(register-python-argcomplete dualfocus)"
COMP_LINE=$1 COMP_POINT=${#1} COMP_TYPE=9 COMP_WORDS=($1) COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_python_argcomplete dualfocus
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = """
register-python-argcomplete --shell fish dualfocus | source
complete -C "$argv[1]"
"""
# zsh completes in interactive shells only: type on a pseudo-terminal.
ZSH = """PS1=; autoload -Uz compinit; compinit -u; eval "$(register-python-argcomplete dualfocus)"
bindkey "^X" complete-word
touch ~/ready
"""


@pytest.fixture
def environment(tmp_path):
    """Return an environment whose ``dualfocus`` runs in this interpreter."""
    command = tmp_path / 'dualfocus'
    command.write_text(
        f'#!{sys.executable}\nimport sys\nfrom dualfocus_ros.cli.main import main\n'
        f'if "--really" in sys.argv:\n    open("{tmp_path}/ran", "w").write(" ".join(sys.argv))\n'
        'else:\n    sys.exit(main())\n'
    )
    command.chmod(0o755)
    return {
        **os.environ,
        'PATH': f'{tmp_path}{os.pathsep}{os.environ["PATH"]}',
        'HOME': str(tmp_path),
    }


def completed(environment, line: str, shell: str = 'bash') -> list[str]:
    """Return the completions that a shell offers for a line."""
    if shutil.which(shell) is None:
        pytest.skip(f'needs {shell}')
    script = {'bash': BASH, 'fish': FISH}[shell]
    arguments = [line] if shell == 'fish' else ['shell', line]
    done = subprocess.run(
        [shell, '-c', script, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    # fish adds the help of each word after a tab.
    return [word.partition('\t')[0].strip() for word in done.stdout.splitlines() if word.strip()]


@pytest.mark.parametrize('shell', ['bash', 'fish'])
def test_completes_commands_and_options(environment, shell):
    assert set(completed(environment, 'dualfocus ', shell)) >= set(COMMANDS)
    assert completed(environment, 'dualfocus ins', shell) == ['inspect']
    assert set(completed(environment, 'dualfocus view --no-', shell)) == {'--no-network'}
    assert 'sim_camera_node' in completed(environment, 'dualfocus run ', shell)


def test_completes_node_parameters_and_files(environment, tmp_path):
    # The colon separates words in bash: argcomplete returns the part after the last one.
    assert 'depth.max_sigma:=' in completed(environment, 'dualfocus process a b -p depth.max_')
    (tmp_path / 'my_sweeps').mkdir()
    assert any(
        'my_sweeps' in word
        for word in completed(environment, f'dualfocus inspect {tmp_path}/my_s')
    )


@pytest.mark.skipif(shutil.which('zsh') is None, reason='needs zsh')
def test_zsh_completes_on_a_terminal(environment, tmp_path):
    keyboard, terminal = pty.openpty()
    shell = subprocess.Popen(
        ['zsh', '-f', '-i'],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env={**environment, 'TERM': 'dumb'},
        start_new_session=True,
    )
    os.close(terminal)
    try:
        os.write(keyboard, ZSH.encode())
        wait_for(keyboard, tmp_path / 'ready')
        os.write(keyboard, b'dualfocus calib\x18 --really\n')
        wait_for(keyboard, tmp_path / 'ran')
        assert (tmp_path / 'ran').read_text().split()[1:] == ['calibrate', '--really']
    finally:
        shell.kill()
        shell.wait()
        os.close(keyboard)


def wait_for(keyboard: int, path: Path) -> None:
    """Wait until a shell has written a file, reading its output to keep it running."""
    seen = b''
    end = time.monotonic() + 40.0
    while not path.exists() or (not path.stat().st_size and path.name == 'ran'):
        assert time.monotonic() < end, seen
        if select.select([keyboard], [], [], 0.1)[0]:
            seen += os.read(keyboard, 65536)


def test_completion_imports_nothing_heavy(environment):
    """A shell waits for it at each Tab."""
    code = (
        'import os, sys\n'
        'os._exit = lambda code: (print(sorted({"numpy", "torch", "cv2", "rclpy"} & '
        'set(sys.modules))), sys.stdout.flush(), sys.exit(0))\n'
        'from dualfocus_ros.cli.main import main\nmain()\n'
    )
    asking = {
        **environment,
        '_ARGCOMPLETE': '1',
        'COMP_LINE': 'dualfocus pro',
        'COMP_POINT': '13',
        '_ARGCOMPLETE_STDOUT_FILENAME': os.devnull,
    }
    done = subprocess.run([sys.executable, '-c', code], env=asking, capture_output=True, text=True)
    assert done.stdout.strip() == '[]', done.stderr


@pytest.mark.skipif(not (ROOT / 'install' / 'local_setup.sh').exists(), reason='needs make setup')
@pytest.mark.parametrize('shell', ['bash', 'zsh'])
def test_activate_completes_in_interactive_shells_only(shell):
    if shutil.which(shell) is None:
        pytest.skip(f'needs {shell}')
    ask = {'bash': 'complete -p dualfocus', 'zsh': 'print $_comps[dualfocus]'}[shell]
    load = 'autoload -Uz compinit; compinit -u;' if shell == 'zsh' else ''
    quick = {'bash': ['--norc'], 'zsh': ['-f']}[shell]
    for interactive, expected in (('-i', True), ('+i', False)):
        done = subprocess.run(
            [
                shell,
                *quick,
                *([interactive] if expected else []),
                '-c',
                f'{load} . {ROOT}/activate.sh; {ask}',
            ],
            env={'HOME': '/nonexistent', 'PATH': '/usr/bin:/bin', 'TERM': 'dumb'},
            capture_output=True,
            text=True,
            timeout=60,
            start_new_session=True,
        )
        assert ('_python_argcomplete' in done.stdout) is expected, done.stderr
