# SPDX-License-Identifier: Apache-2.0
"""Pools of stacks and indoor views, rendered before training and kept on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
import json
import logging
import multiprocessing
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from dualfocus_ros.datasets.rgbd_crops import random_rgbd_crop
from dualfocus_ros.datasets.rgbd_folder import open_rgbd_folder
from dualfocus_ros.datasets.samples import RgbdSample
from dualfocus_ros.io.atomic_files import write_text
from dualfocus_ros.simulation.random_stacks.indoor_scenes import (
    random_indoor_image,
    random_indoor_scene,
)
from dualfocus_ros.simulation.random_stacks.random_scenes import TrainingScene, random_scene
from dualfocus_ros.simulation.random_stacks.random_textures import IMAGE_SUFFIXES, TextureSource
from dualfocus_ros.simulation.random_stacks.stack_renderer import (
    RenderedStack,
    RenderSettings,
    draw_kind,
    render_training_stack,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class SceneFolders:
    """Folders of material for scenes.

    :param textures: folders of images.
    :param rgbd: folders of colour and depth images.
    """

    textures: tuple[Path, ...] = ()
    rgbd: tuple[Path, ...] = ()

    def describe(self) -> dict[str, list[str]]:
        """Return names and numbers of images, independent of the location of the folders."""
        textures = [f'{folder.name} ({_images_under(folder)} images)' for folder in self.textures]
        views = [f'{f.name} ({len(open_rgbd_folder(f, {}))} views)' for f in self.rgbd]
        return {'textures': textures, 'rgbd': views}


def render_pool(
    folder: Path,
    count: int,
    seed: int,
    scene_folders: SceneFolders,
    workers: int,
    settings: RenderSettings,
    size: int,
) -> list[RenderedStack]:
    """Render stacks missing in ``folder``; return the first ``count``.

    Stack ``i`` is a function of ``seed``, ``i`` and the settings, so that a pool can grow.

    :param workers: processes.
    :param size: side of the images in pixels.
    :raises ValueError: if the folder has stacks of another seed or other settings.
    """
    recipe = {'seed': seed, 'size': size, **scene_folders.describe(), 'settings': asdict(settings)}
    _check_recipe(folder, recipe)
    render = partial(_render_stack, folder, seed, scene_folders, settings, size)
    _render_missing(folder, count, render, workers, 'stack')
    return [load_rendered_stack(_path(folder, i)) for i in range(count)]


def load_rendered_stack(path: Path) -> RenderedStack:
    """Read a stack written by :func:`render_pool`."""
    with np.load(path, allow_pickle=False) as file:
        return RenderedStack(file['images'], file['focus'], file['position'])


def render_indoor_views(
    folder: Path, count: int, seed: int, workers: int, size: int
) -> list[RgbdSample]:
    """Render indoor views missing in ``folder``; return the first ``count``.

    :param workers: processes.
    :param size: side of the images in pixels.
    :raises ValueError: if the folder has views of another seed or size.
    """
    _check_recipe(folder, {'seed': seed, 'size': size})
    _render_missing(folder, count, partial(_render_view, folder, seed, size), workers, 'view')
    views = []
    for index in range(count):
        with np.load(_path(folder, index), allow_pickle=False) as file:
            views.append(RgbdSample(f'{index}', file['colour'], file['depth']))
    return views


@lru_cache(maxsize=1)
def load_rgbd_views(folders: tuple[Path, ...]) -> list[RgbdSample]:
    """Read the views of RGB-D folders, once per process."""
    datasets = [open_rgbd_folder(folder, {}) for folder in folders]
    samples = [dataset[index] for dataset in datasets for index in range(len(dataset))]
    return [sample for sample in samples if isinstance(sample, RgbdSample)]


def _images_under(folder: Path) -> int:
    return sum(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.rglob('*'))


def _check_recipe(folder: Path, recipe: dict[str, Any]) -> None:
    """Compare the recipe of a folder with this one; write it to an empty folder.

    :raises ValueError: if they differ.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / 'recipe.json'
    text = json.dumps(recipe, indent=2)
    if not path.exists():
        if any(folder.glob('*.npz')):
            raise ValueError(
                f'{folder} was rendered by another version: remove it, or give another output '
                'folder'
            )
        write_text(path, text + '\n')
        return
    found, now = json.loads(path.read_text()), json.loads(text)
    differing = [name for name in sorted(found.keys() | now) if found.get(name) != now.get(name)]
    if differing:
        raise ValueError(
            f'{folder} was rendered with other settings ({", ".join(differing)}; see {path.name} '
            'there): remove it, or give another output folder'
        )


def _render_missing(
    folder: Path, count: int, render: Callable[[int], None], workers: int, unit: str
) -> None:
    """Call ``render`` with each missing index, in several processes, with a progress bar."""
    missing = [i for i in range(count) if not _path(folder, i).exists()]
    if not missing:
        return
    workers = min(workers, len(missing))
    with ExitStack() as stack:
        results: Iterable[None] = map(render, missing)
        if workers > 1:
            # The thread pool of torch does not survive a fork.
            context = multiprocessing.get_context('spawn')
            executor = stack.enter_context(
                ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,))
            )
            results = executor.map(render, missing, chunksize=min(4, len(missing) // workers))
        for _ in tqdm(
            results,
            total=len(missing),
            unit=unit,
            desc=f'rendering {folder.name}',
            disable=not logger.isEnabledFor(logging.INFO),
        ):
            pass


def _path(folder: Path, index: int) -> Path:
    return folder / f'{index:06d}.npz'


def _render_stack(
    folder: Path,
    seed: int,
    scene_folders: SceneFolders,
    settings: RenderSettings,
    size: int,
    index: int,
) -> None:
    rng = np.random.default_rng([seed, index])

    def scene(rng: np.random.Generator) -> TrainingScene:
        kind = draw_kind(rng, settings, bool(scene_folders.rgbd))
        if kind == 'indoor':
            return random_indoor_scene(rng, size)
        if kind == 'rgbd':
            views = load_rgbd_views(scene_folders.rgbd)
            return random_rgbd_crop(rng, views[rng.integers(len(views))], size)
        return random_scene(rng, _textures(scene_folders.textures, settings.textureless), size)

    stack = render_training_stack(rng, scene, settings)
    _save(_path(folder, index), images=stack.images, focus=stack.focus, position=stack.position)


def _render_view(folder: Path, seed: int, size: int, index: int) -> None:
    colour, depth = random_indoor_image(np.random.default_rng([seed, index]), size)
    _save(_path(folder, index), colour=colour, depth=depth)


def _save(path: Path, **arrays: np.ndarray) -> None:
    partial_path = path.with_suffix('.partial')
    with partial_path.open('wb') as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]
    os.replace(partial_path, path)


@lru_cache(maxsize=1)
def _textures(folders: Sequence[Path], textureless: float) -> TextureSource:
    """Read the texture folders once per worker process."""
    return TextureSource(list(folders), textureless)
