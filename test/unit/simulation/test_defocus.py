# SPDX-License-Identifier: Apache-2.0
"""Layered defocus renderer: energy, occlusion and convolution."""

import pytest
import torch

from dualfocus_ros.simulation import defocus
from dualfocus_ros.simulation.defocus import layer_scene, render, render_stack
from dualfocus_ros.simulation.psf import Aperture, blur_kernels

APERTURES = [
    Aperture('disc'),
    Aperture('gaussian'),
    Aperture('polygon', blades=5, rotation=0.3),
    Aperture('disc', softness=0.0),
]
SHARP = Aperture('disc', softness=0.0)


def two_sided(size=64, near=2.0, far=1.0):
    """Return a near black half (left) in front of a far white half."""
    image = torch.zeros(3, size, size)
    image[:, :, size // 2 :] = 1.0
    dioptres = torch.full((size, size), near)
    dioptres[:, size // 2 :] = far
    return image, dioptres


@pytest.mark.parametrize('soft', [True, False])
@pytest.mark.parametrize('aperture', APERTURES[:3])
def test_constant_image_stays_constant_at_any_depth(aperture, soft):
    generator = torch.Generator().manual_seed(3)
    dioptres = (torch.rand(5, 7, generator=generator) * 4.0).repeat_interleave(10, 0)
    dioptres = dioptres.repeat_interleave(10, 1)
    dioptres[:, 20:40] = torch.linspace(0.0, 4.0, 50)[:, None]
    image = torch.tensor([0.2, 0.5, 0.9])[:, None, None].expand(3, 50, 70)
    scene = layer_scene(image, dioptres, layers=9, max_radius=10.0, soft=soft)
    stack = render_stack(scene, 5.0, torch.tensor([0.0, 1.3, 4.0]), aperture=aperture)
    assert stack.shape == (3, 3, 50, 70)
    assert (stack - image).abs().max() < 2e-6


def test_near_edge_in_focus_stays_sharp():
    """The blurred background neither covers the sharp near object nor loses light."""
    scene = layer_scene(*two_sided(), layers=2, max_radius=8.0)
    row = render(scene, 10.0, 2.0, aperture=SHARP)[0, 32]
    assert row[:31].abs().max() < 1e-5
    assert row[33:].min() > 0.999


def test_near_edge_out_of_focus_is_symmetric():
    """Compare with the edge spread function of a disc."""
    scene = layer_scene(*two_sided(), layers=2, max_radius=8.0)
    row = render(scene, 10.0, 1.0, aperture=SHARP)[0, 32]
    edge = row[28:36]
    assert torch.allclose(edge + edge.flip(0), torch.ones(8), atol=1e-4)
    expected = torch.tensor([0.07, 0.17, 0.30, 0.43, 0.57, 0.70, 0.83, 0.93])
    assert torch.allclose(edge, expected, atol=0.03)
    assert row[:26].abs().max() < 1e-4 and row[38:].min() > 0.9999


def test_soft_layers_preserve_the_size_of_an_object():
    """The edge of an object is at the same position on a slice and between slices."""
    image, _ = two_sided()
    edges = []
    for near in (2.0, 1.87):
        dioptres = torch.full((64, 64), near)
        dioptres[:, 32:] = 1.0
        dioptres[0, 0], dioptres[0, 63] = 2.0, 1.0
        scene = layer_scene(image, dioptres, layers=9, max_radius=8.0)
        edges.append(render(scene, 10.0, 1.0)[0, 40].sum().item())
    assert edges[0] == pytest.approx(32.0, abs=0.02)
    assert edges[1] == pytest.approx(32.0, abs=0.02)


@pytest.mark.parametrize('aperture', APERTURES[:3])
def test_fourier_and_direct_convolution_agree(aperture, monkeypatch):
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(3, 60, 90, generator=generator)
    dioptres = torch.full((60, 90), 0.5)
    dioptres[20:45, 30:50] = 2.5
    dioptres[:15, 70:] = 1.4
    scene = layer_scene(image, dioptres, layers=5, max_radius=6.5)
    focus = torch.tensor([0.5, 1.0, 2.5])
    stacks = []
    for width in (0, 1000):
        monkeypatch.setattr(defocus, '_DIRECT_WIDTH', width)
        stacks.append(render_stack(scene, 6.0, focus, aperture=aperture))
    assert (stacks[0] - stacks[1]).abs().max() < 2e-5


def test_single_layer_equals_plain_convolution():
    generator = torch.Generator().manual_seed(2)
    image = torch.rand(3, 40, 40, generator=generator)
    scene = layer_scene(image, torch.full((40, 40), 1.0), layers=16, max_radius=9.0)
    assert len(scene.layers) == 1
    result = render(scene, 8.0, 3.0)
    kernel = blur_kernels(torch.tensor([8.0]), Aperture())
    half = kernel.shape[-1] // 2
    padded = torch.nn.functional.pad(image[None], (half,) * 4, mode='reflect')
    expected = torch.nn.functional.conv2d(padded, kernel[None].expand(3, 1, -1, -1), groups=3)
    # The tail of the spot reaches beyond the padding of max_radius + 4 pixels.
    assert (result - expected[0])[:, 4:-4, 4:-4].abs().max() < 1e-5


def test_stack_equals_single_planes_with_their_kappa():
    generator = torch.Generator().manual_seed(4)
    image = torch.rand(3, 48, 64, generator=generator)
    dioptres = torch.linspace(0.2, 3.0, 64).expand(48, 64).contiguous()
    scene = layer_scene(image, dioptres, layers=8, max_radius=12.0)
    kappa, focus = torch.tensor([3.0, 7.0, 5.0]), torch.tensor([0.2, 1.0, 3.0])
    stack = render_stack(scene, kappa, focus)
    for index in range(3):
        single = render(scene, float(kappa[index]), float(focus[index]))
        assert (stack[index] - single).abs().max() < 1e-5


def test_slanted_surface_is_sharp_at_its_focus():
    """Contrast of a texture on a slanted plane peaks where the plane is in focus."""
    columns = torch.arange(160)
    texture = ((columns // 3) % 2).float().expand(3, 60, 160)
    dioptres = torch.linspace(0.5, 3.5, 160).expand(60, 160).contiguous()
    scene = layer_scene(texture, dioptres, layers=16, max_radius=15.0)
    image = render(scene, 8.0, 2.0)[0, 30]
    contrast = image.unfold(0, 12, 4).std(dim=1)
    assert abs(int(contrast.argmax()) * 4 + 6 - 80) <= 8
    assert contrast[0] < 0.2 * contrast.max() and contrast[-1] < 0.2 * contrast.max()


def test_invalid_input_raises():
    image, dioptres = two_sided(16)
    with pytest.raises(ValueError, match=r'inverse depth \(H, W\)'):
        layer_scene(image, dioptres[:8], max_radius=2.0)
    with pytest.raises(ValueError, match='not finite'):
        layer_scene(image, dioptres * float('nan'), max_radius=2.0)
    scene = layer_scene(image, dioptres, max_radius=2.0)
    with pytest.raises(ValueError, match=r'max_radius=2\.0'):
        render(scene, 20.0, 1.0)
    with pytest.raises(ValueError, match='shape'):
        Aperture('star')
