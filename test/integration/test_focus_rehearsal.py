# SPDX-License-Identifier: Apache-2.0
"""The rehearsal of docs/calibration.md, command by command: the focus scale."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from rehearsal import commands, run


@pytest.mark.slow
def test_focus_scale(tmp_path):
    run(commands('--camera /$camera'), tmp_path)
    values = yaml.safe_load((tmp_path / 'focus.yaml').read_text())['/**']['ros__parameters']
    positions = np.array(values['calibration.positions'])
    dioptres = np.array(values['calibration.dioptres'])
    off = np.abs(dioptres / (positions / 1000.0) - 1.0).max()
    print(f'{positions[0]:.0f} to {positions[-1]:.0f} units, off by {off:.2%} at most')
    assert off < 0.04
