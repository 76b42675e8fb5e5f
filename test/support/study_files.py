# SPDX-License-Identifier: Apache-2.0
"""Studies run by their command line, with their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2

from research.__main__ import main


def run_study_command(folder: Path, *words: str) -> tuple[dict[str, Any], str]:
    """Run a study; return its JSON and its Markdown."""
    assert main([*words, '-o', str(folder), '--threads', '1', '--quiet']) == 0
    name = words[0]
    markdown = (folder / f'{name}.md').read_text('utf-8')
    assert markdown.startswith('# ') and f'({name}.png)' in markdown
    figure = cv2.imread(str(folder / f'{name}.png'))
    assert figure is not None and figure.std() > 5.0
    return json.loads((folder / f'{name}.json').read_text('utf-8')), markdown
