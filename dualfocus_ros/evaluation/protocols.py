# SPDX-License-Identifier: Apache-2.0
"""Rendering protocols: focal stacks from RGB-D images, as published (A) and without leaks (B).

The focus list of protocol A reveals the depth range of the image; that of B is always the same.
"""

from __future__ import annotations

from dataclasses import dataclass
import itertools
from typing import Any
import zlib

import numpy as np
import torch

from dualfocus_ros.camera.srgb import decode_srgb8, encode_srgb8
from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.datasets.samples import Dataset, RgbdSample, Sample
from dualfocus_ros.evaluation.method_interface import Case, case_from_stack
from dualfocus_ros.exceptions import DataError
from dualfocus_ros.simulation.aberrations import FieldAberrations
from dualfocus_ros.simulation.defocus import layer_scene, max_blur_radius, render_stack
from dualfocus_ros.simulation.depth_resampling import fill_holes
from dualfocus_ros.simulation.psf import Aperture

GATHER_WINDOW = 7  # pixels, of the gather filter of protocol A
NYU_CROP = np.s_[48:432, 64:576]  # centre of 512x384 in images of 640x480


@dataclass(frozen=True)
class ProtocolA:
    """Stacks as published results on NYUv2 and ARKitScenes use them, for comparison only.

    Focus distances are linspace(min, max) of the ground truth of each image. Every pixel spreads
    by a Gaussian of standard deviation c / 2 within 7x7 pixels, in encoded values and without
    occlusion; images are not quantised.
    """

    planes: int = 5
    name: str = 'A'

    def describe(self, dataset: Dataset) -> str:
        """Return the settings in one line."""
        lens, crop = self._setup(dataset.kind)
        return (
            f'protocol A (as published, LEAKY: focus = linspace(min, max of the truth of each '
            f'image), {self.planes} planes, no linear light, 7x7 gather blur, '
            f'F {lens.focal_length * 1e3:g} mm f/{lens.f_number:g}, '
            f'{lens.pixel_pitch * 1e6:.2f} um{", centre crop 512x384" if crop else ""})'
        )

    def render(self, sample: RgbdSample, dataset: Dataset) -> Case:
        """Render the stack of a sample."""
        lens, crop = self._setup(dataset.kind)
        colour, depth = sample.colour, sample.depth
        if crop and depth.shape == (480, 640):
            colour, depth = colour[NYU_CROP], depth[NYU_CROP]
        known = depth[np.isfinite(depth)]
        if not known.size or known.min() == known.max():
            raise DataError(f'{sample.name}: protocol A needs truth of more than one depth')
        metres = np.linspace(float(known.min()), float(known.max()), self.planes)
        image = torch.from_numpy(colour.astype(np.float32) / 255.0).permute(2, 0, 1)
        holes_at_zero = torch.from_numpy(np.nan_to_num(depth).astype(np.float32))
        planes = [gather_blur(image, blur_radius(holes_at_zero, s, lens)) for s in metres]
        return Case(
            name=sample.name,
            images=torch.stack(planes).permute(0, 2, 3, 1).contiguous().numpy(),
            focus=1.0 / metres,
            truth=depth,
            # The published expectation is over metres.
            middle=float(1.0 / metres.mean()),
        )

    def _setup(self, kind: str) -> tuple[Lens, bool]:
        """Return the published lens of a data set, and whether to crop."""
        if kind == 'arkitscenes':
            return Lens(2.9e-3, 0.5, 3.1e-3 / 560), False
        return Lens(50e-3, 8.0, 12e-6), kind == 'nyu'


def blur_radius(depth: torch.Tensor, focus: float, lens: Lens) -> torch.Tensor:
    """Return the radius c in pixels of depth (H, W) in metres, 0 for holes, at focus in metres.

    c = CoC / (2 pitch) with CoC = (F/A) v |1/F - 1/v - 1/d|; very large at holes.
    """
    image_distance = lens.image_distance(1.0 / focus)
    inverse = 1.0 / depth.clamp_min(1e-8)
    defocus = (1.0 / lens.focal_length - 1.0 / image_distance - inverse).abs()
    aperture = lens.focal_length / lens.f_number
    return aperture * image_distance * defocus / (2.0 * lens.pixel_pitch)


def gather_blur(image: torch.Tensor, radius: torch.Tensor) -> torch.Tensor:
    """Blur (3, H, W) by the light that the neighbours within the window spread onto each pixel.

    out(x) = sum_y w I(y) / sum_y w with w = exp(-2 |x-y|^2 / c_y^2) / c_y^2 over the sources y
    with c_y > 1; where c_x <= 1 the pixel is unchanged.
    """
    half = GATHER_WINDOW // 2
    height, width = radius.shape
    spreads = radius > 1.0
    inverse = torch.where(spreads, radius.clamp_min(1.0) ** -2, 0.0)
    padded = torch.nn.functional.pad(torch.cat([image, inverse[None]]), (half,) * 4)
    total, weights = torch.zeros_like(image), torch.zeros_like(radius)
    for dy, dx in itertools.product(range(GATHER_WINDOW), repeat=2):
        source = padded[:, dy : dy + height, dx : dx + width]
        c2 = source[3]
        squared = (dy - half) ** 2 + (dx - half) ** 2
        weight = torch.exp(-2.0 * squared * c2) * c2
        weights += weight
        total += weight * source[:3]
    # Tiny weights (holes only) still divide exactly; without weight there is no blur.
    blurred = total / weights.clamp_min(1e-37)
    return torch.where(spreads & (weights > 0.0), blurred, image)


@dataclass(frozen=True)
class ProtocolB:
    """Stacks without a leak: focus list and lens do not depend on the ground truth.

    :param near: nearest focus in metres; the list is uniform in dioptres.
    :param far: farthest focus in metres.
    :param focal_length: metres, as ``sensor_width``.
    :param noise: standard deviation of shot and read noise at white, in linear light.
    :param aperture: shape of the point spread function; default that of an ideal lens.
    :param field: aberrations that vary over the image; default none.
    """

    planes: int = 10
    near: float = 0.5
    far: float = 10.0
    focal_length: float = 0.016
    f_number: float = 1.4
    sensor_width: float = 7.2e-3
    noise: float = 0.005
    layers: int = 24
    seed: int = 0
    aperture: Aperture | None = None
    field: FieldAberrations | None = None
    name: str = 'B'

    @property
    def focus(self) -> np.ndarray:
        """(planes,) focus in dioptres, from far to near."""
        return np.linspace(1.0 / self.far, 1.0 / self.near, self.planes)

    def describe(self, dataset: Dataset) -> str:
        """Return the settings in one line, with the aberrations that are not the defaults."""
        plain = vars(Aperture()) | vars(FieldAberrations())
        given = {
            n: v for part in (self.aperture, self.field) if part for n, v in vars(part).items()
        }
        aberrations = ''.join(f', {n} {v}' for n, v in given.items() if v != plain[n])
        return (
            f'protocol B (no leak: {self.planes} planes uniform in dioptres from {self.near:g} to '
            f'{self.far:g} m and one lens, {self.focal_length * 1e3:g} mm f/{self.f_number:g} on '
            f'{self.sensor_width * 1e3:g} mm, for all images; layered renderer in linear light, '
            f'noise {self.noise:g}, 8 bits{aberrations})'
        )

    def render(self, sample: RgbdSample, dataset: Dataset) -> Case:
        """Render the stack of a sample; holes take the depth of the nearest valid pixel."""
        width = sample.depth.shape[1]
        lens = Lens(self.focal_length, self.f_number, self.sensor_width / width)
        dioptres = 1.0 / fill_holes(sample.depth)
        kappa = torch.tensor([lens.kappa(float(q)) for q in self.focus])
        focus = torch.from_numpy(self.focus.astype(np.float32))
        aberrations: dict[str, Any] = {'aperture': self.aperture, 'field': self.field}
        low, high = float(dioptres.min()), float(dioptres.max())
        reach = max_blur_radius(kappa, focus, low, high, **aberrations)
        with torch.inference_mode():
            linear = torch.from_numpy(decode_srgb8(sample.colour)).permute(2, 0, 1).contiguous()
            scene = layer_scene(
                linear, torch.from_numpy(dioptres), layers=self.layers, max_radius=1.01 * reach
            )
            stack = render_stack(scene, kappa, focus, **aberrations).numpy()
        # Seed by sample name: independent of --limit and of the order of data sets.
        rng = np.random.default_rng([self.seed, zlib.crc32(sample.name.encode())])
        white = rng.standard_normal(stack.shape, dtype=np.float32)
        stack = stack + self.noise * white * np.sqrt(np.maximum(stack, 0.0) + 0.02)
        return Case(
            name=sample.name,
            images=encode_srgb8(stack.transpose(0, 2, 3, 1)),
            focus=self.focus,
            truth=sample.depth,
            middle=float(self.focus.mean()),
        )


StackProtocol = ProtocolA | ProtocolB


def make_protocol(name: str, planes: int = 0, seed: int = 0) -> StackProtocol:
    """Return protocol A or B with a number of planes (0: 5 for A, 10 for B).

    :raises ValueError: for another name.
    """
    if name not in ('A', 'B'):
        raise ValueError(f"protocol must be A or B, got '{name}'")
    return ProtocolA(planes or 5) if name == 'A' else ProtocolB(planes or 10, seed=seed)


def make_case(sample: Sample, dataset: Dataset, protocol: StackProtocol, planes: int = 0) -> Case:
    """Return the case of a sample: the recorded stack, or one rendered by the protocol.

    :param planes: planes of a recorded stack to use, 0 for all.
    """
    if isinstance(sample, RgbdSample):
        return protocol.render(sample, dataset)
    return case_from_stack(sample, planes)
