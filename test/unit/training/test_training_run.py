# SPDX-License-Identifier: Apache-2.0
"""Training called from Python."""

import json

from dualfocus_ros.models import load_model
from dualfocus_ros.training.training_config import (
    BatchConfig,
    DataConfig,
    NetworkConfig,
    TrainerConfig,
    TrainingConfig,
)
from dualfocus_ros.training.training_run import TrainingResult, run_training

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
