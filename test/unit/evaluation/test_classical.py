# SPDX-License-Identifier: Apache-2.0
"""Baselines: published size and form of DFV, classical focus measures."""

import cv2
import numpy as np
import pytest
import torch

from dualfocus_ros.evaluation.classical import (
    focus_volume,
    refined_peak,
)
from dualfocus_ros.models.dfv import DFV, differential_focus_volume


def parameters(module):
    return sum(p.numel() for p in module.parameters())


def test_dfv_has_the_published_number_of_parameters():
    network = DFV()
    assert parameters(network.trunk) == 11_176_512
    assert parameters(network.neck) == 4_238_560
    assert parameters(network.decoder) == 3_573_412
    assert sum(parameters(b.classifier) for b in list(network.decoder)[:3]) == 587_107


def test_dfv_returns_four_depths_in_training_else_one():
    network = DFV()
    images, focus = torch.rand(2, 3, 3, 64, 96), torch.tensor([[0.1, 0.5, 1.0]]).repeat(2, 1)
    assert [tuple(d.shape) for d in network(images, focus)] == [(2, 64, 96)] * 4
    network.eval()
    with torch.inference_mode():
        (depth,) = network(images, focus)
    assert depth.min() >= 0.1 and depth.max() <= 1.0
    with pytest.raises(ValueError, match='multiples of 32'):
        network(torch.rand(1, 3, 3, 60, 64), focus[:1])


def test_dfv_keeps_the_raw_last_plane():
    volume = torch.tensor([1.0, 4.0, 9.0]).view(1, 1, 3, 1, 1)
    assert differential_focus_volume(volume).flatten().tolist() == [-3.0, -5.0, 9.0]


@pytest.mark.parametrize('spacing', ['even', 'uneven'])
def test_refined_peak_of_a_gaussian_is_exact(spacing):
    q = np.linspace(0.2, 2.0, 7) if spacing == 'even' else np.array([0.2, 0.3, 0.7, 0.9, 1.6, 2.0])
    truth = np.array([[0.55, 0.8, 1.1]])
    volume = np.exp(-((q[:, None, None] - truth) ** 2) / (2 * 0.3**2))
    assert np.abs(refined_peak(volume, q) - truth).max() < 2e-3
    shuffle = np.random.default_rng(0).permutation(len(q))
    assert np.array_equal(refined_peak(volume[shuffle], q[shuffle]), refined_peak(volume, q))


def test_peak_at_the_end_is_not_refined():
    q = np.array([0.0, 1.0, 2.0])
    volume = np.array([1.0, 2.0, 8.0]).reshape(3, 1, 1)
    assert refined_peak(volume, q)[0, 0] == 2.0


@pytest.mark.parametrize('measure', ['sml', 'rdf'])
def test_finds_which_plane_is_sharp(measure):
    rng = np.random.default_rng(0)
    sharp = rng.integers(0, 255, (64, 96, 3), dtype=np.uint8)
    q = np.linspace(0.0, 2.0, 5)
    truth = np.where(np.arange(96) < 48, 0.5, 1.5)[None].repeat(64, 0)
    images = []
    for plane in q:
        image = np.zeros_like(sharp)
        for value in (0.5, 1.5):
            sigma = 0.3 + 2.0 * abs(plane - value)
            image = np.where(
                (truth == value)[..., None], cv2.GaussianBlur(sharp, (0, 0), sigma), image
            )
        images.append(image)
    found = refined_peak(focus_volume(np.stack(images), measure), q)
    inner = np.abs(np.arange(96) - 47.5) > 10
    assert np.abs(found - truth)[:, inner].mean() < 0.1


def test_rejects_unknown_measure():
    with pytest.raises(ValueError, match='sml, rdf'):
        focus_volume(np.zeros((2, 4, 4), np.uint8), 'magic')
