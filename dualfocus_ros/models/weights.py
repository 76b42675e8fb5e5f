# SPDX-License-Identifier: Apache-2.0
"""Weights files: safetensors, checked against the manifest and the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
import hashlib
import json
from pathlib import Path
from typing import Any
import warnings

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
import torch
from torch import Tensor

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
    models: dict[str, dict[str, Any]] = json.loads(MANIFEST.read_text())['models']
    return models


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
    network, tensors = _read(path)
    network.load_state_dict(tensors)
    return LoadedModel(network.eval(), name, digest)


def save_model(path: Path, network: DualFocus, half: bool = True) -> str:
    """Write weights with their configuration; return the SHA-256.

    :param half: store floating-point tensors as float16.
    """
    tensors = {
        name: (value.half() if half and value.is_floating_point() else value).contiguous().clone()
        for name, value in network.state_dict().items()
    }
    with atomic_write(path) as partial:
        save_file(tensors, partial, metadata={CONFIG_KEY: json.dumps(asdict(network.config))})
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


def _read(path: Path) -> tuple[DualFocus, dict[str, Tensor]]:
    """Return the network and its weights; check shapes before allocating.

    :raises WeightsError: naming the difference.
    """
    try:
        with safe_open(str(path), framework='pt') as file:
            names = list(file.keys())
            config = _read_config(path, file.metadata() or {}, len(names))
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
            _check_shapes(path, shapes, _expected_shapes(path, config))
            tensors = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise WeightsError(
            f'{path} is not a complete safetensors file ({error}); copy or train it again'
        ) from None
    network = DualFocus(config)
    for name, tensor in network.state_dict().items():
        if tensors[name].is_floating_point() != tensor.is_floating_point():
            raise WeightsError(f'{path}: {name} is {tensors[name].dtype}, expected {tensor.dtype}')
        if not torch.isfinite(tensors[name].to(tensor.dtype)).all():
            raise WeightsError(f'{path}: {name} has values that are not finite; train it again')
    return network, tensors


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


def _expected_shapes(path: Path, config: DualFocusConfig) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors of a network, without allocating them."""
    try:
        with torch.device('meta'), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # about empty tensors, which fail the check of shapes
            return {n: tuple(t.shape) for n, t in DualFocus(config).state_dict().items()}
    except (ArithmeticError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path}: cannot build a network from its '{CONFIG_KEY}' ({error})"
        ) from None


def _check_shapes(
    path: Path, found: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]
) -> None:
    missing = sorted(expected.keys() - found.keys())
    extra = sorted(found.keys() - expected.keys())
    if missing or extra:
        faults = [f'lacks {missing[0]}' + _more(missing)] if missing else []
        faults += [f'has unexpected {extra[0]}' + _more(extra)] if extra else []
        raise WeightsError(f'{path} does not match its configuration: it {" and ".join(faults)}')
    for name, shape in expected.items():
        if found[name] != shape:
            raise WeightsError(f'{path}: {name} has shape {found[name]}, expected {shape}')


def _more(names: list[str]) -> str:
    return f' (and {len(names) - 1} more)' if len(names) > 1 else ''
