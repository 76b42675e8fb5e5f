# SPDX-License-Identifier: Apache-2.0
"""Commands of the documentation, and reasons why tests cannot run some of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
import re
import runpy
import shlex
import sys
from unittest.mock import MagicMock, patch

_LAUNCH = ('action', 'actions', 'conditions', 'launch_description_sources', 'substitutions')
ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / 'docs'
# The pages whose every command is run; the commands of the others are checked only.
WALKED = (ROOT / 'README.md', DOCS / 'tutorial.md')

# Commands of those pages that no test runs, by how they begin, and why. Their arguments are
# checked all the same.
NOT_RUN = {
    'git clone': 'the address of the repository is not known here',
    'cd ~/ros2_ws': 'needs a ROS 2 workspace',
    'cd ..': 'needs a ROS 2 workspace',
    'rosdep': 'needs rosdep and root',
    'python3 -m pip install': 'changes the environment that the tests run in',
    'colcon': 'the set-up has built the package already, with the same colcon',
    'source install/setup.bash': 'needs a ROS 2 workspace',
    'ros2': 'needs a ROS 2 distribution; test/launch runs the launch files where there is one',
    'make bench': 'ten minutes; test_benchmark_node.py runs it with small images',
    'make test': 'would run itself',
    'dualfocus record first': 'needs a camera',
    'dualfocus inspect first': 'needs a recording of a camera',
}
_KEYWORDS = {'do', 'done', 'for', 'then', 'fi', 'if', 'wait', 'kill'}


@dataclass(frozen=True)
class Command:
    """A simple command of a fenced block, such as one side of ``a && b``."""

    page: Path
    words: tuple[str, ...]

    @property
    def text(self) -> str:
        """The command on one line."""
        return ' '.join(self.words)

    def __str__(self) -> str:
        return f'{self.page.relative_to(ROOT)}: {self.text}'


def blocks(page: Path) -> list[str]:
    """Return the ``bash`` blocks of a page, without the blanks that a list item has in front."""
    found = re.findall(r'^( *)```bash\n(.*?)^ *```', page.read_text('utf-8'), re.M | re.S)
    return [re.sub(rf'^{indent}', '', text, flags=re.M) for indent, text in found]


def lines(block: str) -> list[str]:
    """Return the lines of a block, continued ones joined, without comments and empty ones."""
    joined = re.sub(r'\\\n\s*', '', block).splitlines()
    return [line.rstrip() for line in joined if line.strip() and not line.lstrip().startswith('#')]


def commands(page: Path) -> Iterator[Command]:
    """Yield the simple commands of all blocks of a page."""
    for block in blocks(page):
        for line in lines(block):
            yield from _simple(page, line)


def _simple(page: Path, line: str) -> Iterator[Command]:
    # A command substitution counts as one word.
    line = re.sub(r'\$\(([^()]*)\)', lambda m: '$SUBSTITUTED', line)
    lexer = shlex.shlex(line, posix=True, punctuation_chars=';&|')
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ';']:
        if set(word) <= set(';&|'):
            while words and words[0] in _KEYWORDS - {'for', 'wait', 'kill'}:
                words.pop(0)
            if words and words[0] not in _KEYWORDS:
                yield Command(page, tuple(words))
            words = []
        else:
            words.append(word)


def why_not_run(text: str) -> str | None:
    """Return why no test runs a line of commands, or None where one does."""
    for beginning, reason in NOT_RUN.items():
        if text == beginning or text.startswith((beginning + ' ', beginning + '/')):
            return reason
    return None


def script(page: Path, done: set[str]) -> str:
    """Return what to give to bash for the commands of a page.

    :param done: lines that need not be run again, such as ``make demo``; those of this page are
        added.
    """
    # Nodes in the background do not outlive a command that fails.
    parts = ['set -euo pipefail', "trap 'jobs -p | xargs -r kill' EXIT"]
    for block in blocks(page):
        for line in lines(block):
            if why_not_run(line) or (line.startswith('make ') and line in done):
                continue
            done.add(line)
            # Shown first, so that the log of a failure says which command it was.
            parts += [f'echo {shlex.quote("+ " + line)}', line]
    return '\n'.join(parts) + '\n'


class _Argument:
    """Stand-in for ``launch.actions.DeclareLaunchArgument``."""

    def __init__(self, name: str, *, choices: list[str] | None = None, **_: object) -> None:
        self.name = name
        self.choices = list(choices or ())


def declared_arguments(file: Path) -> dict[str, list[str]]:
    """Return the arguments that a launch file declares, and their choices; needs no ROS."""
    names = ('launch', 'launch_ros', 'ament_index_python')
    stubs = {name: MagicMock() for name in (*names, *(f'{names[0]}.{m}' for m in _LAUNCH))}
    stubs |= {
        f'launch_ros.{module}': MagicMock() for module in ('actions', 'parameter_descriptions')
    }
    stubs['launch.actions'].DeclareLaunchArgument = _Argument
    stubs['ament_index_python.packages'] = MagicMock()
    stubs['ament_index_python.packages'].get_package_share_directory = lambda _: str(ROOT)
    ours = [name for name in sys.modules if name.startswith('dualfocus_ros.nodes.launch_')]
    with patch.dict(sys.modules, stubs):
        for name in ours:
            del sys.modules[name]
        arguments = runpy.run_path(str(file))['ARGUMENTS']
    return {argument.name: argument.choices for argument in arguments}
