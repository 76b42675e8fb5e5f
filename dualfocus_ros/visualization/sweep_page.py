# SPDX-License-Identifier: Apache-2.0
"""The page: one HTML file with style, script and data inside, which loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
import html
import json
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent
_SCRIPTS = ('codec.js', 'maps.js', 'curve.js', 'cloud.js', 'main.js')


def build_page(title: str, sweeps: Sequence[dict[str, Any]], *, live: bool = False) -> str:
    """Return the page.

    :param sweeps: as ``encode.encode_sweep`` returns them.
    :param live: the page asks the server that it came from for sweeps.
    """
    data = json.dumps({'title': title, 'live': live, 'sweeps': list(sweeps)}, allow_nan=False)
    parts = {
        'title': html.escape(title),
        'connect': "'self'" if live else "'none'",
        'style': (_HERE / 'page.css').read_text('utf-8'),
        'script': '\n'.join((_HERE / name).read_text('utf-8') for name in _SCRIPTS),
        # No tag must occur in it; within a string of JSON this is the same letter.
        'data': data.replace('<', '\\u003c'),
    }
    page = (_HERE / 'page.html').read_text('utf-8')
    before, *rest = page.split('{{')
    pieces = [before]
    for piece in rest:
        name, after = piece.split('}}', 1)
        pieces += [parts[name], after]
    return ''.join(pieces)
