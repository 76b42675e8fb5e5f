# SPDX-License-Identifier: Apache-2.0
"""Result of a study, and its report as Markdown, JSON and a figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualfocus_ros.evaluation.method_interface import Method
from dualfocus_ros.evaluation.run_info import RunInfo
from dualfocus_ros.evaluation.tables import markdown_table, to_json
from dualfocus_ros.io.atomic_files import write_text
from dualfocus_ros.io.image_files import save_palette_png


@dataclass(frozen=True, eq=False)
class Study:
    """Result of a study.

    :param name: of the files.
    :param text: lines of Markdown below the title.
    :param data: content of the JSON file.
    :param figure: (H, W, 3) uint8 RGB.
    """

    name: str
    title: str
    text: Sequence[str]
    data: Mapping[str, Any]
    figure: np.ndarray


@dataclass(frozen=True, eq=False)
class StudyReport:
    """Study with the conditions it was run under."""

    study: Study
    run_info: RunInfo
    methods: Sequence[Method]

    def markdown(self) -> str:
        """Return the report as Markdown."""
        study = self.study
        lines = [f'# {study.title}', '', str(self.run_info), '']
        lines += markdown_table(
            [{'method': method.name, 'about': method.about} for method in self.methods],
            [('about', 'description', 0)],
        )
        figure = f'![{study.title}]({study.name}.png)'
        return '\n'.join([*lines, '', *study.text, '', figure, ''])

    def json(self) -> str:
        """Return all results; numbers that are not finite are null."""
        return to_json(
            {
                'study': self.study.name,
                'facts': vars(self.run_info),
                'methods': {method.name: method.about for method in self.methods},
                **self.study.data,
            }
        )

    def write(self, folder: Path) -> None:
        """Write ``NAME.md``, ``NAME.json`` and ``NAME.png``."""
        folder.mkdir(parents=True, exist_ok=True)
        name = self.study.name
        write_text(folder / f'{name}.md', self.markdown())
        write_text(folder / f'{name}.json', self.json())
        save_palette_png(folder / f'{name}.png', self.study.figure)
