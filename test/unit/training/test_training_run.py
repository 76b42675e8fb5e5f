# SPDX-License-Identifier: Apache-2.0
"""Training called from Python."""

import json

import pytest

from dualfocus_ros.models import load_model
from dualfocus_ros.training.trainer import Trainer
from dualfocus_ros.training.training_config import (
    BatchConfig,
    DataConfig,
    NetworkConfig,
    TrainerConfig,
    TrainingConfig,
)
from dualfocus_ros.training.training_run import (
    TrainingResult,
    calibrate_sigma,
    evaluate_stacks,
    run_training,
    write_release,
)
from small_training import ADAPTER, CPU, pool_source, trainer_config

DATA = DataConfig(image_size=64, stacks=2, held_out=2, workers=1)
TRAINER = TrainerConfig(steps=2, batch=BatchConfig(size=1, crop=48, planes=(3, 3)))


def test_trains_a_few_steps_and_writes_weights(tmp_path):
    config = TrainingConfig(
        out=tmp_path,
        network=NetworkConfig(ablate=('focal',)),
        data=DATA,
        trainer=TRAINER,
        device='cpu',
    )
    result = run_training(config)
    assert result == TrainingResult(tmp_path / 'dualfocus-lite-no-focal.safetensors')
    assert load_model(str(result.weights)).network.config.surfaces > 0
    entry = json.loads((tmp_path / 'manifest.json').read_text())['models'][result.weights.stem]
    assert entry['recipe']['steps'] == 2 and entry['recipe']['without'] == ['focal']
    assert entry['recipe']['settings']['precision'] == 'fp32'


def test_render_only_writes_data_without_a_checkpoint(tmp_path):
    config = TrainingConfig(
        out=tmp_path, data=DATA, trainer=TRAINER, device='cpu', render_only=True
    )
    assert run_training(config) == TrainingResult()
    assert (tmp_path / 'stacks' / '000001.npz').is_file()
    assert not (tmp_path / 'checkpoint.safetensors').exists()


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
