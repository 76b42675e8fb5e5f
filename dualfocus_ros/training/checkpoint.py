# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: training state in one safetensors file (no pickle), replaced atomically."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
import torch
from torch import Tensor, nn

from dualfocus_ros.io.atomic_files import atomic_write


def save_checkpoint(
    path: Path,
    model: nn.Module,
    average: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    meta: dict[str, Any],
) -> None:
    """Write weights, their average, optimiser and random state, and ``meta`` with the ``plan``."""
    tensors = {f'model.{name}': value for name, value in model.state_dict().items()}
    tensors |= {f'average.{name}': value for name, value in average.items()}
    for index, state in optimiser.state_dict()['state'].items():
        for name, value in state.items():
            tensors[f'optimiser.{index}.{name}'] = torch.as_tensor(value)
    tensors['random.torch'] = torch.get_rng_state()
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    with atomic_write(path) as partial:
        save_file(tensors, partial, metadata={'state': json.dumps(meta)})


def load_checkpoint(
    path: Path,
    model: nn.Module,
    average: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
    plan: dict[str, Any],
) -> dict[str, Any]:
    """Restore the state written by :func:`save_checkpoint`; return its ``meta``.

    :param plan: settings of the run to resume.
    :raises ValueError: if the file is no checkpoint, or of other settings or another network.
    """
    try:
        with safe_open(str(path), framework='pt') as file:
            meta: dict[str, Any] = json.loads(file.metadata()['state'])
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f'{path} is not a readable checkpoint ({error}): remove it to start again'
        ) from None
    _check_plan(path, meta.get('plan', {}), plan)
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
    return meta


def _section(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {n[len(prefix) :]: t for n, t in tensors.items() if n.startswith(prefix)}


def _check_plan(path: Path, found: dict[str, Any], now: dict[str, Any]) -> None:
    """Compare the settings of a checkpoint with those of this run; name what differs."""
    # Through JSON like those of the checkpoint: tuples become lists.
    before, after = _flatten(found), _flatten(json.loads(json.dumps(now)))
    differing = [n for n in before.keys() | after.keys() if before.get(n) != after.get(n)]
    if not differing:
        return
    # Name common fields first.
    differing.sort(key=lambda name: (name not in before or name not in after, name))
    old, new = ({n: flat.get(n, 'not set') for n in differing} for flat in (before, after))
    changes = [f'{name} was {old[name]}, now {new[name]}' for name in differing[:3]]
    more = f' and {len(differing) - 3} more' if len(differing) > 3 else ''
    raise ValueError(
        f'{path} belongs to a training with other settings: {"; ".join(changes)}{more}. '
        'Give the same settings to resume, or another output folder to start again'
    )


def _flatten(value: Any, prefix: str = '') -> dict[str, Any]:
    """Return nested dictionaries as one with dotted names."""
    if not isinstance(value, dict):
        return {prefix: value}
    flat: dict[str, Any] = {}
    for name, inner in value.items():
        flat |= _flatten(inner, f'{prefix}.{name}' if prefix else str(name))
    return flat
