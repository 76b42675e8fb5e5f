# SPDX-License-Identifier: Apache-2.0
"""Layered renderer against ray tracing through the aperture of a thin lens."""

from dataclasses import replace
import math

import numpy as np
import pytest
import torch

from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.simulation.defocus import layer_scene, render
from dualfocus_ros.simulation.psf import Aperture
from dualfocus_ros.simulation.ray_casting import cast_rays
from dualfocus_ros.simulation.scene_builder import SceneBuilder
from dualfocus_ros.simulation.scenes import table

LENS = Lens(0.016, 1.4, 4e-5)
RAYS = 40
BORDER = 6
# The reference has neither diffraction nor pixels of finite size.
SHARP = Aperture(softness=0.0)


def psnr(image, reference):
    white = np.percentile(reference, 97)
    error = np.clip(image / white, 0.0, 1.0) - np.clip(reference / white, 0.0, 1.0)
    return -10.0 * math.log10((error[:, BORDER:-BORDER, BORDER:-BORDER] ** 2).mean())


@pytest.mark.parametrize('focus', [2.2, 0.5])
def test_renderer_agrees_with_a_ray_traced_thin_lens(focus):
    """The reference is the mean of pinhole images from all over the aperture.

    Each one is sheared to the focal plane. No kernel, layer or kappa is involved.
    """
    fx = LENS.focal_length_px(focus)
    camera = PinholeCamera(96, 72, fx, fx, 47.5, 35.5)
    scene, pose = table(SceneBuilder(np.random.default_rng(5), camera))
    rotation = pose.rotation()
    total = np.zeros((3, 72, 96))
    for ray in range(RAYS):
        radius = 0.5 * LENS.focal_length / LENS.f_number * math.sqrt((ray + 0.5) / RAYS)
        angle = ray * 2.399963
        x, y = radius * math.cos(angle), radius * math.sin(angle)
        position = np.asarray(pose.position) + rotation @ [x, y, 0.0]
        sheared = replace(camera, cx=camera.cx + fx * x * focus, cy=camera.cy + fx * y * focus)
        total += cast_rays(scene, sheared, replace(pose, position=tuple(position))).colour
    reference = total / RAYS

    pinhole = cast_rays(scene, camera, pose)
    inverse = torch.from_numpy(1.0 / pinhole.depth)
    kappa = LENS.kappa(focus)
    reach = 0.5 * kappa * float((inverse - focus).abs().max()) + 0.1
    layered = layer_scene(torch.from_numpy(pinhole.colour), inverse, max_radius=reach)
    rendered = render(layered, kappa, focus, aperture=SHARP).numpy()
    assert psnr(rendered, reference) > 31.0
    assert psnr(rendered, reference) > psnr(pinhole.colour, reference) + 5.0
    for wrong in (0.6, 1.5):
        scaled = layer_scene(torch.from_numpy(pinhole.colour), inverse, max_radius=wrong * reach)
        other = render(scaled, wrong * kappa, focus, aperture=SHARP).numpy()
        assert psnr(other, reference) < psnr(rendered, reference) - 1.0
