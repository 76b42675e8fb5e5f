# SPDX-License-Identifier: Apache-2.0
"""``dualfocus train``: weights that load, resuming, fit of sigma, invalid options."""

import json
import logging
import os
import signal

import cv2
import numpy as np
import pytest
import torch

from dualfocus_ros.cli.main import main
from dualfocus_ros.models import load_model
from dualfocus_ros.training import batches, sigma_fit, training_run

SMALL = ['--stacks', '2', '--held-out', '2', '--batch', '1', '--crop', '64', '--workers', '1']
SMALL += ['--planes', '3', '4', '--sample-every', '0', '--image-size', '80']


def write_rgbd(folder):
    for name in ('color', 'depth'):
        (folder / name).mkdir(parents=True)
    rng = np.random.default_rng(0)
    cv2.imwrite(str(folder / 'color' / '1.png'), rng.integers(0, 255, (260, 300, 3), np.uint8))
    depth = np.linspace(700, 3000, 300).astype(np.uint16)[None].repeat(260, axis=0)
    cv2.imwrite(str(folder / 'depth' / '1.png'), depth)


def test_trains_resumes_and_writes_weights_that_load(tmp_path, caplog):
    write_rgbd(tmp_path / 'views')
    out = tmp_path / 'run'
    command = ['train', '-o', str(out), '--rgbd', str(tmp_path / 'views'), *SMALL]
    command += ['--sample-every', '3']
    assert main([*command, '--steps', '2']) == 0
    first = load_model(str(out / 'dualfocus-lite.safetensors'))
    assert main([*command, '--steps', '3']) == 0
    second = load_model(str(out / 'dualfocus-lite.safetensors'))
    assert first.sha256 != second.sha256
    recipe = json.loads((out / 'manifest.json').read_text())['models']['dualfocus-lite']['recipe']
    assert recipe['steps'] == 3 and recipe['settings']['batch']['planes'] == [3, 4]
    assert recipe['data']['rgbd'] == ['views (1 views)']
    assert {'date', 'torch', 'device', 'machine', 'losses', 'seed'} <= recipe.keys()
    assert [path.name for path in (out / 'samples').iterdir()] == ['0000003.png']
    # Refuses a pool of another lens range.
    assert main([*command, '--asymmetry', '1', '--steps', '3']) == 1


def test_only_sigma_changes_no_other_weights(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sigma_fit, 'STEPS', 50)
    command = ['train', '-o', str(tmp_path), '--from', 'dualfocus-lite', '--only-sigma', *SMALL]
    assert main([*command, '--steps', '2', '--textureless', '0.5']) == 0
    before = load_model('dualfocus-lite')
    after = load_model(str(tmp_path / 'dualfocus-lite.safetensors'))
    assert after.network.config == before.network.config
    weights = after.network.state_dict()
    changed = {
        name
        for name, value in before.network.state_dict().items()
        if not torch.equal(weights[name], value)
    }
    assert changed and all(name.startswith('sigma.') for name in changed), changed
    recipe = json.loads((tmp_path / 'manifest.json').read_text())['models']['dualfocus-lite']
    assert recipe['recipe']['only'] == 'sigma' and recipe['recipe']['start'] == before.sha256
    assert recipe['recipe']['data']['render']['textureless'] == 0.5

    def interrupted(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        return draw(*_)

    draw = batches.draw_batch
    monkeypatch.setattr(batches, 'draw_batch', interrupted)
    assert main([*command, '--steps', '9', '--textureless', '0.5', '--name', 'other']) == 130
    assert 'nothing was written' in capsys.readouterr().err
    assert not (tmp_path / 'other.safetensors').exists()


def test_pool_of_other_settings_is_refused(tmp_path, capsys):
    command = ['train', '-o', str(tmp_path), '--steps', '1', *SMALL]
    assert main(command) == 0
    (tmp_path / 'checkpoint.safetensors').unlink()
    assert main([*command, '--seed', '2']) == 1
    assert 'was rendered with other settings (seed;' in capsys.readouterr().err


def test_generated_data_trains_an_ablation_in_windows(tmp_path, capsys):
    command = ['train', '-o', str(tmp_path), '--data', 'generated', '--views', '1', *SMALL]
    command += ['--ablate', 'focal', '--steps', '2']
    assert main([*command, '--render-only']) == 0
    assert (tmp_path / 'views' / '000000.npz').is_file()
    assert not (tmp_path / 'checkpoint.safetensors').exists()
    assert main([*command, '--window', '0.00001']) == 0
    assert 'run again with the same folder to resume' in capsys.readouterr().err
    assert not (tmp_path / 'manifest.json').exists()
    assert main(command) == 0
    name = 'dualfocus-lite-no-focal'
    assert load_model(str(tmp_path / f'{name}.safetensors')).network is not None
    recipe = json.loads((tmp_path / 'manifest.json').read_text())['models'][name]['recipe']
    assert recipe['losses']['focal'] == 0.0 and recipe['data']['source'] == 'generated'
    assert main([*command[:-4], '--steps', '2']) == 1
    assert 'loss.focal was 0.0, now' in capsys.readouterr().err


def test_sigterm_saves_a_checkpoint_and_exits_with_130(tmp_path, capsys, monkeypatch):
    draw = batches.PoolSource.batch

    def interrupted(self, step):
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return draw(self, step)

    monkeypatch.setattr(batches.PoolSource, 'batch', interrupted)
    assert main(['train', '-o', str(tmp_path), '--steps', '50', *SMALL]) == 130
    assert 'stopped at step 2 of 50, checkpoint saved' in capsys.readouterr().err
    assert (tmp_path / 'checkpoint.safetensors').is_file()


@pytest.mark.parametrize(
    ('options', 'status', 'message'),
    [
        (['--textures', 'EMPTY'], 1, 'no images'),
        (['--rgbd', 'EMPTY'], 1, 'do not match'),
        (['--config', 'dualfocus-huge'], 1, "unknown configuration 'dualfocus-huge'"),
        (['--config', 'dfv', '--ablate', 'focal'], 1, 'DFV has no focal'),
        (['--config', 'dfv', '--crop', '80'], 1, 'multiples of 32'),
        (['--blur', '9', '3'], 2, '--blur must be two diameters above 0, minimum first'),
        (['--precision', 'fp16', '--device', 'cpu'], 1, "use 'fp32' or 'bf16'"),
        (['--from', 'dualfocus-huge'], 1, "unknown model 'dualfocus-huge'"),
        (['--config', 'dualfocus', '--from', 'dualfocus-lite'], 1, 'have another configuration'),
        (['--only-sigma'], 2, '--from is needed to fit sigma'),
        (['--only-sigma', '--from', 'dualfocus-lite', '--window', '9'], 2, '--window must be 0'),
        (['--textureless', '1.5'], 2, '--textureless must be a share'),
        (['--beta', '0'], 2, '--beta must be positive'),
        (['--planes', '1', '4'], 2, '--planes must be'),
        (['--steps', '0'], 2, '--steps must be at least 1'),
        (['--ablate', 'everything'], 2, 'invalid choice'),
        (['--crop', '300'], 2, '--crop must be at most the image size of 256 pixels'),
    ],
)
def test_invalid_options_are_refused(tmp_path, capsys, options, status, message):
    options = [str(tmp_path) if option == 'EMPTY' else option for option in options]
    assert main(['train', '-o', str(tmp_path / 'run'), *options]) == status
    assert message in capsys.readouterr().err


def test_out_of_memory_proposes_a_smaller_batch(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError('CUDA out of memory. Tried to allocate 2.00 GiB.')

    monkeypatch.setattr(training_run, 'run_training', full)
    assert main(['train', '-o', str(tmp_path), '--batch', '32']) == 1
    message = capsys.readouterr().err
    assert 'train with --batch 16' in message and 'Traceback' not in message
    assert logging.getLogger('dualfocus_ros').level == logging.INFO
