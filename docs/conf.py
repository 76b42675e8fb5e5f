# SPDX-License-Identifier: Apache-2.0
"""Sphinx makes site/ from these pages (`make docs`); any warning fails the build.

The pages are plain Markdown that GitHub shows too: no directives but the navigation in index.md.
"""

from pathlib import Path
import re

ROOT = Path(__file__).resolve().parent.parent

project = 'dualfocus_ros'
author = 'dualfocus_ros maintainers'
project_copyright = '2026, dualfocus_ros maintainers'
release = version = re.search(
    r"^__version__ = '(.+)'$", (ROOT / 'dualfocus_ros/__init__.py').read_text('utf-8'), re.M
).group(1)

extensions = ['myst_parser']
source_suffix = {'.md': 'markdown'}
myst_heading_anchors = 3  # links to headings, named as GitHub names them
nitpicky = True

html_theme = 'furo'
html_title = f'dualfocus_ros {release}'
html_copy_source = False
# Pages that are written from code have no sources worth an "edit" link; none has one.
html_show_sourcelink = False


def _as_files(app, page: str, source: list[str]) -> None:
    """Have links to Markdown outside docs/, such as README.md, lead to the file itself."""
    here = (ROOT / 'docs' / page).parent

    def link(match: re.Match[str]) -> str:
        target = (here / match[1]).resolve()
        return match[0] if target.is_relative_to(ROOT / 'docs') else f'](path:{match[1]})'

    source[0] = re.sub(r'\]\((\.\./[^)#]*\.md)(?:#[^)]*)?\)', link, source[0])


def setup(app) -> None:
    """Register the function above with Sphinx."""
    app.connect('source-read', _as_files)
