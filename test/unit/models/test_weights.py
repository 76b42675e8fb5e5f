# SPDX-License-Identifier: Apache-2.0
"""Weights files: round trip, refused files and their messages."""

import contextlib
import json
from pathlib import Path
import pickle
import struct

from hypothesis import given, settings, strategies as st
import pytest
from safetensors.torch import load_file, save_file
import torch

from dualfocus_ros.exceptions import WeightsError
from dualfocus_ros.models import DualFocus, DualFocusConfig, load_model
from dualfocus_ros.models.weights import CONFIG_KEY, WEIGHTS_FOLDER, save_model, shipped_models

SMALL = DualFocusConfig(encoder=(8, 8, 8, 8), volume=(4, 4, 4), decoder=(8, 8, 8), surfaces=2)


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(0)
    network = DualFocus(SMALL).eval()
    path = tmp_path / 'small.safetensors'
    save_model(path, network, half=False)
    return network, path


def rewrite(path, change):
    """Save the file again after ``change(tensors, metadata)``."""
    tensors = load_file(path)
    metadata = {
        CONFIG_KEY: json.dumps(
            {'encoder': [8, 8, 8, 8], 'volume': [4, 4, 4], 'decoder': [8, 8, 8], 'surfaces': 2}
        )
    }
    change(tensors, metadata)
    save_file(tensors, path, metadata=metadata)


def test_round_trip_gives_an_equal_network(saved):
    network, path = saved
    loaded = load_model(str(path))
    assert loaded.name == 'small' and len(loaded.sha256) == 64
    images, dioptres = torch.rand(1, 3, 3, 32, 32), torch.tensor([[0.1, 1.0, 2.0]])
    with torch.inference_mode():
        expected, found = network(images, dioptres), loaded.network(images, dioptres)
    assert torch.equal(expected.dioptres, found.dioptres)


def test_half_precision_stays_close(saved, tmp_path):
    network, _ = saved
    path = tmp_path / 'half.safetensors'
    save_model(path, network)
    for name, value in load_model(str(path)).network.state_dict().items():
        assert torch.allclose(value, network.state_dict()[name], rtol=1e-3, atol=1e-6), name


def test_unknown_name_lists_shipped_models():
    with pytest.raises(WeightsError, match=r'unknown model .nonsense.*\.safetensors'):
        load_model('nonsense')


def test_missing_file_is_refused():
    with pytest.raises(WeightsError, match='cannot read weights'):
        load_model('/nowhere/at/all.safetensors')


@pytest.mark.fault(23)
def test_truncated_file_is_refused(saved):
    _, path = saved
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match='not a complete safetensors file'):
        load_model(str(path))


class Trap:
    """Object with a side effect when unpickled."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return Path.touch, (self.witness,)


@pytest.mark.fault(23)
@pytest.mark.parametrize(
    'save',
    [
        torch.save,
        lambda content, path: path.write_bytes(pickle.dumps(content)),
    ],
)
def test_pickle_is_refused_without_running_it(tmp_path, save):
    path, witness = tmp_path / 'pickled.safetensors', tmp_path / 'witness'
    save({'weight': Trap(witness)}, path)
    with pytest.raises(WeightsError, match='not a complete safetensors file'):
        load_model(str(path))
    assert not witness.exists()


def renamed(tensors, metadata):
    tensors['logit.offset'] = tensors.pop('logit.bias')


def described(**changes):
    """Return a function that changes the configuration in a file."""

    def change(tensors, metadata):
        metadata[CONFIG_KEY] = json.dumps({**json.loads(metadata[CONFIG_KEY]), **changes})

    return change


@pytest.mark.fault(23)
@pytest.mark.parametrize(
    ('change', 'text'),
    [
        (lambda t, m: t.pop('logit.bias'), 'lacks logit.bias$'),
        (lambda t, m: t.update(extra=torch.ones(1)), 'has unexpected extra'),
        (renamed, 'lacks logit.bias and has unexpected logit.offset'),
        (
            lambda t, m: t.update({'logit.bias': torch.ones(2)}),
            r'logit.bias has shape \(2,\), expected \(1,\)',
        ),
        (
            lambda t, m: t.update({'logit.bias': torch.ones(1, dtype=torch.int32)}),
            r'logit.bias is torch.int32, expected torch.float32',
        ),
        (lambda t, m: t['logit.bias'].fill_(float('nan')), 'logit.bias has values'),
        (lambda t, m: t['logit.bias'].fill_(float('-inf')), 'logit.bias has values'),
        (lambda t, m: m.clear(), 'no usable'),
        (lambda t, m: m.update({CONFIG_KEY: 'no JSON'}), 'no usable'),
        (lambda t, m: m.update({CONFIG_KEY: '[1, 2]'}), 'no usable'),
        (lambda t, m: m.update({CONFIG_KEY: '[' * 10**6}), 'no usable'),
        (lambda t, m: m.update({CONFIG_KEY: '{"colour": 3}'}), 'unknown fields colour'),
        (described(decoder=[8, 8, 16]), 'has shape|does not match its configuration'),
        (described(decoder=[8]), 'same number of levels'),
        (described(encoder=['a', 8, 8, 8]), 'cannot build a network'),
        (described(encoder=[-1, 8, 8, 8]), 'cannot build a network'),
        (described(unit='parsecs'), 'unit must be one of dioptres, metres'),
        # Refused before allocation: more memory than any machine has.
        (described(encoder=[10**7] * 4), 'has shape'),
        (described(blocks=10**9), 'blocks or levels'),
        (described(surfaces=10**12), 'has shape'),
    ],
)
def test_wrong_content_is_named_in_the_message(saved, change, text):
    _, path = saved
    rewrite(path, change)
    with pytest.raises(WeightsError, match=text) as error:
        load_model(str(path))
    assert str(path) in str(error.value)


HUGE_SHAPE = b'{"a":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4]}}'


@pytest.mark.fault(23)
@pytest.mark.parametrize(
    'content',
    [
        b'',
        b'\0' * 7,
        struct.pack('<Q', 2**63) + b'{}',
        struct.pack('<Q', 2) + b'{}',
        struct.pack('<Q', 8) + b'not JSON',
        struct.pack('<Q', len(HUGE_SHAPE)) + HUGE_SHAPE + bytes(4),
    ],
)
def test_inconsistent_header_is_refused(tmp_path, content):
    path = tmp_path / 'header.safetensors'
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r'not a complete safetensors file|no usable'):
        load_model(str(path))


@pytest.mark.fault(23)
@given(st.integers(0, 400), st.integers(0, 255))
@settings(max_examples=60, deadline=None)
def test_corrupt_header_byte_gives_a_weights_error(tmp_path_factory, at, value):
    path = tmp_path_factory.getbasetemp() / 'one_byte.safetensors'
    if not path.exists():
        save_model(path, DualFocus(SMALL).eval(), half=False)
    content = bytearray(path.read_bytes())
    content[at] = value
    changed = path.with_name('changed.safetensors')
    changed.write_bytes(content)
    with contextlib.suppress(WeightsError):
        load_model(str(changed))


def test_shipped_models_load_and_match_the_manifest():
    shipped = shipped_models()
    assert shipped, 'no weights ship with the package'
    for name, entry in shipped.items():
        loaded = load_model(name)
        assert loaded.sha256 == entry['sha256']
        assert sum(p.numel() for p in loaded.network.parameters()) == entry['parameters']
    total = sum((WEIGHTS_FOLDER / entry['file']).stat().st_size for entry in shipped.values())
    assert total <= 25e6


@pytest.mark.fault(23)
def test_changed_shipped_weights_are_refused(monkeypatch, tmp_path):
    from dualfocus_ros.models import weights

    name, entry = next(iter(shipped_models().items()))
    (tmp_path / entry['file']).write_bytes((WEIGHTS_FOLDER / entry['file']).read_bytes() + b'x')
    (tmp_path / 'manifest.json').write_text(weights.MANIFEST.read_text())
    monkeypatch.setattr(weights, 'WEIGHTS_FOLDER', tmp_path)
    with pytest.raises(WeightsError, match='do not match the manifest'):
        load_model(name)
