# SPDX-License-Identifier: Apache-2.0
"""Sample images of a run."""

import numpy as np
import torch

from dualfocus_ros.training.batches import TrainingStack
from dualfocus_ros.training.sample_images import render_sample_image
from small_training import ADAPTER


def test_sample_image_has_a_row_per_stack_and_gray_holes():
    truth = torch.linspace(0.0, 1.0, 64).repeat(64, 1)
    truth[:20] = torch.nan
    images = torch.randint(0, 255, (4, 3, 64, 64), dtype=torch.uint8)
    stack = TrainingStack(images, np.linspace(0, 1, 4).astype(np.float32), truth)
    network = ADAPTER.build().eval()
    one = render_sample_image(ADAPTER, network, [stack], 10)
    two = render_sample_image(ADAPTER, network, [stack, stack], 10)
    assert one.dtype == np.uint8 and one.shape[1:] == (1900, 3)
    assert two.shape[0] > 1.7 * one.shape[0]
    unknown = (one == np.array([128, 132, 140])).all(axis=2)
    assert unknown.mean() > 0.02
