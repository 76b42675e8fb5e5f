# SPDX-License-Identifier: Apache-2.0
"""What the package must never do, looked for in its source; and what bags and messages cannot."""

from __future__ import annotations

import ast
from collections.abc import Iterator
import contextlib
from pathlib import Path
import socket
import sys

import cv2
import numpy as np
import pytest
import yaml

from dualfocus_ros.bags.bag_files import find_bag_files
from dualfocus_ros.bags.message_types import import_message_class
from dualfocus_ros.cli.main import main
from dualfocus_ros.exceptions import BagError

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / 'dualfocus_ros'
SOURCES = sorted(
    [
        *PACKAGE.rglob('*.py'),
        *(ROOT / 'launch').glob('*.py'),
        *(ROOT / 'scripts').iterdir(),
        *(ROOT / 'drop_ins').rglob('*.py'),
    ]
)
# Unpickling, and network clients. A server is not one:
# `dualfocus view` serves its page to the browser.
FORBIDDEN = {
    'pickle',
    '_pickle',
    'cPickle',
    'cloudpickle',
    'dill',
    'joblib',
    'marshal',
    'shelve',
    'jsonpickle',
    'requests',
    'httpx',
    'aiohttp',
    'urllib.request',
    'urllib3',
    'http.client',
    'ftplib',
    'smtplib',
    'poplib',
    'imaplib',
    'telnetlib',
    'xmlrpc',
    'websocket',
    'websockets',
    'paramiko',
    'huggingface_hub',
    'torch.hub',
}
CALLS = {
    'eval',
    'exec',
    'compile',
    '__import__',
    'os.system',
    'os.popen',
    'torch.load',
    'torch.save',
    'torch.jit.load',
    'yaml.load',
    'yaml.load_all',
    'yaml.unsafe_load',
    'yaml.full_load',
    'socket.create_connection',
    'torch.hub.load',
    'torch.utils.model_zoo.load_url',
}
WRITES = {
    'write_text',
    'write_bytes',
    'save',
    'savez',
    'savefig',
    'save_file',
    'imwrite',
    'dump',
    'tofile',
    'savetxt',
    'savez_compressed',
}
# Functions that write without a temporary file, and the reason.
AT_ONCE = {
    ('training/run_log.py', '_append'): 'a log grows',
    ('benchmark/latency_receiver.py', '__init__'): 'a log grows',
    ('benchmark/stack_player.py', '__init__'): 'a log grows',
    ('demo/node_processes.py', '__init__'): 'the log of a process grows',
    ('bags/bag_files.py', 'decompress_file'): 'in a temporary folder',
}


def parsed() -> Iterator[tuple[Path, ast.Module]]:
    for path in SOURCES:
        if path.is_file():
            yield path, ast.parse(path.read_text('utf-8'))


def name_of(call: ast.Call) -> str:
    return ast.unparse(call.func)


def test_no_unpickling_and_no_network_clients():
    found = []
    for path, module in parsed():
        for node in ast.walk(module):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f'{node.module}.{alias.name}' for alias in node.names)]
            else:
                continue
            found += [
                f'{path}: {name}'
                for name in names
                for bad in FORBIDDEN
                if name == bad or name.startswith(f'{bad}.')
            ]
    assert len(SOURCES) > 200 and found == []


def test_no_eval_unsafe_yaml_or_shell():
    found = []
    for path, module in parsed():
        for node in ast.walk(module):
            if not isinstance(node, ast.Call):
                continue
            name = name_of(node)
            options = {k.arg: k.value for k in node.keywords}
            if name in CALLS and not (name == 'compile' and path.name == '__init__.py'):
                found.append(f'{path}:{node.lineno}: {name}')
            shell = options.get('shell') if 'subprocess' in name or 'Popen' in name else None
            if not _is_false(options.get('allow_pickle')) or not _is_false(shell):
                found.append(f'{path}:{node.lineno}: {ast.unparse(node)}')
    assert found == []


def _is_false(value: ast.expr | None) -> bool:
    return value is None or (isinstance(value, ast.Constant) and value.value is False)


class Writers(ast.NodeVisitor):
    """Finds calls that write to a file at once, with the function that they stand in."""

    def __init__(self) -> None:
        self.found: list[tuple[str, int, str]] = []
        self._functions: list[ast.AST] = []
        self._replacing = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._functions.append(node)
        self.generic_visit(node)
        self._functions.pop()

    def visit_With(self, node: ast.With) -> None:
        for item in node.items:
            self.visit(item.context_expr)
            self._replacing += 'atomic_write(' in ast.unparse(item.context_expr)
        for child in node.body:
            self.visit(child)
        self._replacing -= sum('atomic_write(' in ast.unparse(i.context_expr) for i in node.items)

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        name = name_of(node)
        method = name.rpartition('.')[2]
        # Our own write_text(path, text) is the function; the method of Path has one argument.
        ours = name in ('write_text', 'write_bytes')
        own_method = name.startswith(('self.', 'adapter.', 'settings.'))
        writes = method in WRITES and not ours and not own_method and '.' in name
        writes |= name == 'save_file' or (method == 'open' and _writes(node))
        if writes and not self._replacing and not self._renames():
            function = getattr(self._functions[0], 'name', '') if self._functions else ''
            inner = getattr(self._functions[-1], 'name', '') if self._functions else ''
            self.found.append((inner or function, node.lineno, ast.unparse(node)))

    def _renames(self) -> bool:
        return any('os.replace(' in ast.unparse(function) for function in self._functions)


def _writes(call: ast.Call) -> bool:
    modes = [a.value for a in call.args if isinstance(a, ast.Constant)]
    modes += [
        k.value.value
        for k in call.keywords
        if k.arg == 'mode' and isinstance(k.value, ast.Constant)
    ]
    return any(isinstance(m, str) and len(m) <= 3 and set(m) & set('wax+') for m in modes)


def test_files_are_written_atomically():
    found, used = [], set()
    for path, module in parsed():
        if PACKAGE not in path.parents:
            continue
        writers = Writers()
        writers.visit(module)
        name = str(path.relative_to(PACKAGE))
        for function, line, text in writers.found:
            if (name, function) in AT_ONCE:
                used.add((name, function))
            else:
                found.append(f'{name}:{line} in {function}: {text}')
    assert found == []
    assert used == set(AT_ONCE), 'these no longer write'


def test_message_processing_opens_no_files():
    """Nodes and their modules: paths in messages are not used."""
    opening = {
        'open',
        'read_text',
        'read_bytes',
        'imread',
        'load',
        'fromfile',
        'loadtxt',
        'unlink',
        'rmtree',
        'mkdir',
    }
    allowed = {
        'nodes/monitoring/diagnostics.py': {'open'},  # /proc/self/statm
        # Paths of the command line, in commands without a node.
        'nodes/messages/camera_info_files.py': {'read_text'},
        'nodes/parameters/parameter_reader.py': {'read_text'},
    }
    for folder in ('nodes', 'sweep', 'alignment'):
        for path in (PACKAGE / folder).rglob('*.py'):
            name = str(path.relative_to(PACKAGE))
            calls = {
                name_of(n).rpartition('.')[2]
                for n in ast.walk(ast.parse(path.read_text()))
                if isinstance(n, ast.Call)
            }
            assert calls & opening <= allowed.get(name, set()), name


@pytest.mark.parametrize(
    'listed',
    [
        '../secret.mcap',
        '/etc/secret.mcap',
        '..',
        '../../a/../secret.mcap',
        'sub/secret.mcap',
    ],
)
def test_bag_metadata_cannot_name_outside_files(tmp_path, listed):
    bag = tmp_path / 'bag'
    bag.mkdir()
    (tmp_path / 'secret.mcap').write_bytes(b'secret')
    (bag / 'own.mcap').write_bytes(b'')
    (bag / 'metadata.yaml').write_text(
        yaml.safe_dump(
            {
                'rosbag2_bagfile_information': {'relative_file_paths': [listed, 'own.mcap']},
            }
        )
    )
    with contextlib.suppress(BagError):
        for path in find_bag_files(bag)[0]:
            assert path.parent == bag and '..' not in path.parts
            assert path.name == 'own.mcap'


@pytest.mark.parametrize(
    'message_type',
    [
        'antigravity/msg/X',
        'os/msg/Path',
        'sensor_msgs/msg/Nothing',
        'sensor_msgs/../Image',
        'a',
        '',
        'sensor_msgs.msg/msg/Image',
        'sensor_msgs/msg/_image',
        '../sensor_msgs/msg/Image',
    ],
)
def test_bag_types_import_only_messages(message_type):
    pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
    modules = set(sys.modules)
    with pytest.raises(ImportError):
        import_message_class(message_type)
    assert not {name for name in set(sys.modules) - modules if name.startswith('antigravity')}
    assert import_message_class('sensor_msgs/msg/Image').__name__ == 'Image'


def test_command_writes_only_into_its_folder(tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        pytest.fail('the network was asked')

    monkeypatch.setattr(socket.socket, 'connect', refuse)
    monkeypatch.setattr(socket, 'getaddrinfo', refuse)
    noise = np.random.default_rng(0).integers(0, 255, (64, 80, 3), dtype=np.uint8)
    names = []
    for index, blur in enumerate((1.5, 0.5, 1.5)):
        names.append(str(tmp_path / f'{index}.png'))
        cv2.imwrite(names[-1], cv2.GaussianBlur(noise, (0, 0), blur))
    before = set(tmp_path.rglob('*'))
    out = tmp_path / 'out'
    monkeypatch.chdir(tmp_path)
    words = ['estimate', *names, '--focus-dioptres', '0.5', '1.0', '1.5', '-o', str(out)]
    assert main([*words, '--device', 'cpu', '--no-align']) == 0
    new = set(tmp_path.rglob('*')) - before
    assert new and all(path == out or out in path.parents for path in new)
    assert not any(path.name.startswith('.') for path in new)
