# SPDX-License-Identifier: Apache-2.0
"""Stacks generated on the training device, and batches of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dualfocus_ros.models.focus_measure import log_focus_measures
from dualfocus_ros.simulation.random_stacks.stack_renderer import RenderSettings
from dualfocus_ros.training.batches import GeneratedSource
from dualfocus_ros.training.stack_generator import StackGenerator
from dualfocus_ros.training.training_config import BatchConfig
from training_images import make_photograph, make_rgbd_image

CPU = torch.device('cpu')
SETTINGS = RenderSettings(planes=4, blur_range=(3.0, 8.0), layers=6)
SIZE = 64


def generator(**changes):
    return StackGenerator(replace(SETTINGS, **changes), SIZE, CPU, textures=[make_photograph()])


def test_stacks_follow_from_the_seed():
    one, again = (generator(asymmetry=0.5).render(np.random.default_rng(5), 3) for _ in range(2))
    for a, b in zip(one, again, strict=True):
        assert torch.equal(a.images, b.images) and torch.equal(a.truth, b.truth)
        assert np.array_equal(a.focus, b.focus)
    other = generator().render(np.random.default_rng(6), 1)[0]
    assert not torch.equal(other.images, one[0].images)
    assert one[0].images.shape == (4, 3, SIZE, SIZE) and one[0].images.dtype == torch.uint8
    assert (np.diff(one[0].focus) > 0).all()


@pytest.mark.parametrize('asymmetry', [0.0, 1.0])
def test_pixels_are_sharpest_in_the_nearest_plane(asymmetry):
    """Compare the peak of a focus measure over planes with the truth."""
    settings = {'blur_range': (12.0, 12.1), 'max_noise': 0.0, 'max_shift': 0.0, 'wide_sweeps': 0.0}
    made = generator(planes=5, asymmetry=asymmetry, **settings)
    agree, count = 0, 0
    for stack in made.render(np.random.default_rng(11), 3):
        focus = torch.from_numpy(stack.focus)
        measures = log_focus_measures(stack.images.float() / 255.0)[:, :1]
        smooth = torch.nn.functional.avg_pool2d(measures, 7, 1, 3)[:, 0]
        nearest = (stack.truth[None] - focus[:, None, None]).abs().argmin(dim=0)
        # Pixels with texture and away from depth edges: only one depth per window.
        textured = smooth.amax(dim=0) - smooth.amin(dim=0) > 0.5 * float(smooth.std())
        extent = torch.nn.functional.max_pool2d(stack.truth[None], 11, 1, 5)[0]
        flat = extent + torch.nn.functional.max_pool2d(-stack.truth[None], 11, 1, 5)[0] < 0.05
        chosen = textured & flat
        agree += int(((smooth.argmax(dim=0) - nearest).abs() <= 1)[chosen].sum())
        count += int(chosen.sum())
    assert count > 500 and agree / count > 0.9


def test_holes_of_rgbd_images_are_unknown_in_the_truth():
    settings = {'rgbd': 1.0, 'max_noise': 0.0}
    made = StackGenerator(
        replace(SETTINGS, **settings), SIZE, CPU, rgbd=[make_rgbd_image(holes=True)]
    )
    stacks = made.render(np.random.default_rng(0), 6)
    unknown = [float(torch.isnan(stack.truth).float().mean()) for stack in stacks]
    assert max(unknown) > 0.05 and max(unknown) <= 0.4
    known = torch.cat([stack.truth[torch.isfinite(stack.truth)] for stack in stacks])
    assert known.min() >= -0.1 and known.max() <= 1.1


def test_batches_follow_from_seed_rank_and_step():
    batch = BatchConfig(size=2, crop=48, planes=(3, 4))

    def source(rank=0):
        return GeneratedSource(generator(), batch, 1, rank, reuse=2, groups=2)

    one = source()
    first = [one.batch(step) for step in range(4)]
    resumed = source().batch(3)
    assert torch.equal(resumed.images, first[3].images)
    assert torch.equal(resumed.focus, first[3].focus)
    other = source(rank=1).batch(3)
    assert other.images.shape != resumed.images.shape or not torch.equal(
        other.images, resumed.images
    )
    for made in first:
        assert made.images.shape[0] == 2 and made.images.shape[2:] == (3, 48, 48)
        assert made.images.min() >= 0.0 and made.images.max() <= 1.0
        assert (made.focus.diff(dim=1) > 0).all()
    assert one.take_wait_seconds() > 0.0 and one.take_wait_seconds() == 0.0


def test_stacks_are_rendered_once_and_replaced_in_turn():
    rendered = []

    class Counting(StackGenerator):
        def render(self, rng, count):
            rendered.append(count)
            return super().render(rng, count)

    made = Counting(SETTINGS, SIZE, CPU)
    source = GeneratedSource(made, BatchConfig(2, 48, (3, 4)), 1, 0, reuse=2, groups=3)
    for step in range(6):
        source.prepare(step)
        source.batch(step)
    # Three groups at the start, then one every second step.
    assert rendered == [2] * 5


class OperationCounter(TorchDispatchMode):
    """Count tensor operations, and record those that synchronize with the device."""

    def __init__(self):
        super().__init__()
        self.count, self.waits = 0, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        name = str(function)
        if any(part in name for part in ('_local_scalar_dense', 'nonzero', 'masked_select')):
            self.waits.append(name)
        return function(*args, **(kwargs or {}))


def test_generation_does_not_synchronize_with_the_device():
    made = StackGenerator(
        SETTINGS,
        SIZE,
        CPU,
        textures=[make_photograph()],
        indoor=[make_rgbd_image()],
        rgbd=[make_rgbd_image(holes=True)],
    )
    source = GeneratedSource(made, BatchConfig(8, 48, (3, 4)), 1, 0, reuse=2, groups=1)
    with OperationCounter() as operations:
        source.batch(0)
    assert operations.waits == []
    assert operations.count > 100
    print(f'{operations.count} operations for 8 stacks and a batch')
