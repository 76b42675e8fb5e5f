# SPDX-License-Identifier: Apache-2.0
"""Markdown tables of measurements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dualfocus_ros.evaluation.evaluation_report import format_number

# Columns of a table: measure, heading, digits (negative: a share, printed in per cent).
Column = tuple[str, str, int]


def markdown_table(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[Column], first: str = 'method'
) -> list[str]:
    """Return the lines of a Markdown table, one row each; columns that nobody has are left out.

    :param first: key and heading of the first column.
    """
    used = [column for column in columns if any(column[0] in row for row in rows)]
    lines = [
        f'| {first} | ' + ' | '.join(heading for _, heading, _ in used) + ' |',
        '| --- |' + ''.join(' --- |' if _is_text(rows, key) else ' ---: |' for key, _, _ in used),
    ]
    for row in rows:
        cells = [_cell(row.get(key), digits) for key, _, digits in used]
        lines.append(f'| {row[first]} | ' + ' | '.join(cells) + ' |')
    return lines


def _is_text(rows: Sequence[Mapping[str, Any]], key: str) -> bool:
    return any(isinstance(row.get(key), str) for row in rows)


def _cell(value: Any, digits: int) -> str:
    if value is None:
        return ''
    return value if isinstance(value, str) else format_number(float(value), digits)
