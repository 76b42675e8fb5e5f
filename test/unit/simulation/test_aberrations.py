# SPDX-License-Identifier: Apache-2.0
"""Field aberrations, spherical and chromatic aberration in rendered images."""

import numpy as np
import pytest
import torch

from dualfocus_ros.simulation import defocus
from dualfocus_ros.simulation.aberrations import FieldAberrations, field_tiles
from dualfocus_ros.simulation.defocus import layer_scene, max_blur_radius, render, render_stack
from dualfocus_ros.simulation.psf import Aperture, OffAxis, blur_kernels
from dualfocus_ros.simulation.random_stacks.stack_renderer import RenderSettings, draw_capture

STOP = OffAxis(0.9, 0.5, -0.2)
CPU = torch.device('cpu')


def steps_scene(max_radius=12.0):
    """Return a textured scene with steps and a slope between 0.5 and 3 dioptres."""
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, 48, 64, generator=generator)
    dioptres = torch.full((48, 64), 0.5)
    dioptres[10:30, 15:40] = 2.5
    dioptres[35:] = torch.linspace(0.5, 3.0, 64)
    return layer_scene(image, dioptres, layers=7, max_radius=max_radius)


FOCUS = torch.tensor([0.5, 1.4, 3.0])


@pytest.mark.parametrize(
    ('aperture', 'field'),
    [
        (Aperture(spherical=0.8, focus_shift=0.1), None),
        (Aperture(chromatic=0.05), None),
        (Aperture(), FieldAberrations(cat_eye=0.7, cat_eye_radius=0.8, nodes=3)),
        (Aperture(), FieldAberrations(curvature=0.1, tilt=-0.1, tilt_direction=1.0)),
        (Aperture('gaussian'), FieldAberrations(astigmatism=0.7)),
        (
            Aperture('polygon', spherical=-0.8, chromatic=-0.05),
            FieldAberrations(cat_eye=0.5, curvature=-0.1, nodes=5),
        ),
    ],
)
def test_constant_image_stays_constant_at_any_depth(aperture, field):
    generator = torch.Generator().manual_seed(3)
    dioptres = (torch.rand(5, 7, generator=generator) * 3.0).repeat_interleave(10, 0)
    dioptres = dioptres.repeat_interleave(10, 1)
    dioptres[:, 20:40] = torch.linspace(0.0, 3.0, 50)[:, None]
    image = torch.tensor([0.2, 0.5, 0.9])[:, None, None].expand(3, 50, 70)
    scene = layer_scene(image, dioptres, layers=7, max_radius=12.0)
    stack = render_stack(scene, 5.0, FOCUS, aperture=aperture, field=field)
    assert stack.shape == (3, 3, 50, 70)
    assert (stack - image).abs().max() < 3e-6


@pytest.mark.parametrize('shape', ['disc', 'gaussian', 'polygon'])
def test_zero_aberrations_change_nothing(shape):
    scene = steps_scene()
    plain = render_stack(scene, 5.0, FOCUS, aperture=Aperture(shape))
    same = render_stack(scene, 5.0, FOCUS, aperture=Aperture(shape), field=FieldAberrations())
    assert torch.equal(plain, same)


def test_separate_tiles_and_channels_give_the_same_image():
    """Take the code paths of aberrations with aberrations below float precision."""
    scene = steps_scene()
    plain = render_stack(scene, 5.0, FOCUS)
    tiled = render_stack(scene, 5.0, FOCUS, field=FieldAberrations(tilt=1e-9, nodes=3))
    coloured = render_stack(scene, 5.0, FOCUS, aperture=Aperture(chromatic=1e-9))
    assert (tiled - plain).abs().max() < 2e-6
    assert (coloured - plain).abs().max() < 2e-6


@pytest.mark.parametrize(('nodes', 'height', 'width'), [(2, 9, 13), (5, 48, 64), (4, 3, 2)])
def test_weights_of_tiles_sum_to_one(nodes, height, width):
    total = torch.zeros(height, width)
    for tile in field_tiles(nodes, height, width, CPU):
        total[tile.rows, tile.columns] += tile.weight
        assert tile.x**2 + tile.y**2 <= 1.0 + 1e-6
    assert (total - 1.0).abs().max() < 1e-6


def test_tiles_have_no_seams():
    """A smooth image with strongly varying aberrations stays smooth where tiles meet."""
    x = torch.linspace(0.0, 1.0, 96).expand(96, 96)
    image = torch.stack([0.5 + 0.4 * torch.sin(5.0 * x), x, x.T]).contiguous()
    scene = layer_scene(image, torch.full((96, 96), 1.0), max_radius=14.0)
    field = FieldAberrations(cat_eye=0.7, cat_eye_radius=0.8, curvature=0.2, tilt=0.2)
    result = render(scene, 12.0, 2.5, field=field)[:, 12:-12, 12:-12]
    sharp = image[:, 12:-12, 12:-12]

    def roughest(picture):
        return max(picture.diff(n=2, dim=axis).abs().max().item() for axis in (1, 2))

    assert roughest(result) < 1.5 * roughest(sharp)


def test_cat_eye_shifts_edges_in_opposite_directions():
    """The centroid of a clipped spot is off centre: blurred edges shift with it."""
    image = torch.zeros(3, 65, 129)
    image[:, :, 64:] = 1.0
    flat = torch.full((65, 129), 1.0)
    scene = layer_scene(image, flat, max_radius=12.0)
    field = FieldAberrations(cat_eye=0.6, cat_eye_radius=0.9, nodes=3)
    # The edge is on the axis: evaluate its row, to the left and right of the axis.
    for focus, direction in ((2.0, 1.0), (0.0, -1.0)):
        bright = render(scene, 16.0, focus, field=field)[0, 32]
        plain = render(scene, 16.0, focus)[0, 32]
        assert (bright - plain)[60:69].sum().abs() < 0.05  # symmetric on the axis
        moved = torch.zeros(3, 65, 129)
        moved[:, :, 110:] = 1.0
        off_axis = layer_scene(moved, flat, max_radius=12.0)
        row = render(off_axis, 16.0, focus, field=field)[0, 32]
        row = row - render(off_axis, 16.0, focus)[0, 32]
        # A spot shifted towards +x shifts the edge likewise: the row loses light.
        assert direction * row[98:122].sum() < -0.3


def test_chromatic_blur_swaps_through_the_focus():
    """Beyond the focus red has most blur, before it blue; both have the same focus."""
    image = torch.zeros(3, 64, 64)
    image[:, :, 32:] = 1.0
    scene = layer_scene(image, torch.full((64, 64), 1.0), max_radius=12.0)
    lens = Aperture(chromatic=0.2)
    width = {}
    for name, focus in (('far', 2.0), ('near', 0.0), ('focus', 1.0)):
        rows = render(scene, 16.0, focus, aperture=lens)[:, 32]
        width[name] = [(row * (1.0 - row)).sum().item() for row in rows]
    assert width['far'][0] > 1.15 * width['far'][1] > 1.15 * 1.15 * width['far'][2]
    assert width['near'] == pytest.approx(width['far'][::-1], rel=1e-4)
    assert width['focus'] == pytest.approx([width['focus'][0]] * 3)


def test_chromatic_aberration_leaves_green_unchanged():
    scene = steps_scene()
    plain = render_stack(scene, 5.0, FOCUS)
    coloured = render_stack(scene, 5.0, FOCUS, aperture=Aperture(chromatic=0.05))
    assert (coloured[:, 1] - plain[:, 1]).abs().max() < 2e-6
    assert (coloured[:, 0] - plain[:, 0]).abs().max() > 1e-3


@pytest.mark.parametrize('size', [(97, 130), (101, 137), (90, 121)])
def test_tiled_fourier_and_direct_convolution_agree(size, monkeypatch):
    """Small objects, and tiles with much smaller spots than others."""
    height, width = size
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(3, height, width, generator=generator)
    dioptres = torch.full((height, width), 0.5)
    dioptres[44:48, 60:63], dioptres[:6, -9:] = 2.5, 1.4
    # With two nodes per side every tile is the whole image and contains the small object.
    field = FieldAberrations(curvature=0.15, tilt=-0.3, cat_eye=0.4, nodes=2)
    reach = max_blur_radius(6.0, FOCUS, 0.5, 2.5, field=field)
    scene = layer_scene(image, dioptres, layers=9, max_radius=reach)
    stacks = []
    for widest in (0, 1000):
        monkeypatch.setattr(defocus, '_DIRECT_WIDTH', widest)
        stacks.append(render_stack(scene, 6.0, FOCUS, field=field))
    assert (stacks[0] - stacks[1]).abs().max() < 2e-5


def test_tilted_lens_is_in_focus_along_a_line():
    """s(x) = s0 (1 + c2 x): a flat wall is sharp where s(x) is its distance."""
    columns = torch.arange(161)
    texture = ((columns // 3) % 2).float().expand(3, 41, 161)
    scene = layer_scene(texture, torch.full((41, 161), 2.0), max_radius=14.0)
    field = FieldAberrations(tilt=0.4, nodes=9)
    # Half diagonals from the centre: the border lies at 0.968; x = 0.5 is column 121.
    image = render(scene, 14.0, 2.0 * (1.0 + 0.4 * 0.5), field=field)[0, 20]
    contrast = image.unfold(0, 12, 4).std(dim=1)
    assert abs(int(contrast.argmax()) * 4 + 6 - 121) <= 10
    assert contrast[0] < 0.3 * contrast.max()


def test_spherical_aberration_moves_the_focus():
    scene = steps_scene()
    moved = render_stack(scene, 5.0, FOCUS, aperture=Aperture(spherical=0.5, focus_shift=0.2))
    same = render_stack(scene, 5.0, FOCUS + 0.1, aperture=Aperture(spherical=0.5))
    assert torch.allclose(moved, same, atol=1e-6)


def test_curvature_is_relative_to_infinity():
    """A scale with infinity at -0.25 gives the same focus."""
    focus = torch.tensor([0.0, 0.5, 1.0])
    dioptres = FieldAberrations(curvature=0.1).focus(0.8 * (focus + 0.25), 0.3, 0.4) / 0.8 - 0.25
    position = FieldAberrations(curvature=0.1, infinity=-0.25).focus(focus, 0.3, 0.4)
    assert torch.allclose(dioptres, position)


def test_max_blur_radius_is_sufficient_for_rendering():
    focus = torch.tensor([0.4, 3.2])
    lens = Aperture(spherical=-0.5, focus_shift=0.4, chromatic=-0.05)
    field = FieldAberrations(curvature=0.1, tilt=-0.2, tilt_direction=2.0)
    needed = max_blur_radius(5.0, focus, 0.5, 3.0, aperture=lens, field=field)
    assert max_blur_radius(5.0, focus, 0.5, 3.0) == pytest.approx(0.5 * 5.0 * 2.7)
    assert needed > 0.5 * 5.0 * 2.7
    scene = steps_scene(needed)
    assert torch.isfinite(render_stack(scene, 5.0, focus, aperture=lens, field=field)).all()


def test_excessive_blur_at_the_border_raises():
    scene = layer_scene(torch.rand(3, 32, 32), torch.full((32, 32), 1.0), max_radius=5.0)
    with pytest.raises(ValueError, match=r'max_radius=5\.0'):
        render(scene, 10.0, 2.0, field=FieldAberrations(tilt=0.3))
    with pytest.raises(ValueError, match=r'max_radius=5\.0'):
        render(scene, 10.0, 2.0, aperture=Aperture(chromatic=0.1))


@pytest.mark.parametrize(
    ('make', 'words'),
    [
        (lambda: Aperture(spherical=1.2), 'spherical'),
        (lambda: Aperture('gaussian', spherical=0.2), 'gaussian'),
        (lambda: Aperture(chromatic=0.7), 'chromatic'),
        (lambda: Aperture(focus_shift=float('nan')), 'focus shift'),
        (lambda: FieldAberrations(cat_eye=1.0), 'cat_eye'),
        (lambda: FieldAberrations(cat_eye_radius=0.1), 'cat_eye_radius'),
        (lambda: FieldAberrations(curvature=0.4, tilt=0.4), 'half'),
        (lambda: FieldAberrations(nodes=1), 'nodes'),
        (lambda: FieldAberrations(astigmatism=1.0), 'astigmatism'),
        (
            lambda: blur_kernels(torch.tensor([3.0]), Aperture('gaussian'), off_axis=STOP),
            'gaussian',
        ),
    ],
)
def test_invalid_aberrations_raise(make, words):
    with pytest.raises(ValueError, match=words):
        make()


def test_random_lenses_render_within_their_max_radius():
    fields = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        capture = draw_capture(rng, RenderSettings(planes=3, asymmetry=1.0), 64)
        fields += capture.field is not None
        assert not capture.is_uniform or capture.aperture.spherical != 0.0
        if seed < 5:
            generator = torch.Generator().manual_seed(seed)
            image = torch.rand(3, 40, 40, generator=generator)
            depth = torch.linspace(0.0, 1.0, 40).expand(40, 40).contiguous()
            reach = capture.max_radius(0.0, 1.0)
            scene = layer_scene(image, depth, layers=5, max_radius=reach)
            stack = render_stack(
                scene,
                capture.kappa,
                torch.from_numpy(capture.focus),
                aperture=capture.aperture,
                field=capture.field,
            )
            assert torch.isfinite(stack).all()
    assert 5 < fields < 25
