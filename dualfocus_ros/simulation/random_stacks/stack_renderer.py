# SPDX-License-Identifier: Apache-2.0
"""Focal stacks rendered for training, with random lens, sweep, sensor noise and misalignment."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch

from dualfocus_ros.camera.srgb import linear_to_srgb, srgb_to_linear
from dualfocus_ros.simulation.aberrations import FieldAberrations
from dualfocus_ros.simulation.defocus import layer_scene, render_stack
from dualfocus_ros.simulation.psf import Aperture
from dualfocus_ros.simulation.random_stacks.random_scenes import POSITION_RANGE, TrainingScene

# Largest blur of a stack, relative to the largest blur of a sweep that spans the scene.
MAX_RELATIVE_BLUR = 1.4
# Largest logarithm of the ratio of the last to the first step of an uneven sweep, and vice versa.
MAX_LOG_STEP_RATIO = 1.6


@dataclass(frozen=True)
class RenderSettings:
    """Distributions of scenes, lenses and sweeps.

    :param planes: planes rendered per stack; training draws subsets of them.
    :param blur_range: range of a log-uniform distribution of the diameter in pixels of the circle
        of confusion of the nearest point, for a lens focused at the farthest one: kappa times
        the depth range of the scene.
    :param layers: slices of the renderer.
    :param max_shift: largest misalignment in pixels.
    :param max_noise: largest noise level, see :func:`expose`.
    :param wide_sweeps: share of sweeps far beyond the scene's range, for each end; otherwise the
        ends of a sweep give away the depth of the background.
    :param uneven_sweeps: share of sweeps whose steps grow or shrink along the way, as steps of
        equal length in metres or in lens positions do.
    :param indoor: share of scenes that are procedural indoor views.
    :param rgbd: share of scenes that are images with measured depth, if there are any.
    :param asymmetry: share of lenses with different blur on both sides of the focus.
    :param textureless: share of random surfaces without any texture.
    """

    planes: int = 10
    blur_range: tuple[float, float] = (2.0, 34.0)
    layers: int = 14
    max_shift: float = 0.6
    max_noise: float = 0.02
    wide_sweeps: float = 0.5
    uneven_sweeps: float = 0.3
    indoor: float = 0.33
    rgbd: float = 0.25
    asymmetry: float = 0.0
    textureless: float = 0.0


@dataclass(frozen=True, eq=False)
class RenderedStack:
    """Stack with its truth, compact enough for thousands of them in memory.

    :param images: (N, H, W, 3) uint8 sRGB.
    :param focus: (N,) float32 focus of the planes, in the unit of ``position``.
    :param position: (H, W) float32 inverse depth; 0 to 1 spans the scene's range, NaN where
        unknown.
    """

    images: np.ndarray
    focus: np.ndarray
    position: np.ndarray


@dataclass(frozen=True, eq=False)
class CaptureParameters:
    """Lens, sweep, exposure, noise and misalignment of a stack.

    :param kappa: diameter of the circle of confusion in pixels per unit of position.
    :param focus: (N,) float32 focus, ascending.
    :param field: variation of the spot over the image; None for none.
    :param gain: (N, 1, 1, 1) exposure factor of each plane.
    :param noise: noise level, see :func:`expose`.
    :param warps: (N, 3) scale, and shifts in x and y in pixels, of each plane: residuals of an
        imperfect alignment; None: aligned.
    """

    kappa: float
    focus: np.ndarray
    aperture: Aperture
    field: FieldAberrations | None
    gain: np.ndarray
    noise: float
    noise_seed: int
    warps: np.ndarray | None

    @property
    def is_uniform(self) -> bool:
        """Whether the spot is the same all over the image and in all colours."""
        return self.field is None and self.aperture.chromatic == 0.0

    def max_radius(self, low: float, high: float) -> float:
        """Return the largest blur radius in pixels of a scene with positions low to high."""
        reach = max(_reach(self.focus, low, high), 1.3)
        return 0.5 * self.kappa * reach * (1.0 + abs(self.aperture.chromatic))


def _reach(focus: np.ndarray, low: float, high: float) -> float:
    return max(float(focus.max()) - low, high - float(focus.min()))


def draw_kind(rng: np.random.Generator, settings: RenderSettings, with_rgbd: bool) -> str:
    """Draw the source of a scene: ``rgbd`` (if available), ``indoor`` or ``shapes``."""
    if with_rgbd and rng.random() < settings.rgbd:
        return 'rgbd'
    return 'indoor' if rng.random() < settings.indoor else 'shapes'


def draw_capture(
    rng: np.random.Generator, settings: RenderSettings, width: int
) -> CaptureParameters:
    """Draw lens, sweep, exposure, noise and misalignment for images of ``width`` pixels."""
    low, high = settings.blur_range
    kappa = float(np.exp(rng.uniform(np.log(low), np.log(high))))
    focus = _random_sweep(rng, settings)
    # Limit the blur of wide sweeps through fast lenses to usable values.
    kappa = min(kappa, MAX_RELATIVE_BLUR * high / _reach(focus, *POSITION_RANGE))
    aperture = Aperture(
        shape=str(rng.choice(['disc', 'gaussian', 'polygon'], p=[0.6, 0.2, 0.2])),
        softness=rng.uniform(0.3, 0.8),
        blades=int(rng.integers(5, 9)),
        rotation=rng.uniform(0.0, np.pi),
    )
    field = None
    if settings.asymmetry and rng.random() < settings.asymmetry:
        aperture, field = _draw_asymmetry(rng, aperture)
    # The effective aperture, and so the exposure, differs slightly between planes.
    gain = 1.0 + 0.02 * rng.normal(size=(len(focus), 1, 1, 1))
    noise, seed = settings.max_noise * rng.random() ** 2, int(rng.integers(2**31))
    warps = None
    if rng.random() < 0.5:
        size = settings.max_shift * rng.random()
        warps = np.array(
            [(1 + rng.normal() * size / width, *(0.5 * size * rng.normal(size=2))) for _ in focus]
        )
    gain = gain.astype(np.float32)
    return CaptureParameters(kappa, focus, aperture, field, gain, noise, seed, warps)


def _draw_asymmetry(
    rng: np.random.Generator, aperture: Aperture
) -> tuple[Aperture, FieldAberrations | None]:
    """Draw spherical aberration, and often chromatic aberration and cat's eyes.

    Curvature and tilt of the field are excluded: they change the truth rather than the spot.
    """
    lens = replace(
        aperture,
        shape='disc' if aperture.shape == 'gaussian' else aperture.shape,
        spherical=rng.uniform(-0.8, 0.8),
        chromatic=rng.choice([0.0, 1.0]) * rng.uniform(-0.05, 0.05),
    )
    tau, radius = rng.uniform(0.0, 0.7), rng.uniform(0.8, 1.1)
    cat_eye = rng.random() < 0.5
    return lens, FieldAberrations(cat_eye=tau, cat_eye_radius=radius) if cat_eye else None


def render_training_stack(
    rng: np.random.Generator,
    source: Callable[[np.random.Generator], TrainingScene],
    settings: RenderSettings,
) -> RenderedStack:
    """Draw a scene, a lens and a sweep, and return the stack of the layered renderer."""
    scene = source(rng)
    capture = draw_capture(rng, settings, scene.position.shape[1])
    colour = torch.from_numpy(scene.colour).permute(2, 0, 1).contiguous()
    low, high = float(scene.position.min()), float(scene.position.max())
    with torch.inference_mode():
        layered = layer_scene(
            srgb_to_linear(colour),
            torch.from_numpy(scene.position),
            layers=settings.layers,
            max_radius=capture.max_radius(low, high),
        )
        focus = torch.from_numpy(capture.focus)
        linear = render_stack(
            layered, capture.kappa, focus, aperture=capture.aperture, field=capture.field
        )
        generator = torch.Generator().manual_seed(capture.noise_seed)
        white = torch.randn(linear.shape, generator=generator)
        images = expose(linear, torch.from_numpy(capture.gain), white * capture.noise)
    stack = (images.permute(0, 2, 3, 1).numpy() * 255.0 + 0.5).astype(np.uint8)
    if capture.warps is not None:
        stack = _misalign(stack, capture.warps)
    known = True if scene.known is None else scene.known
    return RenderedStack(stack, capture.focus, np.where(known, scene.position, np.float32('nan')))


def expose(linear: torch.Tensor, gain: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Return sRGB images in [0, 1] of linear light with gain, shot noise and read noise.

    :param noise: standard normal noise times the noise level, independent per plane.
    """
    noise = noise * torch.sqrt(linear.clamp_min(0.0) + 0.02)
    return linear_to_srgb((linear * gain + noise).clamp(0.0, 1.0))


def _random_sweep(rng: np.random.Generator, settings: RenderSettings) -> np.ndarray:
    """Return ascending focus positions with jitter, even or uneven, at least over the scene."""
    planes, wide = settings.planes, settings.wide_sweeps
    start = rng.uniform(-0.8 if wide and rng.random() < wide else -0.12, 0.05)
    stop = rng.uniform(0.95, 1.8 if wide and rng.random() < wide else 1.12)
    place = np.linspace(0.0, 1.0, planes)
    if rng.random() < settings.uneven_sweeps:
        growth = rng.uniform(-MAX_LOG_STEP_RATIO, MAX_LOG_STEP_RATIO)
        place = np.expm1(growth * place) / np.expm1(growth)
    step = np.gradient(place)
    jitter = rng.uniform(-0.3, 0.3, planes) * step * rng.choice([0.0, 1.0])
    return (start + (stop - start) * (place + jitter)).astype(np.float32)


def _misalign(stack: np.ndarray, warps: np.ndarray) -> np.ndarray:
    """Apply the residuals of an imperfect alignment: subpixel shift and scale."""
    height, width = stack.shape[1:3]
    method, border = cv2.INTER_CUBIC, cv2.BORDER_REFLECT
    planes = []
    for image, (scale, right, down) in zip(stack, warps, strict=True):
        x, y = right + 0.5 * width * (1.0 - scale), down + 0.5 * height * (1.0 - scale)
        warp = np.array([[scale, 0.0, x], [0.0, scale, y]])
        size = (width, height)
        planes.append(cv2.warpAffine(image, warp, size, flags=method, borderMode=border))
    return np.stack(planes)
