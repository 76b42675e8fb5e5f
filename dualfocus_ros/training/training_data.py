# SPDX-License-Identifier: Apache-2.0
"""Data of a training run: stacks to train on, and held-out stacks to measure on.

Pools of stacks and indoor views are rendered before training and kept in the folder of the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from functools import lru_cache, partial
import json
import logging
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from dualfocus_ros.datasets.rgbd_crops import random_rgbd_crop
from dualfocus_ros.datasets.rgbd_sets import open_rgbd_folder
from dualfocus_ros.datasets.samples import RgbdSample
from dualfocus_ros.io.atomic_files import atomic_write, write_text
from dualfocus_ros.simulation.random_stacks.random_scenes import (
    TrainingScene,
    random_indoor_image,
    random_indoor_scene,
    random_scene,
)
from dualfocus_ros.simulation.random_stacks.random_textures import (
    IMAGE_SUFFIXES,
    TextureSource,
    read_images,
)
from dualfocus_ros.simulation.random_stacks.stack_renderer import (
    RenderedStack,
    RenderSettings,
    draw_kind,
    render_training_stack,
)
from dualfocus_ros.training.batches import BatchSource, GeneratedSource, PoolSource
from dualfocus_ros.training.stack_generator import StackGenerator, TrainingStack, to_stack
from dualfocus_ros.training.training_config import BatchConfig, DataConfig, TrainingConfig

logger = logging.getLogger(__name__)

MEASURED_PLANES = 6  # of the held-out stacks
# Difference of the seeds of held-out stacks and of stacks to train on.
HELD_OUT_SEED = 1_000_000


class TrainingData:
    """Sources of stacks of a run.

    File ``i`` is a function of the seed, ``i`` and the settings, so that a pool can grow. Methods
    raise :class:`ValueError` if a folder has files of another seed or other settings.
    """

    def __init__(self, config: TrainingConfig, device: torch.device) -> None:
        self._config, self._out, self._device = config.data, config.out, device
        self._seed = config.trainer.seed
        self._settings = RenderSettings(
            planes=max(config.trainer.batch.planes[1], MEASURED_PLANES),
            asymmetry=config.data.asymmetry,
            textureless=config.data.textureless,
            blur_range=config.data.blur_range or RenderSettings.blur_range,
        )
        self._textures = read_images(list(config.data.textures))
        self._source = config.data.source
        if self._source == 'auto':
            self._source = 'generated' if device.type == 'cuda' else 'pool'

    def describe(self) -> dict[str, Any]:
        """Return the parameters of the rendered stacks, for checkpoint and manifest."""
        count = {'stacks': self._config.stacks}
        if self._source == 'generated':
            count = {'indoor_views': self._config.views, 'reuse': self._config.reuse}
        folders = _describe_folders(self._config)
        return {'source': self._source, **count, **folders, 'render': asdict(self._settings)}

    def render(self) -> None:
        """Render the missing files of the run."""
        render = self._pool if self._source == 'pool' else self._views
        render(False)
        render(True)

    def held_out(self) -> list[TrainingStack]:
        """Return the held-out stacks."""
        if self._source == 'pool':
            return [to_stack(stack, self._device) for stack in self._pool(True)]
        rng = np.random.default_rng(self._seed + HELD_OUT_SEED)
        return self._generator(True).render(rng, self._config.held_out)

    def batches(self, config: BatchConfig, rank: int) -> BatchSource:
        """Return the source of batches of one process."""
        if self._source == 'pool':
            return PoolSource(self._pool(False), config, self._seed, rank, self._device)
        generator = self._generator(False)
        return GeneratedSource(generator, config, self._seed, rank, reuse=self._config.reuse)

    def _pool(self, held_out: bool) -> list[RenderedStack]:
        """Return the stacks of a pool; render missing ones."""
        config, seed = self._config, self._seed + HELD_OUT_SEED * held_out
        folder = self._out / ('held_out' if held_out else 'stacks')
        recipe = {'seed': seed, 'size': config.image_size, **_describe_folders(config)}
        recipe['settings'] = asdict(self._settings)
        render = partial(_render_stack, seed, config, self._settings)
        count = config.held_out if held_out else config.stacks
        files = _rendered_files(folder, count, recipe, render, config.workers, 'stack')
        return [RenderedStack(**file) for file in files]

    def _views(self, held_out: bool) -> list[RgbdSample]:
        """Return indoor views; render missing ones."""
        config, seed = self._config, self._seed + HELD_OUT_SEED * held_out
        folder = self._out / ('held_out_views' if held_out else 'views')
        recipe = {'seed': seed, 'size': config.image_size}
        render = partial(_render_view, seed, config.image_size)
        count = max(config.held_out // 3, 1) if held_out else config.views
        files = _rendered_files(folder, count, recipe, render, config.workers, 'view')
        return [RgbdSample(f'{i}', file['colour'], file['depth']) for i, file in enumerate(files)]

    def _generator(self, held_out: bool) -> StackGenerator:
        return StackGenerator(
            self._settings,
            self._config.image_size,
            self._device,
            textures=self._textures,
            indoor=self._views(held_out),
            rgbd=_load_rgbd_views(self._config.rgbd),
        )


def _describe_folders(config: DataConfig) -> dict[str, list[str]]:
    """Return names and numbers of images, independent of the location of the folders."""
    textures = []
    for folder in config.textures:
        count = sum(path.suffix.lower() in IMAGE_SUFFIXES for path in folder.rglob('*'))
        textures.append(f'{folder.name} ({count} images)')
    views = [f'{f.name} ({len(open_rgbd_folder(f, {}))} views)' for f in config.rgbd]
    return {'textures': textures, 'rgbd': views}


def _rendered_files(
    folder: Path,
    count: int,
    recipe: dict[str, Any],
    render: Callable[[Path, int], None],
    workers: int,
    unit: str,
) -> list[dict[str, np.ndarray]]:
    """Render missing files in several processes; return the arrays of the first ``count``."""
    _check_recipe(folder, recipe)
    paths = [folder / f'{index:06d}.npz' for index in range(count)]
    missing = [(path, index) for index, path in enumerate(paths) if not path.exists()]
    workers = min(workers, len(missing))
    silent = not (missing and logger.isEnabledFor(logging.INFO))
    title = f'rendering {folder.name}'
    with ExitStack() as stack:
        results: Iterable[None] = map(render, *zip(*missing)) if missing else ()
        if workers > 1:
            # The thread pool of torch does not survive a fork.
            context = multiprocessing.get_context('spawn')
            executor = ProcessPoolExecutor(workers, context, torch.set_num_threads, (1,))
            stack.enter_context(executor)
            size = min(4, len(missing) // workers)
            results = executor.map(render, *zip(*missing), chunksize=size)
        for _ in tqdm(results, title, total=len(missing), unit=unit, disable=silent):
            pass
    arrays = []
    for path in paths:
        with np.load(path, allow_pickle=False) as file:
            arrays.append(dict(file))
    return arrays


def _check_recipe(folder: Path, recipe: dict[str, Any]) -> None:
    """Write the recipe to an empty folder; raise ValueError if the folder has another one."""
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


def _render_stack(
    seed: int, config: DataConfig, settings: RenderSettings, path: Path, index: int
) -> None:
    def scene(rng: np.random.Generator) -> TrainingScene:
        kind = draw_kind(rng, settings, bool(config.rgbd))
        if kind == 'indoor':
            return random_indoor_scene(rng, config.image_size)
        if kind == 'rgbd':
            views = _load_rgbd_views(config.rgbd)
            return random_rgbd_crop(rng, views[rng.integers(len(views))], config.image_size)
        textures = _load_textures(config.textures, settings.textureless)
        return random_scene(rng, textures, config.image_size)

    stack = render_training_stack(np.random.default_rng([seed, index]), scene, settings)
    _write_arrays(path, images=stack.images, focus=stack.focus, position=stack.position)


def _render_view(seed: int, size: int, path: Path, index: int) -> None:
    colour, depth = random_indoor_image(np.random.default_rng([seed, index]), size)
    _write_arrays(path, colour=colour, depth=depth)


def _write_arrays(path: Path, **arrays: np.ndarray) -> None:
    with atomic_write(path) as partial_path:
        np.savez(partial_path, **arrays)  # type: ignore[arg-type]


@lru_cache(maxsize=1)
def _load_rgbd_views(folders: tuple[Path, ...]) -> list[RgbdSample]:
    """Read the views of RGB-D folders, once per process."""
    datasets = [open_rgbd_folder(folder, {}) for folder in folders]
    samples = [dataset[index] for dataset in datasets for index in range(len(dataset))]
    return [sample for sample in samples if isinstance(sample, RgbdSample)]


@lru_cache(maxsize=1)
def _load_textures(folders: tuple[Path, ...], textureless: float) -> TextureSource:
    """Read the texture folders once per worker process."""
    return TextureSource(list(folders), textureless)
