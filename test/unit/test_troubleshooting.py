# SPDX-License-Identifier: Apache-2.0
"""The messages that the troubleshooting page quotes are messages of the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
import re

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / 'docs' / 'troubleshooting.md').read_text('utf-8')


def texts(path: Path) -> Iterator[str]:
    """Yield the texts of a module, with … for each value, as on the page."""
    for node in ast.walk(ast.parse(path.read_text('utf-8'))):
        if isinstance(node, ast.JoinedStr):
            yield ''.join(
                str(part.value) if isinstance(part, ast.Constant) else '…' for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


CODE = [
    text
    for folder in ('dualfocus_ros', 'tools/set_up', 'launch')
    for path in (ROOT / folder).rglob('*.py')
    for text in texts(path)
]


def quoted() -> list[str]:
    """Return the messages: code of several words that is first in a row of a table."""
    cells = re.findall(r'^\| `([^`]+)`', PAGE, re.M)
    return [cell for cell in cells if ' ' in cell]


def is_said(message: str) -> bool:
    """Tell whether a text of the code has the pieces of the message in their order."""
    pieces = [re.escape(piece) for piece in message.split('…')]
    pattern = re.compile('.*'.join(pieces), re.S)
    return any(pattern.search(text) for text in CODE)


def test_page_quotes_messages():
    assert len(quoted()) > 40


@pytest.mark.parametrize('message', quoted())
def test_quoted_messages_exist_in_code(message):
    assert is_said(message), f'nothing in the code says: {message}'


def test_the_check_can_fail():
    assert not is_said('the lens has … fallen off')


def test_advised_parameters_exist():
    parameters = (ROOT / 'docs' / 'parameters.md').read_text('utf-8')
    for name in re.findall(
        r'`((?:stack|depth|points|lens|breathing|command|alignment|calibration)\.[a-z_]+)', PAGE
    ):
        assert f'`{name}`' in parameters, name
