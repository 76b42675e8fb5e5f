# SPDX-License-Identifier: Apache-2.0
"""Comparison of networks trained with equal data and steps, such as ablations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import hashlib
import json
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
import numpy as np
from safetensors import SafetensorError, safe_open

from dualfocus_ros.datasets.samples import Dataset
from dualfocus_ros.evaluation.evaluation_run import evaluate_dataset
from dualfocus_ros.evaluation.method_interface import Method
from dualfocus_ros.evaluation.progress_reporting import Progress
from dualfocus_ros.evaluation.protocols import ProtocolB
from dualfocus_ros.evaluation.tables import Column, markdown_table
from dualfocus_ros.io.figures import figure_to_array
from dualfocus_ros.models.weights import shipped_models
from research.study import Study

MEASURES: tuple[Column, ...] = (
    ('rmse', 'RMSE, m', 4),
    ('abs_rel', 'AbsRel', 4),
    ('delta1', 'δ1, %', -2),
    ('mae_position', 'mean error, 1/m', 4),
    ('unimodal', 'unimodal, %', -2),
    ('within_1_sigma', 'within one σ, %', -1),
    ('within_2_sigma', 'within two σ, %', -1),
    ('ause', 'AUSE', 3),
    ('seconds', 's per stack', 3),
)
# Entries of a recipe that make a budget.
BUDGET = ('steps', 'batch', 'crop', 'planes', 'seed', 'data', 'rendering')
TITLES = {'equal-budget': 'Equal data and steps', 'ablation': 'Ablation'}
RECIPE_KEYS = ('configuration', 'without', 'minutes', *BUDGET)


def run(
    datasets: Sequence[Dataset],
    methods: Sequence[Method],
    names: Sequence[str],
    progress: Progress,
    *,
    planes: int = 10,
    baseline: str | None = None,
    seed: int = 0,
    name: str = 'equal-budget',
) -> Study:
    """Evaluate networks on protocol B, with ratios to one of them.

    :param datasets: colour with depth.
    :param names: by which the methods were opened, to find their recipes.
    :param baseline: name of a method; default the first DFV.
    :param name: one of :data:`TITLES`.
    """
    if baseline is None:
        baseline = next((m.name for m in methods if m.name.startswith('dfv')), None)
    progress.reset(total=sum(map(len, datasets)) * len(methods))
    recipes = [
        {'method': method.name, **training_recipe(name)} for method, name in zip(methods, names)
    ]
    text = ['## Training', '']
    text += markdown_table(recipes, [(key, key, 0) for key in RECIPE_KEYS])
    text += ['', _budget_note(recipes)]
    rows: list[dict[str, Any]] = []
    for data in datasets:
        protocol = ProtocolB(planes, seed=seed)
        found = evaluate_dataset(data, methods, protocol, progress=progress.update)
        of_set = [
            {'method': name, 'data': data.name, **accumulator.means()}
            for name, accumulator in found.accumulators.items()
        ]
        text += ['', f'## {data.name}', '', f'{data.description}; {protocol.describe(data)}.', '']
        text += markdown_table(of_set, MEASURES)
        if baseline is not None:
            text += ['', *ratios(of_set, baseline)]
        rows += of_set
    if baseline is None:
        text += ['', 'No DFV among the methods and no `--baseline`: no ratios.']
    return Study(
        name,
        TITLES[name],
        text,
        {'baseline': baseline, 'recipes': recipes, 'rows': rows},
        _figure(rows),
    )


def ratios(rows: Sequence[Mapping[str, Any]], baseline: str) -> list[str]:
    """Return a line per other method with the ratios of its errors to those of the baseline."""
    reference = next(row for row in rows if row['method'] == baseline)
    return [
        f'- {row["method"]}: RMSE {row["rmse"] / reference["rmse"]:.2f} x, '
        f'AbsRel {row["abs_rel"] / reference["abs_rel"]:.2f} x of {baseline}'
        for row in rows
        if row is not reference
    ]


def training_recipe(name: str) -> dict[str, str]:
    """Return the training recipe of a method, as text by :data:`RECIPE_KEYS`.

    Sources are the manifest of the shipped models, the metadata of the file, and a
    ``manifest.json`` in its folder.

    :param name: shipped model, path of a ``.safetensors`` file, ``dfv:PATH``, or an untrained
        method, whose recipe is empty.
    """
    shipped = shipped_models()
    if name == 'auto' and shipped:
        name = next(iter(shipped))
    if name in shipped:
        return _recipe_entries(shipped[name].get('recipe', {}))
    path = Path(name.removeprefix('dfv:')).expanduser()
    if path.suffix != '.safetensors':
        return {}
    found: dict[str, Any] = {}
    for text in _metadata(path).values():
        try:
            content = json.loads(text)
        except ValueError:
            continue
        if isinstance(content, dict):
            found |= content.get('recipe', content)
    try:
        models = json.loads((path.parent / 'manifest.json').read_text('utf-8'))['models']
        found |= models.get(path.stem, {}).get('recipe', {})
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        pass  # no manifest, or that of another program: use the metadata
    return _recipe_entries(found)


def _metadata(path: Path) -> dict[str, str]:
    try:
        with safe_open(str(path), framework='pt') as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError):
        return {}


def _recipe_entries(recipe: Mapping[str, Any]) -> dict[str, str]:
    """Return the :data:`RECIPE_KEYS` of a recipe written by ``dualfocus train``."""
    settings = recipe.get('settings', {})
    batch = settings.get('batch', {})
    found = {
        # Actual values override the settings.
        **{key: value for key, value in {**settings, **recipe}.items() if key in RECIPE_KEYS},
        'batch': batch.get('size'),
        'crop': batch.get('crop'),
        'planes': batch.get('planes'),
    }
    data = found.get('data')
    if isinstance(data, Mapping):
        text = json.dumps(data.get('render'), sort_keys=True)
        found['rendering'] = hashlib.sha256(text.encode()).hexdigest()[:8]
        found['data'] = {key: value for key, value in data.items() if key != 'render'}
    return {
        key: _format_value(found[key])
        for key in RECIPE_KEYS
        if found.get(key) not in (None, [], '')
    }


def _format_value(value: Any) -> str:
    if isinstance(value, Mapping):
        return ', '.join(f'{key} {_format_value(item)}' for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ' '.join(map(_format_value, value))
    return str(value)


def _budget_note(recipes: Sequence[Mapping[str, str]]) -> str:
    trained = [recipe for recipe in recipes if len(recipe) > 1]
    differing = [key for key in BUDGET if len({recipe.get(key) for recipe in trained}) > 1]
    if len(trained) < 2:
        return 'Fewer than two of the methods have a recipe.'
    if differing:
        return (
            f'**Not an equal budget**: {", ".join(differing)} differ between the trained methods.'
        )
    return f'Equal budget: {", ".join(BUDGET)} are equal, as far as recorded.'


def _figure(rows: Sequence[Mapping[str, Any]]) -> np.ndarray:
    names = list(dict.fromkeys(row['method'] for row in rows))
    sets = list(dict.fromkeys(row['data'] for row in rows))
    size = (10.0, 1.2 + 0.32 * len(names) * len(sets))
    figure = Figure(figsize=size, dpi=80, layout='constrained')
    for place, (key, heading, _) in enumerate(MEASURES[:2]):
        axes = figure.add_subplot(1, 2, place + 1)
        for index, data in enumerate(sets):
            values = [
                next((r[key] for r in rows if r['method'] == n and r['data'] == data), 0.0)
                for n in names
            ]
            at = np.arange(len(names)) + index / (len(sets) + 0.5)
            axes.barh(at, values, height=0.9 / (len(sets) + 0.5), label=data)
        axes.set_yticks(np.arange(len(names)) + 0.5 * (len(sets) - 1) / (len(sets) + 0.5), names)
        axes.invert_yaxis()
        axes.set_xlabel(heading)
        axes.grid(alpha=0.3, axis='x')
        if place == 0:
            axes.legend()
    return figure_to_array(figure)
