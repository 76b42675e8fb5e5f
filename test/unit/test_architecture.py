# SPDX-License-Identifier: Apache-2.0
"""The drawings of the architecture page show the packages, imports, nodes and topics there are."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
import xml.etree.ElementTree as ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / 'docs' / 'images'
PACKAGE = ROOT / 'dualfocus_ros'
WITH_ROS = {'nodes', 'bags', 'cli', 'benchmark'}
ROS = {'rclpy', 'ament_index_python', 'cv_bridge', 'launch', 'rcl_interfaces', 'sensor_msgs_py'}


def labels(drawing: str, kind: str) -> dict[str, float]:
    """Return the texts of a class in a drawing, and how far down each is."""
    tree = ElementTree.parse(IMAGES / drawing)
    return {
        element.text or '': float(element.get('y', 'nan'))
        for element in tree.iter('{http://www.w3.org/2000/svg}text')
        if element.get('class') == kind
    }


def imports() -> Iterator[tuple[str, str]]:
    """Yield package and imported module of every import, the functions' own included."""
    for path in PACKAGE.rglob('*.py'):
        parts = path.relative_to(PACKAGE).parts
        if len(parts) < 2:
            continue
        for node in ast.walk(ast.parse(path.read_text('utf-8'))):
            if isinstance(node, ast.ImportFrom) and node.module:
                yield parts[0], node.module
            elif isinstance(node, ast.Import):
                for alias in node.names:
                    yield parts[0], alias.name


def test_the_drawing_has_every_package():
    packages = {path.parent.name for path in PACKAGE.glob('*/__init__.py')}
    assert set(labels('packages.svg', 'package')) == packages


def test_no_package_imports_upwards():
    # Texts of one row differ in height by the number of lines below them.
    rows = {name: round((y - 20) // 96) for name, y in labels('packages.svg', 'package').items()}
    assert sorted(set(rows.values())) == [0, 1, 2, 3, 4]
    upwards = {
        f'{package} imports {module}'
        for package, module in imports()
        if module.startswith('dualfocus_ros.')
        for other in [module.split('.')[1]]
        if other in rows and rows[other] < rows[package]
    }
    assert upwards == set()


def test_only_these_packages_use_ros():
    using = {
        package for package, module in imports()
        if module.split('.')[0] in ROS or module.startswith('dualfocus_ros.msg')
    }
    assert using == WITH_ROS


def test_the_nodes_and_topics_of_the_drawing_exist():
    nodes = {name for name in labels('data_flow.svg', 'node') if name.endswith('_node')}
    assert nodes == {'depth_node', 'focus_sweep_node'}
    assert all((ROOT / 'scripts' / name).is_file() for name in nodes)
    topics = (ROOT / 'docs' / 'topics.md').read_text('utf-8')
    drawn = labels('data_flow.svg', 'topic')
    assert len(drawn) > 6
    for topic in drawn:
        assert f'| `{topic}` |' in topics, topic


@pytest.mark.parametrize('drawing', ['packages.svg', 'data_flow.svg'])
def test_drawings_need_nothing_else(drawing):
    text = (IMAGES / drawing).read_text('utf-8')
    assert '<script' not in text and 'href' not in text
    assert text.count('http') == 1, 'the name of the SVG namespace only'
