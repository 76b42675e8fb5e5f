# SPDX-License-Identifier: Apache-2.0
"""What a study yields, and how it is written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
import json
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dualfocus_ros.datasets.samples import Dataset
from dualfocus_ros.evaluation.evaluation_report import RunInfo, nonfinite_to_none, run_info_line
from dualfocus_ros.evaluation.method_interface import Method
from dualfocus_ros.evaluation.tables import markdown_table
from dualfocus_ros.exceptions import DataError
from dualfocus_ros.io.atomic_files import write_text
from dualfocus_ros.io.png import save_palette_png


class Progress(Protocol):
    """What a study reports its progress to; a tqdm bar is one."""

    def reset(self, total: float | None = None) -> None:
        """Begin, with this many estimates to come."""

    def update(self, n: float | None = 1) -> bool | None:
        """Count ``n`` more estimates."""


@dataclass(frozen=True, eq=False)
class Study:
    """The answer.

    :param name: of the files that it is written to.
    :param text: Markdown beneath the title, without the facts.
    :param data: the same for programs.
    :param figure: (H, W, 3) uint8 RGB.
    """

    name: str
    title: str
    text: Sequence[str]
    data: Mapping[str, Any]
    figure: np.ndarray

    def markdown(self, facts: RunInfo, methods: Sequence[Method]) -> str:
        """Return the report."""
        lines = [f'# {self.title}', '', run_info_line(facts), '']
        lines += markdown_table(
            [{'method': m.name, 'about': m.about} for m in methods], [('about', 'what it is', 0)]
        )
        return '\n'.join([*lines, '', *self.text, '', f'![{self.title}]({self.name}.png)', ''])

    def json(self, facts: RunInfo, methods: Sequence[Method]) -> str:
        """Return everything that was measured; a number that does not exist is null."""
        content = {
            'study': self.name,
            'facts': vars(facts),
            'methods': {method.name: method.about for method in methods},
            **self.data,
        }
        return json.dumps(nonfinite_to_none(content), indent=2, ensure_ascii=False) + '\n'

    def write(self, folder: Path, facts: RunInfo, methods: Sequence[Method]) -> None:
        """Write ``NAME.md``, ``NAME.json`` and ``NAME.png``."""
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / f'{self.name}.md', self.markdown(facts, methods))
        write_text(folder / f'{self.name}.json', self.json(facts, methods))
        save_palette_png(folder / f'{self.name}.png', self.figure)


def join_datasets(datasets: Sequence[Dataset], limit: int = 0) -> Dataset:
    """Return several data sets as one.

    :param limit: samples to use of each, evenly spread; 0 for all.
    :raises DataError: if there is nothing in them.
    """
    places = [
        (data, step * len(data) // count)
        for data in datasets
        for count in [min(limit, len(data)) if limit else len(data)]
        for step in range(count)
    ]
    if not places:
        raise DataError('no samples in ' + ', '.join(data.name for data in datasets))
    about = '; '.join(data.description for data in datasets)
    if len(datasets) == 1:
        return replace(datasets[0], length=len(places), load=lambda i: datasets[0][places[i][1]])
    return Dataset(
        ' + '.join(data.name for data in datasets),
        'joined',
        about,
        len(places),
        lambda index: places[index][0][places[index][1]],
    )
