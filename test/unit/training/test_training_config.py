# SPDX-License-Identifier: Apache-2.0
"""Validation of training configurations."""

from pathlib import Path

import pytest

from dualfocus_ros.exceptions import ConfigError
from dualfocus_ros.training.training_config import (
    BatchConfig,
    DataConfig,
    NetworkConfig,
    TrainerConfig,
    TrainingConfig,
)

OUT = Path('run')


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: NetworkConfig(ablate=('all',)), 'ablate must be some of spatial, focal'),
        (lambda: NetworkConfig(beta=0.0), 'beta must be positive, got 0.0'),
        (lambda: DataConfig(source='web'), 'source must be one of auto, pool, generated'),
        (lambda: DataConfig(stacks=0), 'stacks must be at least 1, got 0'),
        (lambda: DataConfig(held_out=1), 'held_out must be at least 2, got 1'),
        (lambda: DataConfig(blur_range=(9.0, 3.0)), 'blur_range must be two diameters'),
        (lambda: DataConfig(textureless=1.5), 'textureless must be a share from 0 to 1, got 1.5'),
        (lambda: BatchConfig(crop=16), 'crop must be at least 32, got 16'),
        (lambda: BatchConfig(planes=(1, 4)), 'planes must be 2 <= minimum <= maximum <= 32'),
        (lambda: TrainerConfig(steps=0), 'steps must be at least 1, got 0'),
        (lambda: TrainerConfig(learning_rate=float('nan')), 'learning_rate must be positive'),
        (lambda: TrainerConfig(window_minutes=-1.0), 'window_minutes must be at least 0'),
        (lambda: TrainerConfig(ema_decay=1.0), 'ema_decay must be from 0 to below 1'),
        (
            lambda: TrainerConfig(precision='fp8'),
            "precision must be one of auto, fp32, bf16, fp16, got 'fp8'",
        ),
        (lambda: TrainingConfig(OUT, data=DataConfig(image_size=96)), 'crop must be at most'),
        (lambda: TrainingConfig(OUT, only_sigma=True), 'start is needed to fit sigma'),
    ],
)
def test_invalid_value_is_refused_by_its_field(make, message):
    with pytest.raises(ConfigError) as error:
        make()
    assert str(error.value).startswith(message)


def test_window_is_refused_for_a_fit_of_sigma():
    with pytest.raises(ConfigError, match='window_minutes must be 0 to fit sigma, got 9'):
        TrainingConfig(
            OUT,
            network=NetworkConfig(start='dualfocus-lite'),
            trainer=TrainerConfig(window_minutes=9),
            only_sigma=True,
        )
