# SPDX-License-Identifier: Apache-2.0
"""Point spread functions: energy, size, symmetry and aberrations."""

import dataclasses

import numpy as np
import pytest
import torch

from dualfocus_ros.simulation.aberrations import FieldAberrations
from dualfocus_ros.simulation.psf import MIN_RADIUS, Aperture, OffAxis, blur_kernels

STOP = OffAxis(0.9, 0.5, -0.2)
SQUEEZED = OffAxis(squeeze=0.5, direction=0.6)
ABERRANT = [
    (Aperture('disc', spherical=0.8), None),
    (Aperture('disc', spherical=-0.8, softness=0.0), STOP),
    (Aperture('polygon', blades=3, rotation=0.4, spherical=1.0), None),
    (Aperture('polygon', blades=7, spherical=-1.0), STOP),
    (Aperture('disc'), OffAxis(0.8, 0.7, 0.0)),
    (Aperture('disc', spherical=0.5), SQUEEZED),
    (Aperture('gaussian'), SQUEEZED),
    (Aperture('polygon', blades=5), OffAxis(0.9, 0.5, 0.1, squeeze=-0.6, direction=2.0)),
]
APERTURES = [
    Aperture('disc'),
    Aperture('gaussian'),
    Aperture('polygon', blades=5, rotation=0.3),
    Aperture('disc', softness=0.0),
]


@pytest.mark.parametrize('aperture', APERTURES)
@pytest.mark.parametrize('radius', [0.0, 0.3, 0.5, 1.7, 6.25, -9.0])
def test_kernels_are_normalized_and_large_enough(aperture, radius):
    kernel = blur_kernels(torch.tensor([radius]), aperture)[0]
    assert kernel.sum().item() == pytest.approx(1.0, abs=1e-6)
    assert kernel.min() >= 0.0
    larger = blur_kernels(torch.tensor([radius]), aperture, aperture.half_size(radius) + 3)[0]
    assert torch.allclose(larger[3:-3, 3:-3], kernel, atol=2e-3 * kernel.max().item())


@pytest.mark.parametrize('radius', [3.0, 5.0, 11.0])
def test_kernel_has_the_variance_of_its_aperture(radius):
    """The variance along x is r^2/4 for a disc and for the equivalent Gaussian."""
    for shape in ('disc', 'gaussian'):
        kernel = blur_kernels(torch.tensor([radius]), Aperture(shape, softness=0.0))[0]
        x = torch.arange(len(kernel)) - len(kernel) // 2
        variance = (kernel.sum(0) * x**2).sum().item()
        assert variance == pytest.approx(radius**2 / 4.0, rel=0.06)


def test_polygon_has_the_disc_area_and_mirrors_at_focus():
    aperture = Aperture('polygon', blades=5, softness=0.0)
    far, near = blur_kernels(torch.tensor([10.0, -10.0]), aperture)
    assert 1.0 / far.max().item() == pytest.approx(torch.pi * 100.0, rel=0.01)
    assert torch.allclose(near, far.flip(0, 1), atol=1e-7)
    assert not torch.allclose(near, far, atol=1e-4)


def test_blur_radius_is_at_least_half_a_pixel():
    at_focus, smallest = blur_kernels(torch.tensor([0.0, MIN_RADIUS]), Aperture())
    assert torch.equal(at_focus, smallest)


@pytest.mark.parametrize(('aperture', 'off_axis'), ABERRANT)
@pytest.mark.parametrize('radius', [0.0, 0.3, -0.5, 2.2, 7.5, -7.5])
def test_aberrated_kernels_are_normalized(aperture, off_axis, radius):
    kernel = blur_kernels(torch.tensor([radius]), aperture, off_axis=off_axis)[0]
    assert kernel.sum().item() == pytest.approx(1.0, abs=1e-6)
    assert kernel.min() >= 0.0


@pytest.mark.parametrize(('aperture', 'off_axis'), ABERRANT)
def test_near_mirrors_far_with_reversed_aberration(aperture, off_axis):
    reverse = dataclasses.replace(aperture, spherical=-aperture.spherical)
    mirrored = off_axis and dataclasses.replace(off_axis, squeeze=-off_axis.squeeze)
    near = blur_kernels(torch.tensor([-6.3]), aperture, 12, off_axis=off_axis)[0]
    far = blur_kernels(torch.tensor([6.3]), reverse, 12, off_axis=mirrored)[0]
    assert torch.allclose(near, far.flip(0, 1), atol=1e-7)
    same_side = blur_kernels(torch.tensor([6.3]), aperture, 12, off_axis=off_axis)[0]
    assert (near - same_side).abs().max() > 1e-3


def test_spherical_aberration_brightens_the_far_rim():
    """Radial profile of the weight 1 + a (2 rho^2 - 1): 1 - a in the centre, 1 + a at the rim."""
    far, near = blur_kernels(torch.tensor([20.0, -20.0]), Aperture(spherical=0.6, softness=0.0))
    centre = len(far) // 2
    plain = 1.0 / (np.pi * 400.0)
    for kernel, a in ((far, 0.6), (near, -0.6)):
        assert kernel[centre, centre].item() == pytest.approx((1 - a) * plain, rel=0.02)
        assert kernel[centre, centre + 18].item() == pytest.approx(
            (1 + a * (2 * 0.81 - 1)) * plain, rel=0.02
        )


def test_cat_eye_is_the_overlap_of_two_discs():
    """Two discs of one radius whose centres are 0.5 r apart share 0.6850 of their area."""
    (kernel,) = blur_kernels(
        torch.tensor([24.0]), Aperture(softness=0.0), off_axis=OffAxis(1.0, 0.5, 0.0)
    )
    area = 1.0 / kernel.max().item()
    assert area / (np.pi * 24.0**2) == pytest.approx(0.6850, abs=0.01)
    x = torch.arange(len(kernel)) - len(kernel) // 2
    assert (kernel.sum(0) * x).sum().item() == pytest.approx(0.25 * 24.0, rel=0.02)


@pytest.mark.parametrize('shape', ['disc', 'gaussian'])
def test_astigmatism_is_radial_far_and_tangential_near(shape):
    """Variances of an ellipse of half the width: r^2/4 along its length, r^2/16 across."""
    corner = FieldAberrations(astigmatism=0.5).off_axis(0.6, 0.8)
    far, near = blur_kernels(
        torch.tensor([12.0, -12.0]), Aperture(shape, softness=0.0), off_axis=corner
    )
    offset = torch.arange(len(far)) - len(far) // 2
    radial = 0.6 * offset[None, :] + 0.8 * offset[:, None]
    across = 0.8 * offset[None, :] - 0.6 * offset[:, None]
    for kernel, along, narrow in ((far, radial, across), (near, across, radial)):
        assert (kernel * along**2).sum().item() == pytest.approx(36.0, rel=0.06)
        assert (kernel * narrow**2).sum().item() == pytest.approx(9.0, rel=0.06)
    centre = FieldAberrations(astigmatism=0.5).off_axis(0.0, 0.0)
    assert torch.equal(
        blur_kernels(torch.tensor([5.0]), Aperture(shape), off_axis=centre),
        blur_kernels(torch.tensor([5.0]), Aperture(shape)),
    )
