# SPDX-License-Identifier: Apache-2.0
"""README and tutorial, walked through: every command is run as it stands there.

What cannot be run here is in ``NOT_RUN`` of ``test/support/documented_commands.py``, with the
reason.
"""

from __future__ import annotations

import os
from pathlib import Path
import subprocess

import cv2
import numpy as np
import pytest

from documented_commands import ROOT, WALKED, script

# What commands write goes into the newcomer's folder, not into this checkout.
NOT_THERE = {'demo', 'bench', 'site', 'log', '.git'}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_runs_commands_of_readme_and_tutorial(tmp_path):
    if not (ROOT / '.venv' / 'set-up-done').exists():
        pytest.skip('this checkout was not set up by make')
    for entry in ROOT.iterdir():
        if entry.name not in NOT_THERE:
            (tmp_path / entry.name).symlink_to(entry)
    # A new shell, which knows nothing of the environment that this test runs in.
    names = ('PATH', 'HOME', 'ROS_DOMAIN_ID', 'ROS_AUTOMATIC_DISCOVERY_RANGE', 'TMPDIR')
    environment = {name: os.environ[name] for name in names if name in os.environ}
    venv = os.environ.get('VIRTUAL_ENV', '')
    if venv:
        path = [p for p in environment['PATH'].split(os.pathsep) if not p.startswith(venv)]
        environment['PATH'] = os.pathsep.join(path)
    done: set[str] = set()
    for page in WALKED:
        walked = subprocess.run(
            ['bash', '-c', script(page, done)],
            cwd=tmp_path,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        (tmp_path / f'{page.stem}.log').write_text(walked.stdout)
        assert walked.returncode == 0, f'{page.name}:\n{walked.stdout[-4000:]}'
        assert 'Traceback' not in walked.stdout
    # What the pages promise to be there afterwards.
    assert cv2.imread(str(tmp_path / 'demo' / 'panel.png')) is not None
    assert cv2.imread(str(tmp_path / 'sheet.png')) is not None
    assert (tmp_path / 'demo' / 'cloud.ply').stat().st_size > 100_000
    assert (tmp_path / 'depth').is_dir() and (tmp_path / 'live').is_dir()
    depth = np.load(tmp_path / 'depth_of_table' / 'depth.npy')
    assert np.isfinite(depth).mean() > 0.9
    assert Path(tmp_path / 'depth_of_table' / 'cloud.ply').stat().st_size > 100_000
