# SPDX-License-Identifier: Apache-2.0
"""ONNX graphs: equality with PyTorch, metadata, examples of the guide."""

from pathlib import Path
import re
import shutil

import cv2
import numpy as np
import pytest
import torch

from dualfocus_ros.models import LoadedModel, onnx_export
from networks import random_network
from onnx_graphs import LIGHT, SIZE, needs_packages

GUIDE = Path(__file__).resolve().parents[3] / 'docs' / 'export.md'


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


def random_stack():
    rng = np.random.default_rng(3)
    images = rng.random((1, SIZE.planes, 3, SIZE.height, SIZE.width), dtype=np.float32)
    return images, np.array([[-0.1, 0.7, 3.0]], dtype=np.float32)


@needs_packages
def test_whole_graph_equals_pytorch(model, whole):
    images, focus = random_stack()
    with torch.inference_mode():
        expected = model.network(torch.from_numpy(images), torch.from_numpy(focus))
    inverse_depth, sigma = onnx_export.run_onnx([whole], images, focus)
    assert inverse_depth.shape == sigma.shape == (1, SIZE.height, SIZE.width)
    assert np.abs(inverse_depth - expected.dioptres.numpy()).max() < 1e-4
    assert np.abs(sigma - expected.sigma.numpy()).max() < 1e-4
    # The outputs are not constant.
    assert np.ptp(inverse_depth) > 0.1
    differences = {
        d.output: d for d in onnx_export.compare_with_pytorch(model, [whole], images, focus)
    }
    found = differences['inverse_depth'].largest * 3.1
    assert found == pytest.approx(np.abs(inverse_depth - expected.dioptres.numpy()).max())


@needs_packages
def test_split_graphs_equal_the_whole(whole, split):
    images, focus = random_stack()
    for one, other in zip(
        onnx_export.run_onnx([whole], images, focus),
        onnx_export.run_onnx(split, images, focus),
        strict=True,
    ):
        assert np.abs(one - other).max() < 1e-5


@needs_packages
def test_metadata_has_the_model_but_no_local_paths(whole, split):
    import onnx

    for path, part in zip([whole, *split], ['whole', 'encoder', 'decoder'], strict=True):
        graph = onnx.load(path)
        onnx.checker.check_model(graph, full_check=True)
        metadata = {entry.key: entry.value for entry in graph.metadata_props}
        assert metadata['part'] == part
        assert (metadata['model'], metadata['weights_sha256']) == ('small', 'ab' * 32)
        assert (metadata['planes'], metadata['height'], metadata['width']) == ('3', '26', '45')
        assert '1/m' in metadata['inverse_depth'] and '1/m' in metadata['sigma']
        # Not shipped weights: their licence is unknown.
        assert metadata['licence'].startswith('network Apache-2.0; weights')
        assert str(Path(onnx_export.__file__).parent).encode() not in path.read_bytes()
        assert [file.name for file in path.parent.iterdir() if file.suffix != '.onnx'] == []


@needs_packages
def test_examples_of_the_guide_run(model, whole, split, tmp_path, monkeypatch):
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
