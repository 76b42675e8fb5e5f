# SPDX-License-Identifier: Apache-2.0
"""A pool of rendered stacks on disk, made once and shared by resumed runs."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
import multiprocessing
import os
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from dualfocus_ros.data.indoor_views import indoor_view
from dualfocus_ros.data.random_scenes import TextureSource, TrainingScene, random_scene
from dualfocus_ros.data.rendered_stacks import (
    RenderedStack,
    RenderSettings,
    render_training_stack,
)

SCENE_SIZE = 256
# One scene in this many is an indoor view (table, floor, corridor), the others random shapes.
INDOOR_EVERY = 3


def render_pool(
    folder: Path,
    count: int,
    seed: int,
    textures: list[Path],
    workers: int,
    settings: RenderSettings | None = None,
) -> list[RenderedStack]:
    """Render the stacks that ``folder`` lacks and return the first ``count``.

    Stack ``i`` depends on ``seed`` and ``i`` alone, so a pool can grow and be rebuilt.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [i for i in range(count) if not _path(folder, i).exists()]
    if missing:
        render = partial(_render_one, folder, seed, textures, settings or RenderSettings())
        # Not fork: torch's thread pool does not survive it.
        context = multiprocessing.get_context('spawn')
        with ProcessPoolExecutor(workers, mp_context=context) as executor:
            results = executor.map(render, missing, chunksize=4)
            for _ in tqdm(results, total=len(missing), unit='stack', desc='rendering'):
                pass
    return [load_stack(_path(folder, i)) for i in range(count)]


def load_stack(path: Path) -> RenderedStack:
    """Read a stack that :func:`render_pool` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return RenderedStack(file['images'], file['focus'], file['position'])


def _path(folder: Path, index: int) -> Path:
    return folder / f'{index:06d}.npz'


def _render_one(
    folder: Path, seed: int, textures: list[Path], settings: RenderSettings, index: int
) -> None:
    torch.set_num_threads(1)
    rng = np.random.default_rng([seed, index])

    def scene(rng: np.random.Generator) -> TrainingScene:
        if index % INDOOR_EVERY == 0:
            return indoor_view(rng, SCENE_SIZE)
        return random_scene(rng, _textures(tuple(textures)), SCENE_SIZE)

    stack = render_training_stack(rng, scene, settings)
    partial_path = _path(folder, index).with_suffix('.partial')
    with partial_path.open('wb') as file:
        np.savez(file, images=stack.images, focus=stack.focus, position=stack.position)
    os.replace(partial_path, _path(folder, index))


@lru_cache(maxsize=1)
def _textures(folders: tuple[Path, ...]) -> TextureSource:
    """Read the texture folders once per worker process."""
    return TextureSource(list(folders))
