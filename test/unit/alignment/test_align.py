# SPDX-License-Identifier: Apache-2.0
"""Input checks of the alignment, for both motion models."""

import numpy as np
import pytest

from dualfocus_ros.alignment.align import align, warp_planes

SHIFT = 6


def textured_pair():
    """Return two images, the first shifted to the left."""
    rng = np.random.default_rng(2)
    scene = np.kron(rng.integers(30, 220, (60, 80)), np.ones((4, 4))).astype(np.uint8)
    return [scene[:200, SHIFT : 300 + SHIFT], scene[:200, :300]]


@pytest.mark.parametrize('model', ['shift_scale', 'homography'])
def test_rejects_mismatched_input(model):
    image = np.zeros((60, 80), np.uint8)
    with pytest.raises(ValueError, match='2 images but 3 focus distances'):
        align([image, image], [1.0, 2.0, 3.0], model=model)
    with pytest.raises(ValueError, match='differ in size'):
        align([image, image[:-1]], [1.0, 2.0], model=model)


@pytest.mark.parametrize('model', ['shift_scale', 'homography'])
def test_both_models_align_shifted_planes(model):
    images = textured_pair()
    alignment = align(images, [0.5, 2.0], model=model)
    assert alignment.reference == 1 and alignment.failed == ()
    assert alignment.displacement_px == pytest.approx([SHIFT, 0.0], abs=0.3)
    assert alignment.max_displacement_px == pytest.approx(SHIFT, abs=0.3)
    warped, covered = warp_planes(images, alignment)
    difference = np.abs(warped[0].astype(float) - images[1])[covered]
    before = np.abs(images[0].astype(float) - images[1])[covered]
    assert difference.mean() < 0.3 * before.mean()
    assert not covered[:, : SHIFT - 1].any() and covered[10:-10, SHIFT + 2 : -10].all()
