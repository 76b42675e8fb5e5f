# SPDX-License-Identifier: Apache-2.0
"""What is rendered before training starts, once, and kept on disk for resumed runs."""

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

SCENE_SIZE = 256


@dataclass(frozen=True)
class SceneFolders:
    """What scenes are made of besides random numbers.

    :param textures: folders of images.
    :param rgbd: folders of images with depth.
    """

    textures: tuple[Path, ...] = ()
    rgbd: tuple[Path, ...] = ()

    def describe(self) -> dict[str, list[str]]:
        """Return names and sizes, which stay the same when the folders move."""
        textures = [f'{folder.name} ({_images_under(folder)} images)' for folder in self.textures]
        views = [f'{f.name} ({len(open_rgbd_folder(f, {}))} views)' for f in self.rgbd]
        return {'textures': textures, 'rgbd': views}


def render_pool(
    folder: Path,
    count: int,
    seed: int,
    material: SceneFolders,
    workers: int,
    settings: RenderSettings,
    size: int = SCENE_SIZE,
) -> list[RenderedStack]:
    """Render the stacks that ``folder`` lacks and return the first ``count``.

    Stack ``i`` depends on ``seed``, ``i`` and the settings alone, so a pool can grow and be
    rebuilt.

    :raises ValueError: if the folder holds stacks that were rendered otherwise.
    """
    recipe = {'seed': seed, 'size': size, **material.describe(), 'settings': asdict(settings)}
    _check_recipe(folder, recipe)
    render = partial(_render_stack, folder, seed, material, settings, size)
    _make_missing(folder, count, render, workers, 'stack')
    return [load_rendered_stack(_path(folder, i)) for i in range(count)]


def load_rendered_stack(path: Path) -> RenderedStack:
    """Read a stack that :func:`render_pool` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return RenderedStack(file['images'], file['focus'], file['position'])


def render_indoor_views(
    folder: Path, count: int, seed: int, workers: int, size: int = SCENE_SIZE
) -> list[RgbdSample]:
    """Render the views of indoor scenes that ``folder`` lacks and return the first ``count``.

    :raises ValueError: if the folder holds views that were rendered otherwise.
    """
    _check_recipe(folder, {'seed': seed, 'size': size})
    _make_missing(folder, count, partial(_render_view, folder, seed, size), workers, 'view')
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
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / 'recipe.json'
    text = json.dumps(recipe, indent=2)
    if not path.exists():
        if any(folder.glob('*.npz')):
            raise ValueError(
                f'{folder} holds what another version rendered: remove it, or use another --out'
            )
        write_text(path, text + '\n')
        return
    found, now = json.loads(path.read_text()), json.loads(text)
    differing = [name for name in sorted(found.keys() | now) if found.get(name) != now.get(name)]
    if differing:
        raise ValueError(
            f'{folder} was rendered with other settings ({", ".join(differing)}; see {path.name} '
            'there): remove it, or use another --out'
        )


def _make_missing(
    folder: Path, count: int, make: Callable[[int], None], workers: int, unit: str
) -> None:
    missing = [i for i in range(count) if not _path(folder, i).exists()]
    if not missing:
        return
    workers = min(workers, len(missing))
    with ExitStack() as stack:
        results: Iterable[None] = map(make, missing)
        if workers > 1:
            # Not fork: torch's thread pool does not survive it.
            context = multiprocessing.get_context('spawn')
            executor = stack.enter_context(
                ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,))
            )
            results = executor.map(make, missing, chunksize=min(4, len(missing) // workers))
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
    material: SceneFolders,
    settings: RenderSettings,
    size: int,
    index: int,
) -> None:
    rng = np.random.default_rng([seed, index])

    def scene(rng: np.random.Generator) -> TrainingScene:
        kind = draw_kind(rng, settings, bool(material.rgbd))
        if kind == 'indoor':
            return random_indoor_scene(rng, size)
        if kind == 'rgbd':
            views = load_rgbd_views(material.rgbd)
            return random_rgbd_crop(rng, views[rng.integers(len(views))], size)
        return random_scene(rng, _textures(material.textures, settings.blank), size)

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
def _textures(folders: Sequence[Path], blank: float) -> TextureSource:
    """Read the texture folders once per worker process."""
    return TextureSource(list(folders), blank)
