# SPDX-License-Identifier: Apache-2.0
"""Directions of imports between packages, and uniqueness of names."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
import re
import xml.etree.ElementTree as ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / 'docs' / 'images'
PACKAGE = ROOT / 'dualfocus_ros'

# Package: the packages and root modules that it may import. Each may also import those without
# dependencies (LEAVES).
LEAVES = {'exceptions', 'stamps', 'topics'}
ALLOWED = {
    'api': {'alignment', 'camera', 'focal_stack', 'inference', 'io'},
    'camera': set(),
    'focal_stack': {'camera'},
    'io': {'camera', 'focal_stack'},
    'alignment': {'camera', 'focal_stack'},
    'models': {'io'},
    'simulation': {'camera'},
    'sweep': {'camera', 'focal_stack'},
    'inference': {'alignment', 'camera', 'focal_stack', 'models'},
    'visualization': {'camera', 'focal_stack', 'inference', 'io', 'bags'},
    'datasets': {'alignment', 'camera', 'focal_stack', 'io', 'simulation'},
    'calibration': {'alignment', 'camera', 'io', 'simulation'},
    'bags': {'camera', 'focal_stack', 'io'},
    'evaluation': {
        'camera',
        'datasets',
        'inference',
        'io',
        'models',
        'simulation',
        'visualization',
    },
    'training': {
        'camera',
        'datasets',
        'evaluation',
        'inference',
        'io',
        'models',
        'simulation',
        'visualization',
    },
    'nodes': {
        'bags',
        'calibration',
        'camera',
        'focal_stack',
        'inference',
        'io',
        'msg',
        'simulation',
        'sweep',
    },
    'demo': {'bags', 'camera', 'evaluation', 'focal_stack', 'io', 'simulation', 'visualization'},
    'benchmark': {
        'camera',
        'demo',
        'evaluation',
        'focal_stack',
        'inference',
        'io',
        'models',
        'msg',
        'nodes',
        'simulation',
    },
    'cli': {
        'alignment',
        'bags',
        'benchmark',
        'calibration',
        'camera',
        'datasets',
        'demo',
        'evaluation',
        'focal_stack',
        'inference',
        'io',
        'models',
        'nodes',
        'simulation',
        'sweep',
        'training',
        'visualization',
    },
    '__main__': {'cli'},
}
WITH_ROS = {'nodes', 'bags', 'cli', 'benchmark', 'demo'}
ROS = {'rclpy', 'ament_index_python', 'cv_bridge', 'launch', 'rcl_interfaces', 'sensor_msgs_py'}


def modules() -> Iterator[tuple[str, Path]]:
    """Yield package or root module, and file, of every module."""
    for path in sorted(PACKAGE.rglob('*.py')):
        room = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
        if room != '__init__':
            yield room, path


def imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports, those within functions included."""
    for node in ast.walk(ast.parse(path.read_text('utf-8'))):
        if isinstance(node, ast.ImportFrom) and node.module == 'dualfocus_ros':
            yield from (f'dualfocus_ros.{alias.name}' for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_imports_follow_the_table():
    wrong = set()
    for room, path in modules():
        if room in LEAVES:
            allowed = set()
        else:
            allowed = ALLOWED[room] | LEAVES | {room, '__version__'}
        for name in imports(path):
            parts = name.split('.')
            if parts[0] == 'dualfocus_ros' and parts[1] not in allowed:
                wrong.add(f'{path.relative_to(ROOT)} imports {name}')
            if parts[0] == 'research':
                wrong.add(f'{path.relative_to(ROOT)} imports {name}')
    assert wrong == set()


def test_table_has_no_circle():
    tuple(
        TopologicalSorter(
            {room: allowed - {'msg'} for room, allowed in ALLOWED.items()}
        ).static_order()
    )


def test_modules_have_no_circle():
    files = {
        '.'.join(path.relative_to(ROOT).with_suffix('').parts): set(imports(path))
        for _, path in modules()
    }
    tuple(
        TopologicalSorter({name: used & set(files) for name, used in files.items()}).static_order()
    )


def test_every_package_is_in_the_table():
    assert {room for room, _ in modules()} - LEAVES == set(ALLOWED)


def test_only_these_packages_use_ros():
    using = {
        room
        for room, path in modules()
        for name in imports(path)
        if name.split('.')[0] in ROS or name.startswith('dualfocus_ros.msg')
    }
    assert using == WITH_ROS


def test_module_names_are_unique():
    names = Counter(path.stem for _, path in modules() if not path.stem.startswith('__'))
    packages = {path.parent.name for path in PACKAGE.rglob('__init__.py')}
    # A command is named after the package that it calls.
    commands = {path.stem for path in (PACKAGE / 'cli').glob('*.py')}
    assert [name for name, count in names.items() if count > 1] == []
    assert set(names) & (packages - commands) == set()


def test_class_names_are_unique():
    names = Counter(
        node.name
        for _, path in modules()
        for node in ast.parse(path.read_text('utf-8')).body
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_page_lists_every_package():
    page = (ROOT / 'docs' / 'architecture.md').read_text('utf-8')
    packages = {path.parent.name for path in PACKAGE.glob('*/__init__.py')} - {'weights'}
    assert [name for name in packages if f'`{name}/`' not in page] == []


def test_page_names_existing_files():
    page = (ROOT / 'docs' / 'architecture.md').read_text('utf-8')
    named = re.findall(r'`((?:\w+/)*[\w]+\.py)`', page.partition('## Where a change goes')[2])
    assert len(named) > 10
    missing = [n for n in named if 'NAME' not in n and not (PACKAGE / n).is_file()]
    assert missing == []


def test_nodes_and_topics_of_the_drawing_exist():
    tree = ElementTree.parse(IMAGES / 'data_flow.svg')
    texts = {'node': set(), 'topic': set()}
    for element in tree.iter('{http://www.w3.org/2000/svg}text'):
        texts.setdefault(element.get('class', ''), set()).add(element.text or '')
    nodes = {name for name in texts['node'] if name.endswith('_node')}
    assert nodes == {'depth_node', 'focus_sweep_node'}
    assert all((ROOT / 'scripts' / name).is_file() for name in nodes)
    described = (ROOT / 'docs' / 'topics.md').read_text('utf-8')
    assert len(texts['topic']) > 6
    assert [topic for topic in texts['topic'] if f'| `{topic}` |' not in described] == []


@pytest.mark.parametrize('drawing', ['data_flow.svg'])
def test_drawings_load_nothing(drawing):
    text = (IMAGES / drawing).read_text('utf-8')
    assert '<script' not in text and 'href' not in text
    assert text.count('http') == 1, 'the name of the SVG namespace only'
