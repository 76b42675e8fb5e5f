# SPDX-License-Identifier: Apache-2.0
"""Log of a run: CSV, TensorBoard if installed, sample images of planes, estimate and error."""

from __future__ import annotations

from collections.abc import Sequence
import csv
from importlib.util import find_spec
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
import torch
from torch import nn

from dualfocus_ros.io.atomic_files import atomic_write
from dualfocus_ros.training.model_adapters import ModelAdapter, predict_stack
from dualfocus_ros.training.stack_generator import TrainingStack
from dualfocus_ros.visualization.colour_scales import (
    error_scale,
    relative_depth_scale,
    sigma_scale,
)
from dualfocus_ros.visualization.panel import Tile, compose_panel

logger = logging.getLogger(__name__)

# Planes per stack of a sample image, and those of them in the image.
PLANES = 6
SHOWN_PLANES = 3


class RunLog:
    """Log files in a run's folder: ``log.csv``, ``samples/``, ``tensorboard/``.

    :param step: first step of the run; rows of an interrupted run after it are removed.
    """

    def __init__(self, folder: Path, step: int) -> None:
        self._folder, self._step = folder, step
        self._path = folder / 'log.csv'
        self._columns: list[str] = []
        self._board: Any = None

    def __enter__(self) -> RunLog:
        if self._path.exists():
            self._resume()
        if find_spec('tensorboard') is None:
            hint = "tensorboard is not installed (pip install 'dualfocus_ros[train]')"
            logger.info('%s: logging to log.csv and samples/ only', hint)
        else:
            from torch.utils.tensorboard import SummaryWriter

            folder = str(self._folder / 'tensorboard')
            self._board = SummaryWriter(folder, purge_step=self._step + 1)
        return self

    def __exit__(self, *_: object) -> None:
        if self._board is not None:
            self._board.close()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Append a row to the CSV file and scalars to TensorBoard."""
        if not self._columns:
            self._columns = ['step', *values]
            self._append(self._columns)
        # A resumed run on another machine may have more values: keep the columns.
        cells = [f'{values.get(name, math.nan):.6g}' for name in self._columns[1:]]
        self._append([step, *cells])
        if self._board is not None:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)
            self._board.flush()

    def write_image(self, step: int, image: np.ndarray) -> Path:
        """Write a sample image (H, W, 3) uint8; return its path."""
        folder = self._folder / 'samples'
        folder.mkdir(exist_ok=True)
        path = folder / f'{step:07d}.png'
        with atomic_write(path) as partial:
            Image.fromarray(image).save(partial)
        if self._board is not None:
            self._board.add_image('sample', image, step, dataformats='HWC')
        return path

    def _append(self, cells: list[Any]) -> None:
        with self._path.open('a', newline='') as file:
            csv.writer(file).writerow(cells)

    def _resume(self) -> None:
        """Remove rows after the first step of this run."""
        with self._path.open(newline='') as file:
            rows = [row for row in csv.reader(file) if row]
        earlier = [row for row in rows[1:] if row[0].isdigit() and int(row[0]) <= self._step]
        if rows and rows[0][0] == 'step':
            self._columns = rows[0]
        with atomic_write(self._path) as partial, partial.open('w', newline='') as file:
            csv.writer(file).writerows([self._columns, *earlier] if self._columns else [])


def gpu_usage(device: torch.device) -> dict[str, float]:
    """Return GPU memory in GiB and utilisation in per cent (NaN if unknown); empty on a CPU."""
    if device.type != 'cuda':
        return {}
    memory = torch.cuda.max_memory_allocated(device) / 2**30
    try:
        utilization = float(torch.cuda.utilization(device))
    except (ImportError, RuntimeError):  # nvidia-ml-py is missing, or the driver refuses
        utilization = math.nan
    return {'gpu_use': utilization, 'gpu_memory_gib': memory}


def render_sample_image(
    adapter: ModelAdapter, network: nn.Module, stacks: Sequence[TrainingStack], step: int
) -> np.ndarray:
    """Return a panel (H, W, 3) uint8 with planes, truth, estimate, sigma and error of each stack.

    :param network: in evaluation mode, on the device of the stacks.
    """
    rows, errors = [], []
    scale = relative_depth_scale()
    for stack in stacks:
        chosen, position, sigma, _ = predict_stack(adapter, network, stack, PLANES)
        focus, truth = stack.focus[chosen], stack.truth.cpu().numpy()
        # Depth beyond the planes has no loss in training.
        inside = (truth >= focus[0]) & (truth <= focus[-1])
        # Sign of the error in distance: blue is too near, red too far.
        error = np.where(inside, truth - position, np.nan)
        errors.append(np.abs(error[inside]))
        shown = np.linspace(0, len(chosen) - 1, SHOWN_PLANES).round().astype(int)
        images = stack.images.permute(0, 2, 3, 1).cpu().numpy()
        planes = [Tile(f'focus {focus[i]:.2f}', images[chosen[i]]) for i in shown]
        depths = [Tile('truth', truth, scale), Tile('estimate', position, scale)]
        sigmas = Tile('sigma', sigma, sigma_scale(sigma, unit=''))
        signed = Tile('error (blue: too near)', error, error_scale(error, unit=''))
        rows.append([*planes, *depths, sigmas, signed])
    mean = float(np.concatenate(errors).mean()) if errors else math.nan
    subtitle = f'{PLANES} planes; inverse depth, 0 to 1 over the range of the scene'
    title = f'Step {step}: mean error {mean:.4f} on held-out stacks'
    return compose_panel(rows, title=title, subtitle=subtitle, width=1900)
