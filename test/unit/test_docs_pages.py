# SPDX-License-Identifier: Apache-2.0
"""The pages in docs/: links and anchors, navigation, figures, and the site made of them."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
import re
import subprocess

import pytest

from documented_commands import DOCS, ROOT
from dualfocus_ros.camera.depth_resolution import depth_error, range_limit
from dualfocus_ros.camera.thin_lens import Lens

PAGES = [
    *ROOT.glob('*.md'),
    *DOCS.rglob('*.md'),
    *(ROOT / 'examples').glob('*.md'),
]
IMAGE_WIDTH = 640


def without_code(text: str) -> str:
    text = re.sub(r'^( *)```.*?^\1```', '', text, flags=re.M | re.S)
    return re.sub(r'`[^`\n]*`', lambda code: 'x' * len(code[0]), text)


def anchors(page: Path) -> set[str]:
    """Return the names that GitHub gives to the headings of a page."""
    text = re.sub(r'^( *)```.*?^\1```', '', page.read_text('utf-8'), flags=re.M | re.S)
    found: set[str] = set()
    counts: Counter[str] = Counter()
    for heading in re.findall(r'^#+ +(.*)$', text, re.M):
        plain = re.sub(r'\[([^\]]*)\]\([^)]*\)', r'\1', heading)
        slug = re.sub(r'[^\w\- ]', '', plain.lower()).strip().replace(' ', '-')
        found.add(f'{slug}-{counts[slug]}' if counts[slug] else slug)
        counts[slug] += 1
    return found


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page):
    for target in re.findall(r'\]\(([^)\s]+)\)', without_code(page.read_text('utf-8'))):
        if '://' in target or target.startswith('mailto:'):
            continue
        path, _, anchor = target.partition('#')
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f'{page.name}: {target}'
        assert file.is_relative_to(ROOT), f'{page.name}: {target}'
        if anchor and file.suffix == '.md':
            assert anchor in anchors(file), f'{page.name}: {target}'


def test_every_page_is_in_the_navigation():
    index = (DOCS / 'index.md').read_text('utf-8')
    listed = set()
    for tree in re.findall(r'```{toctree}\n(.*?)```', index, re.S):
        listed |= {line for line in tree.splitlines() if line and not line.startswith(':')}
    pages = {str(page.relative_to(DOCS).with_suffix('')) for page in DOCS.rglob('*.md')}
    assert listed == pages - {'index'}


def test_every_picture_is_used():
    text = ''.join(page.read_text('utf-8') for page in PAGES)
    for picture in [*DOCS.rglob('*.png'), *DOCS.rglob('*.jpg'), *DOCS.rglob('*.svg')]:
        assert picture.name in text, f'{picture} is on no page'


def two_digits(value: float) -> float:
    return float(f'{value:.2g}')


def test_camera_table_matches_the_calculator():
    page = (DOCS / 'hardware.md').read_text('utf-8')
    rows = [line for line in page.splitlines() if re.match(r'^\| [^|]* \| [\d.]+ mm \|', line)]
    assert len(rows) == 9
    for row in rows:
        numbers = [float(re.match(r'[\d.]+', cell.strip())[0]) for cell in row.split('|')[2:-1]]
        focal_length, f_number, width, kappa, *errors, limit = numbers
        lens = Lens(focal_length * 1e-3, f_number, width * 1e-3 / IMAGE_WIDTH)
        assert kappa == pytest.approx(lens.kappa(), rel=0.05), row
        for distance, stated in zip((0.3, 0.5, 1.0, 2.0), errors, strict=True):
            computed = 100.0 * depth_error(distance, lens.kappa())
            # 100 cm and more are given in whole centimetres.
            assert stated in (two_digits(computed), round(computed)), row
        assert limit == two_digits(range_limit(lens.kappa())), row


def test_hardware_sweep_matches_the_calculator(capsys):
    from dualfocus_ros.cli.main import main

    assert (
        main(
            [
                'optics',
                '--focal-length',
                '16mm',
                '--f-number',
                '1.4',
                '--pixel-pitch',
                '13.2um',
                '--range',
                '0.4',
                '2.5',
            ]
        )
        == 0
    )
    printed = capsys.readouterr().out
    page = (DOCS / 'hardware.md').read_text('utf-8')
    (shown,) = re.findall(r'^```\n(  sweep from.*?)```', page, re.M | re.S)
    assert shown in printed


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_site_builds_without_warnings(tmp_path):
    done = subprocess.run(
        ['make', 'docs', f'ARGS={tmp_path / "site"}'], cwd=ROOT, capture_output=True, text=True
    )
    if 'No matching distribution' in done.stderr or 'Could not find a version' in done.stderr:
        pytest.skip('the package index cannot be reached')
    assert done.returncode == 0, done.stderr
    assert 'WARNING' not in done.stderr.replace('WARNING: Location', '')
    for page in DOCS.rglob('*.md'):
        made = tmp_path / 'site' / page.relative_to(DOCS).with_suffix('.html')
        assert made.is_file(), made
