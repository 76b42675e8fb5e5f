# SPDX-License-Identifier: Apache-2.0
"""Commands of docs/calibration.md in order: focus scale, breathing, blur, settling, field."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
import re
import signal
import subprocess

import numpy as np
import pytest
import yaml

DOCUMENT = Path(__file__).parents[2] / 'docs/calibration.md'
_PATIENCE = 170.0


def commands(part: str) -> str:
    """Return the one block of commands that contains this text."""
    blocks = re.findall(r'```bash\n(.*?)```', DOCUMENT.read_text('utf-8'), re.S)
    found = [block for block in blocks if part in block]
    assert len(found) == 1, f'{len(found)} blocks of {DOCUMENT.name} contain {part!r}'
    return found[0]


def run(script: str, folder: Path) -> None:
    """Run commands in a folder; fail with their output."""
    log = folder / 'log.txt'
    with log.open('wb') as file:
        process = subprocess.Popen(
            ['bash', '-c', script],
            cwd=folder,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=os.environ.copy(),
            start_new_session=True,
        )
        try:
            status = process.wait(_PATIENCE)
        finally:
            # Background processes of the script end with it.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    text = log.read_text(errors='replace')
    assert status == 0, f'status {status}:\n{text}'
    assert 'Traceback' not in text and 'error:' not in text, text


def parameters(path: Path) -> dict[str, object]:
    return yaml.safe_load(path.read_text())['/**']['ros__parameters']


@pytest.mark.slow
def test_focus_scale(tmp_path):
    run(commands('--camera /$camera'), tmp_path)
    values = parameters(tmp_path / 'focus.yaml')
    positions = np.array(values['calibration.positions'])
    dioptres = np.array(values['calibration.dioptres'])
    off = np.abs(dioptres / (positions / 1000.0) - 1.0).max()
    print(f'{positions[0]:.0f} to {positions[-1]:.0f} units, off by {off:.2%} at most')
    assert off < 0.04


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
