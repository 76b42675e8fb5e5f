# SPDX-License-Identifier: Apache-2.0
"""Release: calibrated sigma, manifest."""

import json

import pytest

from dualfocus_ros.models.weights import load_model
from dualfocus_ros.training.release import calibrate_sigma, evaluate_stacks, write_release
from dualfocus_ros.training.trainer import Trainer
from small_training import ADAPTER, CPU, pool_source, trainer_config


def test_release_is_calibrated_and_in_the_manifest(pool, stacks, tmp_path):
    trainer = Trainer(ADAPTER, trainer_config(5), tmp_path / 'run', CPU)
    trainer.run(pool_source(pool))
    model = trainer.averaged()
    assert calibrate_sigma(ADAPTER, model, stacks, planes=4) > 0.0
    metrics, _ = evaluate_stacks(ADAPTER, model, stacks, planes=4)
    assert metrics.within_one_sigma == pytest.approx(0.6827, abs=0.01)
    path = write_release(tmp_path, 'tiny', ADAPTER, model, {'seed': 1}, metrics)
    entry = json.loads((tmp_path / 'manifest.json').read_text())['models']['tiny']
    assert path == tmp_path / entry['file'] == tmp_path / 'tiny.safetensors'
    assert entry['sha256'] == load_model(str(path)).sha256
    assert entry['held_out_rendered_stacks']['stacks'] == 2
