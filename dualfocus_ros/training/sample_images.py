# SPDX-License-Identifier: Apache-2.0
"""Sample images of a training run: planes, truth, estimate, sigma and error."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from dualfocus_ros.training.batches import TrainingStack
from dualfocus_ros.training.model_adapters import ModelAdapter
from dualfocus_ros.visualization.colour_scales import (
    error_scale,
    relative_depth_scale,
    sigma_scale,
)
from dualfocus_ros.visualization.panel import Tile, compose_panel

# Planes per stack, and those of them in the image.
PLANES = 6
SHOWN_PLANES = 3


def render_sample_image(
    adapter: ModelAdapter, network: nn.Module, stacks: Sequence[TrainingStack], step: int
) -> np.ndarray:
    """Return a panel (H, W, 3) uint8 with one row per stack.

    :param network: in evaluation mode, on the device of the stacks.
    """
    rows, errors = [], []
    for stack in stacks:
        chosen = np.linspace(0, len(stack.focus) - 1, min(PLANES, len(stack.focus)))
        indices = chosen.round().astype(int)
        images = stack.images[torch.as_tensor(indices, device=stack.images.device)]
        focus = torch.from_numpy(stack.focus[indices]).to(images.device)
        with torch.inference_mode():
            output = adapter.predict(network, images[None].float() / 255.0, focus[None])
        position, sigma = (t[0].float().cpu().numpy() for t in (output.position, output.sigma))
        truth = stack.truth.cpu().numpy()
        # Depth beyond the planes has no loss in training.
        inside = (truth >= stack.focus[indices[0]]) & (truth <= stack.focus[indices[-1]])
        # Sign of the error in distance: blue is too near, red too far.
        error = np.where(inside, truth - position, np.nan)
        errors.append(np.abs(error[inside]))
        pictures = images.permute(0, 2, 3, 1).cpu().numpy()
        picks = np.linspace(0, len(indices) - 1, SHOWN_PLANES).round().astype(int)
        scale = relative_depth_scale()
        rows.append(
            [Tile(f'focus {stack.focus[indices[p]]:.2f}', pictures[p]) for p in picks]
            + [
                Tile('truth', truth, scale),
                Tile('estimate', position, scale),
                Tile('sigma', sigma, sigma_scale(sigma, unit='')),
                Tile('error (blue: too near)', error, error_scale(error, unit='')),
            ]
        )
    mean = float(np.concatenate(errors).mean()) if errors else float('nan')
    subtitle = f'{PLANES} planes; inverse depth, 0 to 1 over the range of the scene'
    title = f'Step {step}: mean error {mean:.4f} on held-out stacks'
    return compose_panel(rows, title=title, subtitle=subtitle, width=1900)
