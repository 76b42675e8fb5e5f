# SPDX-License-Identifier: Apache-2.0
"""Conditions of a run that its results depend on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
import subprocess

import torch

from dualfocus_ros import __version__
from dualfocus_ros.inference.device import describe_device


@dataclass(frozen=True)
class RunInfo:
    """Version, commit (see :func:`source_commit`), device, seed and UTC date of a run."""

    version: str
    commit: str
    device: str
    torch: str
    seed: int
    date: str

    def __str__(self) -> str:
        return (
            f'dualfocus {self.version}, commit {self.commit}, seed {self.seed}, {self.device}, '
            f'torch {self.torch}, {self.date}'
        )


def collect_run_info(device: torch.device, seed: int) -> RunInfo:
    """Return the conditions of the present run."""
    return RunInfo(
        version=__version__,
        commit=source_commit(Path(__file__)),
        device=describe_device(device),
        torch=torch.__version__,
        seed=seed,
        date=datetime.now(timezone.utc).date().isoformat(),
    )


def source_commit(file: Path) -> str:
    """Return the commit of a source file, with ``+`` for uncommitted changes.

    An installed package is ``unknown``, since its folder may lie in another checkout.
    """
    folder = file.resolve().parent

    def git(*words: str) -> str:
        command = ['git', '-C', str(folder), *words]
        return subprocess.check_output(command, stderr=subprocess.DEVNULL, text=True).strip()

    try:
        git('ls-files', '--error-unmatch', file.name)
        changed = git('status', '--porcelain', '--untracked-files=no')
        return git('rev-parse', '--short', 'HEAD') + ('+' if changed else '')
    except (OSError, subprocess.CalledProcessError):
        return 'unknown'
