# SPDX-License-Identifier: Apache-2.0
"""The rehearsals of docs/calibration.md, command by command: breathing, blur, settling, field."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from rehearsal import commands, run


def parameters(path: Path) -> dict[str, object]:
    return yaml.safe_load(path.read_text())['/**']['ros__parameters']


@pytest.mark.slow
def test_breathing_blur_and_settling(tmp_path):
    run(commands('record sweeps --wait'), tmp_path)
    g1 = parameters(tmp_path / 'breathing.yaml')['breathing.coefficients'][0]
    kappa = parameters(tmp_path / 'lens.yaml')['lens.kappa']
    time = parameters(tmp_path / 'settling.yaml')['command.settling_time']
    print(f'g1 {g1:.5f}, true 0.016; kappa {kappa:.2f}, true 8.13; settling {time:.3f}, true 0.14')
    # 320 pixels, few settings, and frames that come when the machine has time for them.
    assert abs(g1 / 0.016 - 1.0) < 0.15
    assert abs(kappa / 8.127 - 1.0) < 0.05
    assert 0.10 < time < 0.20
    for name in ('breathing', 'lens', 'settling'):
        assert (tmp_path / f'{name}.png').stat().st_size > 10_000


@pytest.mark.slow
def test_field(tmp_path):
    run(commands('record bowed'), tmp_path)
    c2, c4 = parameters(tmp_path / 'field.yaml')['lens.field_curvature']
    print(f'c2 {c2:+.4f}, c4 {c4:+.4f}, true 0.3, 0')
    # At the edge of the measured blocks: a target square to the camera separates c2 and c4 poorly.
    assert abs(0.8 * c2 + 0.64 * c4 - 0.8 * 0.3) < 0.03
    assert (tmp_path / 'field.png').stat().st_size > 10_000
