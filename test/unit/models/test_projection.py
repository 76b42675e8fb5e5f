# SPDX-License-Identifier: Apache-2.0
"""Integrable projection: equality with the dense pseudo-inverse, gradients, precision."""

import numpy as np
import pytest
import torch

from dualfocus_ros.models.projection import forward_differences, integrate


def dense_operator(height: int, width: int) -> np.ndarray:
    """Return P, one row per pair of neighbours: x differences first, then y."""
    index = np.arange(height * width).reshape(height, width)
    pairs = [*zip(index[:, :-1].ravel(), index[:, 1:].ravel())]
    pairs += [*zip(index[:-1].ravel(), index[1:].ravel())]
    matrix = np.zeros((len(pairs), height * width))
    for row, (here, there) in enumerate(pairs):
        matrix[row, here], matrix[row, there] = -1.0, 1.0
    return matrix


@pytest.mark.parametrize(('height', 'width'), [(6, 9), (12, 15), (30, 40)])
@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_projection_equals_the_pseudo_inverse(height, width, dtype, tolerance):
    rng = np.random.default_rng(0)
    gx, gy = rng.normal(size=(2, height, width))
    rows = np.concatenate([gx[:, :-1].ravel(), gy[:-1].ravel()])
    operator = dense_operator(height, width)
    expected = np.linalg.lstsq(operator, rows, rcond=None)[0].reshape(height, width)
    found = integrate(torch.tensor(gx, dtype=dtype), torch.tensor(gy, dtype=dtype))
    assert found.dtype == dtype
    assert np.abs(found.numpy() - expected).max() < tolerance


def test_recovers_a_surface_from_its_differences():
    surface = torch.randn(2, 3, 21, 17, dtype=torch.float64)
    surface -= surface.mean(dim=(-1, -2), keepdim=True)
    assert torch.allclose(integrate(*forward_differences(surface)), surface, atol=1e-10)


def test_differences_across_the_border_are_ignored():
    gx, gy = torch.randn(2, 8, 8, dtype=torch.float64)
    changed_x, changed_y = gx.clone(), gy.clone()
    changed_x[:, -1] += 100.0
    changed_y[-1] -= 100.0
    assert torch.equal(integrate(gx, gy), integrate(changed_x, changed_y))


def test_gradient_is_exact():
    gx, gy = torch.randn(2, 2, 5, 7, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(integrate, (gx, gy))


def test_gradient_exists_after_inference_mode():
    # Cached inference tensors would break training in the same process.
    with torch.inference_mode():
        integrate(torch.randn(11, 13), torch.randn(11, 13))
    gx = torch.randn(11, 13, requires_grad=True)
    integrate(gx, torch.randn(11, 13)).sum().backward()
    assert gx.grad is not None


def test_projection_is_float32_under_autocast():
    with torch.autocast('cpu', dtype=torch.bfloat16):
        found = integrate(torch.randn(30, 40).bfloat16(), torch.randn(30, 40).bfloat16())
    assert found.dtype == torch.float32


def test_fields_of_different_shape_are_refused():
    with pytest.raises(ValueError, match='differ in shape'):
        integrate(torch.zeros(3, 4), torch.zeros(4, 3))


def test_tracing_leaves_no_fake_tensors_in_the_cache():
    # Export traces the first call with fake tensors; later calls need values.
    class Projection(torch.nn.Module):
        def forward(self, gx: torch.Tensor, gy: torch.Tensor) -> torch.Tensor:
            return integrate(gx, gy)

    gx, gy = torch.randn(2, 10, 14)
    program = torch.export.export(Projection(), (gx, gy), strict=False)
    found = integrate(gx, gy)
    assert type(found) is torch.Tensor
    assert torch.allclose(found, program.module()(gx, gy), atol=1e-5)
    expected = integrate(gx.double(), gy.double()).float()
    assert torch.allclose(found, expected, atol=1e-4)
