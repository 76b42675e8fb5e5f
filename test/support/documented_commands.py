# SPDX-License-Identifier: Apache-2.0
"""The commands in the documentation: found, and said which of them a test cannot run and why."""

from __future__ import annotations

import ast
from collections.abc import Iterator
import contextlib
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
import re
import shlex
from typing import Any

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


def declared_arguments(file: Path) -> dict[str, list[str]]:
    """Return the arguments that a launch file declares and their choices, without importing it."""
    tree = ast.parse(file.read_text('utf-8'))
    names: dict[str, object] = {}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and (node.module or '').startswith('dualfocus_ros'):
            module = import_module(str(node.module))
            names |= {
                alias.asname or alias.name: getattr(module, alias.name) for alias in node.names
            }
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            with contextlib.suppress(ValueError):
                names[node.targets[0].id] = ast.literal_eval(node.value)
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and getattr(node.func, 'id', '') == 'DeclareLaunchArgument':
            choices: list[str] = []
            for keyword in node.keywords:
                if keyword.arg == 'choices':
                    choices = list(_evaluate(keyword.value, names))
            found[ast.literal_eval(node.args[0])] = choices
    assert found, file
    return found


def _evaluate(node: ast.expr, names: dict[str, object]) -> Any:
    """Return the value of an expression of literals, assigned names and imported names."""
    code = compile(ast.Expression(node), '<launch file>', 'eval')
    return eval(code, dict(names))
