# SPDX-License-Identifier: Apache-2.0
"""Weights files: safetensors, checked against the manifest and the network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
import hashlib
import json
from pathlib import Path
from typing import Any
import warnings

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
import torch
from torch import Tensor, nn

from dualfocus_ros.exceptions import WeightsError
from dualfocus_ros.io.atomic_files import atomic_write
from dualfocus_ros.models.dualfocus import DualFocus
from dualfocus_ros.models.dualfocus_config import DualFocusConfig

WEIGHTS_FOLDER = Path(__file__).resolve().parent.parent / 'weights'
MANIFEST = WEIGHTS_FOLDER / 'manifest.json'
CONFIG_KEY = 'dualfocus_config'


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """Network with loaded weights.

    :param name: shipped name, or file name without its suffix.
    :param sha256: hash of the weights file.
    """

    network: DualFocus
    name: str
    sha256: str


def shipped_models() -> dict[str, dict[str, Any]]:
    """Return the manifest of shipped weights: file, hash and training recipe by name."""
    if not MANIFEST.is_file():
        return {}
    return dict(json.loads(MANIFEST.read_text())['models'])


def resolve_model(model: str) -> tuple[Path, str, str | None]:
    """Return path, name and expected SHA-256 of a shipped name or of a ``.safetensors`` path.

    ``auto`` is the first model of the manifest.

    :raises WeightsError: for an unknown name.
    """
    shipped = shipped_models()
    if model == 'auto' and shipped:
        model = next(iter(shipped))
    if model in shipped:
        return WEIGHTS_FOLDER / shipped[model]['file'], model, shipped[model]['sha256']
    path = Path(model).expanduser()
    if path.suffix != '.safetensors':
        names = ', '.join(['auto', *shipped]) or 'none'
        raise WeightsError(
            f"unknown model '{model}': give a shipped name ({names}) or the path of a "
            '.safetensors file'
        )
    return path, path.stem, None


def load_model(model: str = 'auto') -> LoadedModel:
    """Load a network in float32 on the CPU, in evaluation mode.

    :param model: shipped name, ``auto`` (the first of the manifest), or path of a
        ``.safetensors`` file.
    :raises WeightsError: if the file is missing or damaged, or does not match the manifest or
        its configuration.
    """
    path, name, expected = resolve_model(model)
    digest = _sha256(path)
    if expected is not None and digest != expected:
        raise WeightsError(
            f'weights {path} do not match the manifest: SHA-256 {digest[:12]}…, '
            f'expected {expected[:12]}…; install the package again'
        )
    with open_weights(path) as file:
        config = _read_config(path, file.metadata() or {}, len(file.keys()))
        tensors = read_state(path, file, _expected_state(path, config))
    network = DualFocus(config)
    network.load_state_dict(tensors)
    return LoadedModel(network.eval(), name, digest)


def save_model(path: Path, network: DualFocus, half: bool = True) -> str:
    """Write weights with their configuration; return the SHA-256.

    :param half: store floating-point tensors as float16.
    """
    return save_state(path, network, {CONFIG_KEY: json.dumps(asdict(network.config))}, half)


def save_state(path: Path, network: nn.Module, metadata: dict[str, str], half: bool) -> str:
    """Write the state of any network; return the SHA-256."""
    tensors = {
        name: (value.half() if half and value.is_floating_point() else value).contiguous().clone()
        for name, value in network.state_dict().items()
    }
    with atomic_write(path) as partial:
        save_file(tensors, partial, metadata=metadata)
        # safetensors writes files readable by their owner only.
        partial.chmod(0o644)
    return _sha256(path)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    try:
        with path.open('rb') as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise WeightsError(f'cannot read weights {path}: {error.strerror}') from None
    return digest.hexdigest()


@contextmanager
def open_weights(path: Path) -> Iterator[Any]:
    """Open a safetensors file.

    :raises WeightsError: if it is damaged.
    """
    try:
        with safe_open(str(path), framework='pt') as file:
            yield file
    except SafetensorError as error:
        raise WeightsError(
            f'{path} is not a complete safetensors file ({error}); copy or train it again'
        ) from None


def read_state(path: Path, file: Any, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of an open file; check shapes before allocating.

    :param expected: state of the network; only shapes and types count.
    :raises WeightsError: naming the difference.
    """
    shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}
    missing = sorted(expected.keys() - shapes.keys())
    extra = sorted(shapes.keys() - expected.keys())
    if missing or extra:
        faults = [f'lacks {missing[0]}' + _more(missing)] if missing else []
        faults += [f'has unexpected {extra[0]}' + _more(extra)] if extra else []
        raise WeightsError(f'{path} does not match its configuration: it {" and ".join(faults)}')
    for name, tensor in expected.items():
        if shapes[name] != tuple(tensor.shape):
            raise WeightsError(
                f'{path}: {name} has shape {shapes[name]}, expected {tuple(tensor.shape)}'
            )
    found = {name: file.get_tensor(name) for name in expected}
    for name, tensor in expected.items():
        if found[name].is_floating_point() != tensor.is_floating_point():
            raise WeightsError(f'{path}: {name} is {found[name].dtype}, expected {tensor.dtype}')
        if not torch.isfinite(found[name].to(tensor.dtype)).all():
            raise WeightsError(f'{path}: {name} has values that are not finite; train it again')
    return found


def _read_config(path: Path, metadata: Mapping[str, str], count: int) -> DualFocusConfig:
    """Return the configuration from the metadata of a file with ``count`` tensors."""
    try:
        values = json.loads(metadata[CONFIG_KEY])
        known = {item.name for item in fields(DualFocusConfig)}
        unknown = sorted(values.keys() - known)
        if unknown:
            raise ValueError(f'unknown fields {", ".join(unknown)}')
        widths: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
        }
        config = DualFocusConfig(**widths)
        # Each block and level has at least one tensor: bounds the time to build the network.
        largest = max(config.blocks, *config.encoder_blocks, len(config.volume))
        if largest > count:
            raise ValueError(f'{largest} blocks or levels, but {count} tensors')
        return config
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path} has no usable '{CONFIG_KEY}' ({error}): it was not written by this package"
        ) from None


def _expected_state(path: Path, config: DualFocusConfig) -> dict[str, Tensor]:
    """Return the state of a network without allocating it."""
    try:
        with torch.device('meta'), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # about empty tensors, which fail the check of shapes
            return DualFocus(config).state_dict()
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path}: cannot build a network from its '{CONFIG_KEY}' ({error})"
        ) from None


def _more(names: list[str]) -> str:
    return f' (and {len(names) - 1} more)' if len(names) > 1 else ''
