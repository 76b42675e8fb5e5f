# SPDX-License-Identifier: Apache-2.0
"""Stacks rendered on the training device: the renderer's images, the CPU's ranges, exact truth."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from dualfocus_ros.datasets.rgbd_crops import random_rgbd_crop
from dualfocus_ros.datasets.samples import RgbdSample
from dualfocus_ros.models.focus_measure import log_focus_measures
from dualfocus_ros.simulation.defocus import layer_scene, render_stack
from dualfocus_ros.simulation.psf import Aperture
from dualfocus_ros.simulation.random_stacks.batch_defocus import render_batch
from dualfocus_ros.simulation.random_stacks.batch_scenes import random_scene_batch
from dualfocus_ros.simulation.random_stacks.batch_textures import BatchTextures
from dualfocus_ros.simulation.random_stacks.random_scenes import random_scene
from dualfocus_ros.simulation.random_stacks.random_textures import TextureSource
from dualfocus_ros.simulation.random_stacks.stack_renderer import RenderSettings, draw_capture
from dualfocus_ros.training.batch_sources import GeneratedSource
from dualfocus_ros.training.stack_generator import StackGenerator
from dualfocus_ros.training.training_config import BatchConfig

CPU = torch.device('cpu')
SETTINGS = RenderSettings(planes=4, blur_range=(3.0, 8.0), layers=6)
SIZE = 64


def photograph():
    """Something with detail of a known colour range."""
    rng = np.random.default_rng(3)
    return rng.integers(40, 200, (90, 120, 3), dtype=np.uint8)


def view(holes=False):
    """A slanted floor with a box in front, 100 x 140 pixels."""
    depth = np.linspace(3.0, 1.0, 100, dtype=np.float32)[:, None].repeat(140, axis=1)
    depth[30:70, 50:90] = 0.8
    if holes:
        depth[:, :30] = np.nan
    colour = np.random.default_rng(4).integers(0, 255, (100, 140, 3), dtype=np.uint8)
    return RgbdSample('view', colour, depth)


def generator(**changes):
    return StackGenerator(replace(SETTINGS, **changes), SIZE, CPU, textures=[photograph()])


def composed(seed, count):
    rng, noise = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    return random_scene_batch(rng, noise, BatchTextures([photograph()], CPU), count, SIZE)


@pytest.mark.parametrize(
    'aperture',
    [
        Aperture(),
        Aperture('gaussian', softness=0.3),
        Aperture('polygon', blades=5, rotation=0.4),
        Aperture(spherical=0.6, focus_shift=0.1),
    ],
)
def test_the_batch_renderer_makes_the_images_of_the_renderer(aperture):
    colour, position = composed(1, 2)
    kappa, focus = np.array([5.0, 9.0]), np.array([[-0.2, 0.3, 1.1], [0.0, 0.6, 1.0]])
    # The second lens blurs more, so that the first one is rendered with larger margins than alone.
    radii = np.array([0.5 * 5.0 * 1.5, 0.5 * 9.0 * 1.5])
    plain = Aperture()
    both = render_batch(
        colour, position, kappa, focus, [aperture, plain], radii, layers=SETTINGS.layers
    )
    for index, lens in enumerate((aperture, plain)):
        scene = layer_scene(
            colour[index], position[index], layers=SETTINGS.layers, max_radius=radii[index]
        )
        alone = render_stack(scene, kappa[index], torch.tensor(focus[index]), aperture=lens)
        # The border shows what lies outside of the image, where the margins differ.
        inner = (slice(None), slice(None), slice(10, -10), slice(10, -10))
        assert float((both[index][inner] - alone[inner]).abs().max()) < 2e-3
        assert float((both[index] - alone).abs().mean()) < 2e-3


def test_chromatic_lenses_are_refused_by_the_batch_renderer():
    colour, position = composed(1, 1)
    with pytest.raises(ValueError, match='use render_stack'):
        render_batch(
            colour,
            position,
            np.ones(1),
            np.zeros((1, 2)),
            [Aperture(chromatic=0.1)],
            np.ones(1),
            layers=4,
        )


def test_flat_scenes_and_constant_images_stay_what_they_are():
    colour = torch.full((1, 3, 32, 32), 0.4)
    position = torch.full((1, 32, 32), 0.5)
    images = render_batch(
        colour,
        position,
        np.array([6.0]),
        np.array([[0.0, 0.5, 1.0]]),
        [Aperture()],
        np.array([3.0]),
        layers=5,
    )
    assert torch.allclose(images, torch.full_like(images, 0.4), atol=1e-5)


def test_scenes_have_the_ranges_of_those_of_the_cpu():
    colour, position = composed(0, 48)
    assert colour.shape == (48, 3, SIZE, SIZE) and position.shape == (48, SIZE, SIZE)
    assert colour.min() >= 0.0 and colour.max() <= 1.0
    assert position.min() >= -0.1 and position.max() <= 1.1
    textures = TextureSource([])
    textures.images.append(photograph())
    scenes = [random_scene(np.random.default_rng(i), textures, SIZE) for i in range(48)]
    there = torch.from_numpy(np.stack([scene.position for scene in scenes]))
    pixels = torch.from_numpy(np.stack([scene.colour for scene in scenes])).permute(0, 3, 1, 2)
    # Two samples of one distribution: means and spreads agree to within their scatter.
    assert float(position.mean()) == pytest.approx(float(there.mean()), abs=0.08)
    assert float(position.std()) == pytest.approx(float(there.std()), abs=0.06)
    assert float(colour.mean()) == pytest.approx(float(pixels.mean()), abs=0.1)
    assert _detail(colour) == pytest.approx(_detail(pixels), rel=0.25)
    # Edges in depth: as many shapes, of the same sizes.
    assert _edges(position) == pytest.approx(_edges(there), rel=0.3)


def _detail(colour):
    return float(colour.diff(dim=-1).abs().mean())


def _edges(position):
    return float((position.diff(dim=-1).abs() > 0.1).float().mean())


def test_textures_are_photographs_noise_and_patterns():
    photo, rng = photograph(), np.random.default_rng(0)
    textures = BatchTextures([photo], CPU)
    patches = textures.draw(rng, torch.Generator().manual_seed(0), 64, 48)
    assert patches.shape == (64, 3, 48, 48)
    assert patches.min() >= 0.0 and patches.max() <= 1.0
    contrast = patches.std(dim=(1, 2, 3))
    # One in eight is nearly blank, none is entirely.
    assert 1 <= int((contrast < 0.04).sum()) <= 32 and (contrast > 0.0).all()
    blank = BatchTextures([photo], CPU, blank=1.0)
    assert float(blank.draw(rng, torch.Generator(), 16, 48).std(dim=(2, 3)).max()) < 0.02
    # The patterns have two colours.
    levels = [len(patch[0].mul(100).round().unique()) for patch in patches]
    assert min(levels) < 45 < max(levels)


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
def test_what_lies_at_a_plane_is_sharpest_in_it(asymmetry):
    """The peak of a focus measure over planes agrees with the truth."""
    settings = {'blur_range': (12.0, 12.1), 'max_noise': 0.0, 'max_shift': 0.0, 'wide_sweeps': 0.0}
    made = generator(planes=5, asymmetry=asymmetry, **settings)
    agree, count = 0, 0
    for stack in made.render(np.random.default_rng(11), 3):
        focus = torch.from_numpy(stack.focus)
        measures = log_focus_measures(stack.images.float() / 255.0)[:, :1]
        smooth = torch.nn.functional.avg_pool2d(measures, 7, 1, 3)[:, 0]
        nearest = (stack.truth[None] - focus[:, None, None]).abs().argmin(dim=0)
        # Where there is texture, and away from depth edges, where two depths are in one window.
        textured = smooth.amax(dim=0) - smooth.amin(dim=0) > 0.5 * float(smooth.std())
        extent = torch.nn.functional.max_pool2d(stack.truth[None], 11, 1, 5)[0]
        flat = extent + torch.nn.functional.max_pool2d(-stack.truth[None], 11, 1, 5)[0] < 0.05
        chosen = textured & flat
        agree += int(((smooth.argmax(dim=0) - nearest).abs() <= 1)[chosen].sum())
        count += int(chosen.sum())
    assert count > 500 and agree / count > 0.9


def test_views_become_scenes_with_their_holes_left_out():
    settings = {'rgbd': 1.0, 'max_noise': 0.0}
    made = StackGenerator(replace(SETTINGS, **settings), SIZE, CPU, rgbd=[view(holes=True)])
    stacks = made.render(np.random.default_rng(0), 6)
    unknown = [float(torch.isnan(stack.truth).float().mean()) for stack in stacks]
    assert max(unknown) > 0.05 and max(unknown) <= 0.4
    known = torch.cat([stack.truth[torch.isfinite(stack.truth)] for stack in stacks])
    assert known.min() >= -0.1 and known.max() <= 1.1


def test_the_nearest_part_of_a_view_is_at_one():
    for seed in range(5):
        scene = random_rgbd_crop(np.random.default_rng(seed), view(), 80)
        assert scene.known is None and scene.position.shape == (80, 80)
        # The box is nearest; the floor behind it is at least as far as 1 m.
        assert scene.position.max() == pytest.approx(1.0, abs=0.02)
        assert np.isfinite(scene.position).all() and scene.colour.max() <= 1.0


def test_views_smaller_than_the_scene_are_enlarged():
    assert random_rgbd_crop(np.random.default_rng(0), view(), 128).colour.shape == (128, 128, 3)


def test_lenses_are_asymmetric_only_where_asked():
    rng = np.random.default_rng(0)
    plain = [draw_capture(rng, SETTINGS, SIZE) for _ in range(40)]
    assert all(c.is_uniform and c.aperture.spherical == 0.0 for c in plain)
    mixed = [draw_capture(rng, replace(SETTINGS, asymmetry=0.5), SIZE) for _ in range(80)]
    bent = [c for c in mixed if c.aperture.spherical]
    assert 25 <= len(bent) <= 55
    assert any(c.field is not None for c in bent) and any(c.aperture.chromatic for c in bent)


def test_generated_batches_follow_from_seed_process_and_step():
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


def test_stacks_are_rendered_once_and_replaced_after_their_time():
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
    # Three groups to begin with, and one more every second step.
    assert rendered == [2] * 5


class Operations(TorchDispatchMode):
    """Counts the operations on tensors, and those whose result the host would wait for."""

    def __init__(self):
        super().__init__()
        self.count, self.waits = 0, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        name = str(function)
        if any(part in name for part in ('_local_scalar_dense', 'nonzero', 'masked_select')):
            self.waits.append(name)
        return function(*args, **(kwargs or {}))


def test_the_host_waits_for_nothing_that_the_device_computes():
    made = StackGenerator(
        SETTINGS, SIZE, CPU, textures=[photograph()], indoor=[view()], rgbd=[view(holes=True)]
    )
    source = GeneratedSource(made, BatchConfig(8, 48, (3, 4)), 1, 0, reuse=2, groups=1)
    with Operations() as operations:
        source.batch(0)
    assert operations.waits == []
    assert operations.count > 100
    print(f'{operations.count} operations for 8 stacks and a batch')


def test_sweeps_are_ascending_even_or_not():
    rng = np.random.default_rng(3)
    for planes in (2, 5, 20):
        for uneven in (0.0, 1.0):
            settings = replace(SETTINGS, planes=planes, uneven_sweeps=uneven)
            sweeps = [draw_capture(rng, settings, SIZE).focus for _ in range(200)]
            assert all((np.diff(sweep) > 0.0).all() for sweep in sweeps)
            steps = [np.diff(sweep) for sweep in sweeps if planes > 2]
            ratios = [step.max() / step.min() for step in steps]
            if planes == 5:
                assert (max(ratios) > 4.5) == bool(uneven)
