# SPDX-License-Identifier: Apache-2.0
"""Weights on disk: safetensors only, checked against the manifest and the network."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
import hashlib
import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
import torch
from torch import Tensor

from dualfocus_ros.network.configurations import DualFocusConfig
from dualfocus_ros.network.model import DualFocus

WEIGHTS_FOLDER = Path(__file__).resolve().parent.parent / 'weights'
MANIFEST = WEIGHTS_FOLDER / 'manifest.json'
CONFIG_KEY = 'dualfocus_config'


class WeightsError(ValueError):
    """Weights that cannot be used; the text says what differs and what to do."""


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A network ready for inference.

    :param name: the shipped name, or the file's name without its suffix.
    :param sha256: hash of the weights file.
    """

    network: DualFocus
    name: str
    sha256: str


def shipped_models() -> dict[str, dict[str, Any]]:
    """Return the manifest: what ships under which name, and how it was trained."""
    if not MANIFEST.is_file():
        return {}
    models: dict[str, dict[str, Any]] = json.loads(MANIFEST.read_text())['models']
    return models


def resolve(model: str) -> tuple[Path, str, str | None]:
    """Return path, name and expected SHA-256 of a shipped name or of a ``.safetensors`` path.

    ``auto`` is the first model of the manifest.

    :raises WeightsError: for an unknown name or a file that is not there.
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
            f"unknown model '{model}': give one of the shipped names ({names}) "
            'or the path of a .safetensors file'
        )
    return path, path.stem, None


def load_model(model: str = 'auto') -> LoadedModel:
    """Load a network in float32 on the CPU, in evaluation mode.

    :param model: a shipped name, ``auto``, or the path of a ``.safetensors`` file.
    :raises WeightsError: if the file is missing, damaged, not the one in the manifest, or does
        not fit the network that it says it belongs to.
    """
    path, name, expected = resolve(model)
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise WeightsError(f'cannot read weights {path}: {error.strerror}') from None
    if expected is not None and digest != expected:
        raise WeightsError(
            f'weights {path} are not those of the manifest: SHA-256 {digest[:12]}…, '
            f'expected {expected[:12]}…; install the package again'
        )
    config, tensors = _read(path)
    network = DualFocus(config)
    _check_tensors(path, tensors, network.state_dict())
    network.load_state_dict(tensors)
    return LoadedModel(network.eval(), name, digest)


def save_model(path: Path, network: DualFocus, half: bool = True) -> str:
    """Write weights (half precision by default) with their configuration; return the SHA-256."""
    tensors = {
        name: (value.half() if half and value.is_floating_point() else value).contiguous().clone()
        for name, value in network.state_dict().items()
    }
    partial = path.with_suffix('.partial')
    save_file(tensors, partial, metadata={CONFIG_KEY: json.dumps(asdict(network.config))})
    # The library writes files that only their owner may read; an installed package is shared.
    partial.chmod(0o644)
    os.replace(partial, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _read(path: Path) -> tuple[DualFocusConfig, dict[str, Tensor]]:
    try:
        with safe_open(str(path), framework='pt') as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except SafetensorError as error:
        raise WeightsError(
            f'{path} is not a whole safetensors file ({error}); copy or train it again'
        ) from None
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
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{path} holds no usable '{CONFIG_KEY}' ({error}): it was not written by this package"
        ) from None
    return config, tensors


def _check_tensors(path: Path, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    missing = sorted(expected.keys() - found.keys())
    extra = sorted(found.keys() - expected.keys())
    if missing or extra:
        parts = [f'lacks {missing[0]}' + _more(missing)] if missing else []
        parts += [f'has unexpected {extra[0]}' + _more(extra)] if extra else []
        raise WeightsError(f'{path} does not fit its configuration: it {" and ".join(parts)}')
    for name, tensor in expected.items():
        if found[name].shape != tensor.shape:
            raise WeightsError(
                f'{path}: {name} has shape {tuple(found[name].shape)}, '
                f'expected {tuple(tensor.shape)}'
            )
        if not torch.isfinite(found[name]).all():
            raise WeightsError(f'{path}: {name} holds values that are not finite')


def _more(names: list[str]) -> str:
    return f' (and {len(names) - 1} more)' if len(names) > 1 else ''
