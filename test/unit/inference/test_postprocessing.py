# SPDX-License-Identifier: Apache-2.0
"""Flying pixels between two surfaces."""

import math

import numpy as np
import pytest
import torch

from dualfocus_ros.inference.postprocessing import flying_pixels

CPU = torch.device('cpu')
NEAR, FAR = 2.0, 0.5


def edge(transition, height=12, width=40):
    """Return inverse depth of a near left half and a far right half, and the ramp between."""
    ramp = np.linspace(NEAR, FAR, transition + 2)
    left = (width - transition) // 2
    row = np.concatenate(
        [np.full(left, NEAR), ramp[1:-1], np.full(width - transition - left, FAR)]
    )
    inside = np.zeros(width, bool)
    inside[left : left + transition] = True
    return (torch.from_numpy(np.tile(row, (height, 1))).float(), np.tile(inside, (height, 1)))


@pytest.mark.parametrize('transition', [1, 2, 5])
@pytest.mark.parametrize('turned', [False, True])
def test_flying_pixels_are_the_ramp_between_two_surfaces(transition, turned):
    dioptres, ramp = edge(transition)
    if turned:
        dioptres, ramp = dioptres.T.contiguous(), ramp.T
    assert np.array_equal(flying_pixels(dioptres, 0.05).numpy(), ramp)


def test_sharp_step_has_no_flying_pixel():
    dioptres, _ = edge(0)
    assert not flying_pixels(dioptres, 0.05).any()


def test_flying_pixels_of_a_diagonal_edge():
    v, u = np.mgrid[:30, :30]
    across = (u + v) / 2.0
    dioptres = torch.from_numpy(np.interp(across, [12.0, 17.0], [NEAR, FAR])).float()
    flying = flying_pixels(dioptres, 0.05).numpy()
    inner = (across > 12.5) & (across < 16.5)
    assert flying[inner].all()
    assert not flying[(across < 11.4) | (across > 17.6)].any()


def test_thin_structures_are_kept():
    dioptres = torch.full((20, 30), FAR)
    dioptres[:, 14] = NEAR
    dioptres[7, :] = NEAR
    assert not flying_pixels(dioptres, 0.05).any()


@pytest.mark.parametrize(('angle', 'flies'), [(60.0, False), (85.0, False), (89.0, True)])
def test_slanted_surfaces_are_kept_up_to_a_grazing_angle(angle, flies):
    focal, threshold = 570.0, 0.05
    # Inverse depth of a plane is linear in the image: q = (1 + tan(a) (u - c) / f) / z0.
    u = np.arange(-20, 20)
    q = np.maximum(1.0 + math.tan(math.radians(angle)) * u / focal, 0.2)
    dioptres = torch.from_numpy(np.tile(q, (10, 1))).float()
    assert bool(flying_pixels(dioptres, threshold)[:, 20].any()) == flies


def test_nan_makes_no_neighbour_fly():
    dioptres, _ = edge(0)
    dioptres[5, 20] = torch.nan
    assert not flying_pixels(dioptres, 0.05).any()
