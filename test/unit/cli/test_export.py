# SPDX-License-Identifier: Apache-2.0
"""``dualfocus export``: check against PyTorch, invalid options, missing packages."""

from importlib.util import find_spec
import json
import shutil

import pytest

from dualfocus_ros.cli.main import main
from dualfocus_ros.models import CONFIGURATIONS, DualFocusConfig, LoadedModel, onnx_export
from dualfocus_ros.models.weights import save_model
from networks import random_network
from onnx_graphs import LIGHT, SIZE, needs_packages


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Weights of a small network like the published one: ResNet, 3-D convolutions, metres."""
    published = CONFIGURATIONS['dualfocus-paper']
    small = {'decoder': (4, 4, 4, 4), 'surfaces': 2, 'blocks': 1}
    config = DualFocusConfig(**{**vars(published), **small})
    path = tmp_path_factory.mktemp('weights') / 'published.safetensors'
    save_model(path, random_network(config, 1))
    return path


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    """Graph of a small network."""
    path = tmp_path_factory.mktemp('whole') / 'dualfocus.onnx'
    model = LoadedModel(random_network(LIGHT, 0), 'small', 'ab' * 32)
    onnx_export.export_whole(model, path, SIZE)
    return path


def failure(capsys, *arguments):
    """Return exit status and message of ``dualfocus export``."""
    status = main(['export', *map(str, arguments)])
    return status, capsys.readouterr().err


@pytest.mark.slow
@needs_packages
def test_exports_and_checks_a_network_like_the_published_one(weights, tmp_path, capsys):
    path = tmp_path / 'new' / 'published.onnx'
    size = ['--planes', '2', '--size', '40x33']
    assert main(['export', '-o', str(path), '--model', str(weights), *size, '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['files'] == [str(path)] and path.is_file()
    rows = {(row['images'], row['output']): row for row in report['differences']}
    assert len(rows) == 4
    assert all(0.0 <= row['median'] <= row['largest'] < 1e-4 for row in rows.values())


@needs_packages
def test_graph_of_another_network_is_reported_and_kept(whole, tmp_path, capsys, monkeypatch):
    other = tmp_path / 'other.safetensors'
    save_model(other, random_network(LIGHT, 7))
    # Simulate a wrong export by the graph of another network.
    monkeypatch.setattr(
        onnx_export, 'export_whole', lambda model, path, size: shutil.copy(whole, path)
    )
    path = tmp_path / 'wrong.onnx'
    status, text = failure(capsys, '-o', path, '--model', other, '--planes', 3, '--size', '45x26')
    assert status == 1
    assert 'differ by more than 0.001 of the sweep' in text and f'{path} kept' in text
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        ({'--size': '0x48'}, '--size must be positive in pixels, got 0 x 48'),
        ({'--size': '64x-1'}, '--size must be positive in pixels, got 64 x -1'),
        ({'--size': 'large'}, "--size must be WIDTHxHEIGHT, such as 640x480, got 'large'"),
        ({'--planes': '1'}, '--planes must be 2 to 32, got 1'),
        ({'--planes': '33'}, '--planes must be 2 to 32, got 33'),
        ({'-o': 'network.pt'}, "must be a file whose name ends in .onnx, got 'network.pt'"),
    ],
)
def test_invalid_options_are_refused_in_one_line(capsys, change, text):
    options = {'-o': 'network.onnx', '--planes': '3', '--size': '64x48'} | change
    # '=' for values that start with a minus sign.
    words = [f'{key}={value}' if key != '-o' else f'-o{value}' for key, value in options.items()]
    status, found = failure(capsys, *words)
    assert status == 2
    assert text in found and len(found.splitlines()) == 1


@pytest.mark.parametrize('missing', [('onnx', 'onnxscript'), ('onnxruntime',)])
def test_missing_packages_are_named_with_pip_command(capsys, monkeypatch, tmp_path, missing):
    monkeypatch.setattr(
        onnx_export, 'find_spec', lambda name: None if name in missing else object()
    )
    path = tmp_path / 'network.onnx'
    status, text = failure(capsys, '-o', path, '--planes', 3, '--size', '64x48')
    assert status == 1
    assert f'{" and ".join(missing)} not installed' in text
    assert "pip install 'dualfocus_ros[export]'" in text
    assert ('--no-check' in text) == (missing == ('onnxruntime',))
    assert not path.exists()


@needs_packages
def test_no_check_needs_no_onnxruntime(whole, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        onnx_export, 'find_spec', lambda name: None if name == 'onnxruntime' else find_spec(name)
    )
    monkeypatch.setattr(
        onnx_export, 'export_whole', lambda model, path, size: shutil.copy(whole, path)
    )
    path = tmp_path / 'network.onnx'
    size = ['--planes', '3', '--size', '45x26']
    assert main(['export', '-o', str(path), *size, '--no-check']) == 0
    assert path.is_file()
    assert 'not checked' in capsys.readouterr().out
