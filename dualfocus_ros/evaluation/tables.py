# SPDX-License-Identifier: Apache-2.0
"""Results as Markdown tables and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import json
import math
from typing import Any

# Columns of a table: key, heading, digits (negative: a share, printed in per cent).
Column = tuple[str, str, int]


def markdown_table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], first: str = 'method'
) -> list[str]:
    """Return the lines of a Markdown table; columns without any value are omitted.

    :param first: key and heading of the first column.
    """
    used = [column for column in columns if any(column[0] in row for row in rows)]
    text = [any(isinstance(row.get(key), str) for row in rows) for key, _, _ in used]
    lines = [
        [first, *(heading for _, heading, _ in used)],
        ['---', *('---' if is_text else '---:' for is_text in text)],
        *([row[first], *(_cell(row.get(key), digits) for key, _, digits in used)] for row in rows),
    ]
    return [f'| {" | ".join(map(str, cells))} |' for cells in lines]


def to_json(content: Mapping[str, Any]) -> str:
    """Return indented JSON; numbers that are not finite become null."""
    return json.dumps(_nonfinite_to_none(dict(content)), indent=2, ensure_ascii=False) + '\n'


def _nonfinite_to_none(content: Any) -> Any:
    if isinstance(content, dict):
        return {str(key): _nonfinite_to_none(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_nonfinite_to_none(value) for value in content]
    if isinstance(content, float) and not math.isfinite(content):
        return None
    return content


def _cell(value: Any, digits: int) -> str:
    """Return a text, or a number with so many digits; empty without a finite value."""
    if value is None or isinstance(value, str):
        return value or ''
    if not math.isfinite(value):
        return ''
    return f'{100.0 * value:.{-digits}f}' if digits < 0 else f'{value:.{digits}f}'
