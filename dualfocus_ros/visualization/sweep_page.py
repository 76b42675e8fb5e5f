# SPDX-License-Identifier: Apache-2.0
"""Sweep page: one HTML file with style, scripts and data that loads nothing else."""

from __future__ import annotations

from collections.abc import Sequence
import html
import json
from pathlib import Path
import re
from typing import Any

_HERE = Path(__file__).parent
_SCRIPTS = ('codec.js', 'maps.js', 'curve.js', 'cloud.js', 'main.js')


def build_page(title: str, sweeps: Sequence[dict[str, Any]], *, live: bool = False) -> str:
    """Return the HTML of the page.

    :param sweeps: results of :func:`~dualfocus_ros.visualization.sweep_encoding.encode_sweep`.
    :param live: make the page poll its server for sweeps.
    """
    data = json.dumps({'title': title, 'live': live, 'sweeps': list(sweeps)}, allow_nan=False)
    parts = {
        'title': html.escape(title),
        'connect': "'self'" if live else "'none'",
        'style': (_HERE / 'sweep_page.css').read_text('utf-8'),
        'script': '\n'.join((_HERE / name).read_text('utf-8') for name in _SCRIPTS),
        # A JSON escape of the same character: the data must not contain tags.
        'data': data.replace('<', '\\u003c'),
    }
    page = (_HERE / 'sweep_page.html').read_text('utf-8')
    return re.sub(r'{{(\w+)}}', lambda match: parts[match[1]], page)
