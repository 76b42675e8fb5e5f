# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: training state in one safetensors file (no pickle), replaced atomically."""

from __future__ import annotations

from collections.abc import Mapping
import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
import torch
from torch import Tensor, nn


def save_checkpoint(
    path: Path,
    model: nn.Module,
    average: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    meta: dict[str, Any],
) -> None:
    """Write weights, their average, optimiser state and random state.

    :param meta: further state, as JSON values.
    """
    tensors = {f'model.{name}': value for name, value in model.state_dict().items()}
    tensors |= {f'average.{name}': value for name, value in average.items()}
    for index, state in optimiser.state_dict()['state'].items():
        for name, value in state.items():
            tensors[f'optimiser.{index}.{name}'] = torch.as_tensor(value)
    tensors['random.torch'] = torch.get_rng_state()
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    partial = path.with_suffix('.partial')
    save_file(tensors, partial, metadata={'state': json.dumps(meta)})
    os.replace(partial, path)


def read_meta(path: Path) -> dict[str, Any]:
    """Return the ``meta`` of a checkpoint.

    :raises ValueError: if the file is not a checkpoint.
    """
    try:
        with safe_open(str(path), framework='pt') as file:
            meta: dict[str, Any] = json.loads(file.metadata()['state'])
            return meta
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{path} is not a readable checkpoint ({error}): remove it to start again'
        ) from None


def check_plan(path: Path, found: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Check that a checkpoint has the settings of the run to resume.

    :raises ValueError: naming the fields that differ.
    """
    # Through JSON like those of the checkpoint: tuples become lists.
    before, after = _flatten(found), _flatten(json.loads(json.dumps(now)))
    differing = [n for n in before.keys() | after.keys() if before.get(n) != after.get(n)]
    # Name common fields first.
    differing.sort(key=lambda name: (name not in before or name not in after, name))
    if differing:
        changes = [
            f'{name} was {before.get(name, "not set")}, now {after.get(name, "not set")}'
            for name in differing[:3]
        ]
        more = f' and {len(differing) - 3} more' if len(differing) > 3 else ''
        raise ValueError(
            f'{path} belongs to a training with other settings: {"; ".join(changes)}{more}. '
            'Give the same settings to resume, or another output folder to start again'
        )


def load_checkpoint(
    path: Path,
    model: nn.Module,
    average: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
) -> None:
    """Restore the state written by :func:`save_checkpoint`.

    :raises ValueError: if the checkpoint belongs to another network.
    """
    with safe_open(str(path), framework='pt') as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    weights = _section(tensors, 'model.')
    expected = {name: value.shape for name, value in model.state_dict().items()}
    if {name: value.shape for name, value in weights.items()} != expected:
        raise ValueError(
            f'{path} is a checkpoint of another network configuration: give another output folder'
        )
    model.load_state_dict(weights)
    for name, value in _section(tensors, 'average.').items():
        average[name].copy_(value)
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in _section(tensors, 'optimiser.').items():
        index, field = name.split('.', 1)
        state.setdefault(int(index), {})[field] = value
    groups = optimiser.state_dict()['param_groups']
    optimiser.load_state_dict({'state': state, 'param_groups': groups})
    torch.set_rng_state(tensors['random.torch'])


def _section(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}


def _flatten(value: Any, prefix: str = '') -> dict[str, Any]:
    """Return nested dictionaries as one with dotted names."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= _flatten(inner, f'{prefix}.{name}' if prefix else str(name))
    return flat
