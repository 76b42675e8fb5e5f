# SPDX-License-Identifier: Apache-2.0
"""``dualfocus export``: ONNX that computes what PyTorch does, and what it says of itself."""

from importlib.util import find_spec
import json
from pathlib import Path
import re
import shutil

import cv2
import numpy as np
import pytest
import torch

from dualfocus_ros.cli.main import main
from dualfocus_ros.models import CONFIGURATIONS, DualFocusConfig, LoadedModel, onnx_export
from dualfocus_ros.models.weights import save_model
from networks import random_network

GUIDE = Path(__file__).resolve().parents[3] / 'docs' / 'export.md'
PACKAGES = ('onnx', 'onnxscript', 'onnxruntime')
needs_packages = pytest.mark.skipif(
    any(find_spec(name) is None for name in PACKAGES), reason=f'needs {", ".join(PACKAGES)}'
)

# All parts of the configurations that ship, at widths that a test can afford; the size is none
# that the network could take without padding.
LIGHT = DualFocusConfig(
    encoder=(8, 8, 8),
    encoder_blocks=(1, 1),
    volume=(6, 6),
    decoder=(8, 8),
    surfaces=2,
    keys=2,
    smoothing=0.5,
)
SIZE = onnx_export.StackShape(planes=3, height=26, width=45)


@pytest.fixture(scope='module')
def model():
    return LoadedModel(random_network(LIGHT, 0), 'small', 'ab' * 32)


@pytest.fixture(scope='module')
def whole(model, tmp_path_factory):
    path = tmp_path_factory.mktemp('whole') / 'dualfocus.onnx'
    onnx_export.export_whole(model, path, SIZE)
    return path


@pytest.fixture(scope='module')
def split(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp('split')
    paths = [folder / f'dualfocus.{part}.onnx' for part in ('encoder', 'decoder')]
    onnx_export.export_split(model, *paths, SIZE)
    return paths


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Weights of a network like the published one: other trunk, 3-D convolutions, metres."""
    published = CONFIGURATIONS['dualfocus-paper']
    small = {'decoder': (4, 4, 4, 4), 'surfaces': 2, 'blocks': 1}
    config = DualFocusConfig(**{**vars(published), **small})
    path = tmp_path_factory.mktemp('weights') / 'published.safetensors'
    save_model(path, random_network(config, 1))
    return path


def random_stack():
    rng = np.random.default_rng(3)
    images = rng.random((1, SIZE.planes, 3, SIZE.height, SIZE.width), dtype=np.float32)
    return images, np.array([[-0.1, 0.7, 3.0]], dtype=np.float32)


def failure(capsys, *arguments):
    """Return exit status and message of ``dualfocus export``."""
    status = main(['export', *map(str, arguments)])
    return status, capsys.readouterr().err


@needs_packages
def test_the_whole_graph_computes_what_pytorch_does(model, whole):
    images, focus = random_stack()
    with torch.inference_mode():
        expected = model.network(torch.from_numpy(images), torch.from_numpy(focus))
    inverse_depth, sigma = onnx_export.run_onnx([whole], images, focus)
    assert inverse_depth.shape == sigma.shape == (1, SIZE.height, SIZE.width)
    assert np.abs(inverse_depth - expected.dioptres.numpy()).max() < 1e-4
    assert np.abs(sigma - expected.sigma.numpy()).max() < 1e-4
    # The network says something about these images, so that this compares more than constants.
    assert np.ptp(inverse_depth) > 0.1
    differences = {
        d.output: d for d in onnx_export.compare_with_pytorch(model, [whole], images, focus)
    }
    found = differences['inverse_depth'].largest * 3.1
    assert found == pytest.approx(np.abs(inverse_depth - expected.dioptres.numpy()).max())


@needs_packages
def test_the_parts_compute_what_the_whole_does(whole, split):
    images, focus = random_stack()
    for one, other in zip(
        onnx_export.run_onnx([whole], images, focus),
        onnx_export.run_onnx(split, images, focus),
        strict=True,
    ):
        assert np.abs(one - other).max() < 1e-5


@needs_packages
def test_the_files_say_what_they_are_and_not_where_they_were_made(whole, split):
    import onnx

    for path, part in zip([whole, *split], ['whole', 'encoder', 'decoder'], strict=True):
        graph = onnx.load(path)
        onnx.checker.check_model(graph, full_check=True)
        about = {entry.key: entry.value for entry in graph.metadata_props}
        assert about['part'] == part
        assert (about['model'], about['weights_sha256']) == ('small', 'ab' * 32)
        assert (about['planes'], about['height'], about['width']) == ('3', '26', '45')
        assert '1/m' in about['inverse_depth'] and '1/m' in about['sigma']
        # These weights are not ours to license.
        assert about['licence'].startswith('network Apache-2.0; weights')
        assert str(Path(onnx_export.__file__).parent).encode() not in path.read_bytes()
        assert [file.name for file in path.parent.iterdir() if file.suffix != '.onnx'] == []


@needs_packages
def test_the_guide_runs_as_it_is_written(model, whole, split, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in [whole, *split]:
        shutil.copy(path, tmp_path)
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, (3, SIZE.height, SIZE.width, 3), dtype=np.uint8)
    for name, image in zip(['far', 'middle', 'near'], pixels, strict=True):
        cv2.imwrite(f'{name}.png', image[..., ::-1])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2)[None] / 255.0
    with torch.inference_mode():
        expected = model.network(images, torch.tensor([[0.5, 1.0, 2.0]]))
    examples = re.findall(r'```python\n(.*?)```', GUIDE.read_text(), re.S)
    assert len(examples) == 2
    for example in examples:
        names: dict = {}
        exec(compile(example, str(GUIDE), 'exec'), names)
        assert np.abs(names['inverse_depth'] - expected.dioptres.numpy()).max() < 1e-4
    exec(compile(examples[0], str(GUIDE), 'exec'), names)
    assert np.abs(names['depth'] - 1.0 / expected.dioptres[0].numpy()).max() < 1e-3


@pytest.mark.slow
@needs_packages
def test_the_command_exports_and_checks_a_network_like_the_published_one(
    weights, tmp_path, capsys
):
    path = tmp_path / 'new' / 'published.onnx'
    size = ['--planes', '2', '--size', '40x33']
    assert main(['export', '-o', str(path), '--model', str(weights), *size, '--json']) == 0
    report = json.loads(capsys.readouterr().out)
    assert report['files'] == [str(path)] and path.is_file()
    rows = {(row['images'], row['output']): row for row in report['differences']}
    assert len(rows) == 4
    assert all(0.0 <= row['median'] <= row['largest'] < 1e-4 for row in rows.values())


@needs_packages
def test_a_graph_that_computes_something_else_is_found_and_kept(
    whole, tmp_path, capsys, monkeypatch
):
    other = tmp_path / 'other.safetensors'
    save_model(other, random_network(LIGHT, 7))
    # As if the export had gone wrong: the graph of another network.
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
        ({'--size': '0x48'}, '--size must be above 0 pixels both ways, got 0 x 48'),
        ({'--size': '64x-1'}, '--size must be above 0 pixels both ways, got 64 x -1'),
        ({'--size': 'large'}, "--size must be WIDTHxHEIGHT, as 640x480, got 'large'"),
        ({'--planes': '1'}, '--planes must be 2 to 32, got 1'),
        ({'--planes': '33'}, '--planes must be 2 to 32, got 33'),
        ({'-o': 'network.pt'}, "must be a file whose name ends in .onnx, got 'network.pt'"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(capsys, change, text):
    options = {'-o': 'network.onnx', '--planes': '3', '--size': '64x48'} | change
    # The = keeps a value that begins with a minus sign from being read as an option.
    words = [f'{key}={value}' if key != '-o' else f'-o{value}' for key, value in options.items()]
    status, found = failure(capsys, *words)
    assert status == 2
    assert text in found and len(found.splitlines()) == 1


@pytest.mark.parametrize('missing', [('onnx', 'onnxscript'), ('onnxruntime',)])
def test_missing_packages_are_named_with_the_command_that_installs_them(
    capsys, monkeypatch, tmp_path, missing
):
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
def test_without_onnxruntime_the_export_itself_still_works(whole, tmp_path, capsys, monkeypatch):
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
