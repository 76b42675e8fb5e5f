# SPDX-License-Identifier: Apache-2.0
"""Every command in the documentation exists, with the options, files and arguments it names."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
import re

import pytest

from documented_commands import (
    DOCS,
    NOT_RUN,
    ROOT,
    WALKED,
    Command,
    commands,
    declared_arguments,
    lines,
    why_not_run,
)
from dualfocus_ros.cli import main as cli

PAGES = [ROOT / 'README.md', *sorted(DOCS.rglob('*.md'))]
ALL = [command for page in PAGES for command in commands(page)]
NODES = {path.name for path in (ROOT / 'scripts').iterdir()}


def of(*beginning: str) -> list[Command]:
    """Return the commands that begin with these words, `python -m …` and variables left aside."""
    return [c for c in ALL if c.words[: len(beginning)] == beginning]


def test_there_are_commands_of_every_kind():
    for beginning in (
        ('make', 'demo'),
        ('dualfocus', 'estimate'),
        ('dualfocus', 'run'),
        ('ros2', 'launch'),
    ):
        assert of(*beginning), beginning


@pytest.mark.parametrize('command', of('dualfocus'), ids=str)
def test_dualfocus_takes_these_arguments(command, capsys):
    arguments = [word for word in command.words[1:] if word != '…']
    if '…' in command.words:
        pytest.skip('elided: the words before are checked by the other commands')
    arguments = _without_redirections(arguments)
    if arguments[0] == 'run':
        _check_node(arguments)
        return
    parser = cli._parser(arguments[0])
    try:
        parser.parse_args(arguments)
    except SystemExit:
        pytest.fail(f'{command}: {capsys.readouterr().err}')


def _without_redirections(words: list[str]) -> list[str]:
    if '>' in words:
        return words[: words.index('>')]
    return words


def _check_node(arguments: list[str]) -> None:
    assert arguments[1] in NODES
    if len(arguments) > 2:
        assert arguments[2] == '--ros-args'
    known = _parameters(arguments[1])
    for flag, value in itertools.pairwise(arguments):
        if flag == '-p':
            name = value.partition(':=')[0].rpartition(':')[2]
            assert known is None or name in known, f'{arguments[1]} has no parameter {name}'
        if flag == '--params-file' and value.startswith('config/'):
            assert (ROOT / value).is_file(), value


def _parameters(node: str) -> set[str] | None:
    """Return the names in the reference of a node, which is made from the code."""
    page = (DOCS / 'parameters.md').read_text('utf-8')
    section = re.search(rf'^## {node}$(.*?)(?=^## |\Z)', page, re.M | re.S)
    assert section is not None, node
    return set(re.findall(r'^\| `([\w.]+)` \|', section[1], re.M)) | {'use_sim_time'}


@pytest.mark.parametrize('command', of('make'), ids=str)
def test_make_has_the_target(command):
    rules = (ROOT / 'Makefile').read_text('utf-8')
    for word in command.words[1:]:
        assert '=' in word or re.search(rf'^{word}:', rules, re.M), word


@pytest.mark.parametrize('command', of('ros2', 'launch'), ids=str)
def test_launch_files_have_these_arguments(command):
    package, *rest = command.words[2:]
    if package.endswith('.launch.py'):
        file, given = ROOT / package, rest
    elif package == 'dualfocus_ros':
        file, given = ROOT / 'launch' / rest[0], rest[1:]
    else:
        pytest.skip(f'a launch file of {package}')
    declared = declared_arguments(file)
    for word in given:
        name, assigned, value = word.partition(':=')
        assert assigned and name in declared, f'{file.name} has no argument {name}'
        choices = declared[name]
        assert not choices or value in choices, f'{name} is one of {choices}'


@pytest.mark.parametrize('command', of('ros2', 'run', 'dualfocus_ros'), ids=str)
def test_executables_exist(command):
    assert command.words[3] in NODES | {'…'}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_of_the_repository_that_commands_name_exist(page):
    for command in commands(page):
        for word in command.words:
            if re.match(r'(config|examples|docs|test|tools|docker|deploy|launch)/[\w./-]+$', word):
                assert (ROOT / word).exists(), f'{command}: {word}'


def test_what_is_not_run_has_a_reason_and_is_still_there():
    texts = {line for page in WALKED for line in _all_lines(page)}
    for beginning, reason in NOT_RUN.items():
        assert len(reason) > 10
        assert any(why_not_run(text) == reason for text in texts), f'{beginning} is not documented'


def _all_lines(page: Path) -> list[str]:
    from documented_commands import blocks

    found = [line for block in blocks(page) for line in lines(block)]
    return [*found, *(command.text for command in commands(page))]


def test_the_check_of_arguments_can_fail():
    parser = cli._parser('optics')
    assert isinstance(parser, argparse.ArgumentParser)
    with pytest.raises(SystemExit):
        parser.parse_args(['optics', '--no-such-option'])
    with pytest.raises(AssertionError):
        _check_node(['run', 'depth_node', '--ros-args', '-p', 'no.such:=1'])
