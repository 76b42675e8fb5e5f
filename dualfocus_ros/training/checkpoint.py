# SPDX-License-Identifier: Apache-2.0
"""Training state on disk: one safetensors file, nothing pickled, replaced atomically."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from safetensors import safe_open
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
    """Write everything that resuming needs: weights, their average, optimiser and random state."""
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


def load_checkpoint(
    path: Path,
    model: nn.Module,
    average: dict[str, Tensor],
    optimiser: torch.optim.Optimizer,
) -> dict[str, Any]:
    """Restore what :func:`save_checkpoint` wrote and return its ``meta``.

    :raises ValueError: if the checkpoint belongs to another network.
    """
    with safe_open(str(path), framework='pt') as file:
        meta = json.loads(file.metadata()['state'])
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    weights = _section(tensors, 'model.')
    if weights.keys() != model.state_dict().keys():
        raise ValueError(f'{path} holds a checkpoint of another network configuration')
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
