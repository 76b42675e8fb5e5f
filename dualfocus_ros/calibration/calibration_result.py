# SPDX-License-Identifier: Apache-2.0
"""Result of a calibration: node parameters, summary and figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualfocus_ros.calibration.parameter_file import Value, write_parameters
from dualfocus_ros.io.image_files import save_png


@dataclass(frozen=True, eq=False)
class CalibrationResult:
    """Result of a calibration.

    :param parameters: of the nodes, by name.
    :param summary: all numbers, for JSON.
    :param lines: text for people.
    :param figure: (H, W, 3) uint8 RGB, the fit and its residuals.
    """

    parameters: Mapping[str, Value]
    summary: Mapping[str, Any]
    lines: Sequence[str]
    figure: np.ndarray
    warnings: Sequence[str] = ()

    def write(self, parameter_file: Path, figure_file: Path, title: str) -> None:
        """Write the parameter file, with the text as comments, and the figure as PNG."""
        for path in (parameter_file, figure_file):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_parameters(parameter_file, self.parameters, [title, *self.lines])
        save_png(figure_file, self.figure)
