# SPDX-License-Identifier: Apache-2.0
"""The reference pages agree with the tables of the code."""

from pathlib import Path
import runpy

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
pytest.importorskip('dualfocus_ros.msg', reason='needs the built messages: make build')

from dualfocus_ros.nodes.parameters import depth_parameters

ROOT = Path(__file__).parents[2]
DOCS = ROOT / 'docs'
REFERENCE = runpy.run_path(str(ROOT / 'tools' / 'reference_pages.py'))


def test_reference_pages_are_up_to_date(tmp_path):
    REFERENCE['write'](tmp_path)
    for name in ('topics.md', 'parameters.md'):
        assert (tmp_path / name).read_text('utf-8') == (DOCS / name).read_text('utf-8'), (
            f'{name} is out of date: python tools/reference_pages.py docs'
        )


def test_parameters_page_has_every_parameter():
    page = REFERENCE['parameters_page']()
    for name in depth_parameters.SPECS:
        assert page.count(f'| `{name}` |') >= 1
