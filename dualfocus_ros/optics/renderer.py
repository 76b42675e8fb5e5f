# SPDX-License-Identifier: Apache-2.0
"""Occlusion-aware defocus of an image with known depth, by layers of constant blur.

The scene is cut into layers uniform in dioptres, each with one point spread function per focus
distance. Where a nearer layer hides a layer, its colour is continued from what is visible around:
that is the background that shows through the blurred rim of a near object. Everything is in
linear light.
"""

from __future__ import annotations

from dataclasses import dataclass, field
import math

from scipy.fft import next_fast_len
import torch
from torch.nn import functional

from dualfocus_ros.optics.psf import Aperture, spot

_TINY = 1e-12
# Below this kernel width a direct convolution is faster than Fourier transforms on a CPU.
_DIRECT_WIDTH = 11


@dataclass(frozen=True, eq=False)
class Layer:
    """One slice of the scene, cropped to where it has content.

    :param dioptres: inverse depth of the slice.
    :param planes: (4, h, w) premultiplied linear RGB and coverage.
    :param top: row of the crop in the padded frame.
    :param left: column of the crop in the padded frame.
    """

    dioptres: float
    planes: torch.Tensor
    top: int
    left: int
    spectra: dict[tuple[int, int], torch.Tensor] = field(default_factory=dict, repr=False)

    def spectrum(self, shape: tuple[int, int]) -> torch.Tensor:
        """Return the real 2-D Fourier transform, zero-padded to ``shape``; computed once."""
        if shape not in self.spectra:
            self.spectra[shape] = torch.fft.rfft2(self.planes, s=shape)
        return self.spectra[shape]


@dataclass(frozen=True, eq=False)
class LayeredScene:
    """A scene ready for rendering: layers from near to far, with the frame padded by ``pad``."""

    layers: tuple[Layer, ...]
    height: int
    width: int
    pad: int
    max_radius: float


def layer_scene(
    image: torch.Tensor,
    dioptres: torch.Tensor,
    *,
    layers: int = 16,
    max_radius: float,
    soft: bool = True,
) -> LayeredScene:
    """Cut an image into layers of inverse depth, with hidden background filled in.

    :param image: (3, H, W) float, linear light.
    :param dioptres: (H, W) inverse depth in 1/m, finite, on the same device.
    :param layers: number of slices, uniform in dioptres over the range of ``dioptres``; empty
        ones cost nothing.
    :param max_radius: the largest circle-of-confusion radius in pixels that will be rendered.
    :param soft: share a pixel between the two slices around its depth, so that the blur of a
        slanted surface changes steadily; otherwise the nearest slice takes all of it.
    :raises ValueError: for wrong shapes, depth that is not finite or a bad layer count.
    """
    if image.ndim != 3 or image.shape[0] != 3 or image.shape[1:] != dioptres.shape:
        raise ValueError(
            'expected an image (3, H, W) and inverse depth (H, W), '
            f'got {tuple(image.shape)} and {tuple(dioptres.shape)}'
        )
    if layers < 1 or not (math.isfinite(max_radius) and max_radius >= 0.0):
        raise ValueError(f'need layers >= 1 and max_radius >= 0, got {layers} and {max_radius}')
    if not bool(torch.isfinite(dioptres).all()):
        raise ValueError('inverse depth has values that are not finite: fill holes first')
    height, width = dioptres.shape
    pad = math.ceil(max_radius) + 4
    mode = 'reflect' if pad < min(height, width) else 'replicate'
    stacked = torch.cat((image, dioptres[None])).to(torch.float32)
    padded = functional.pad(stacked[None], (pad, pad, pad, pad), mode=mode)[0]
    colour, inverse_depth = padded[:3], padded[3]

    nearest, farthest = float(dioptres.max()), float(dioptres.min())
    step = (nearest - farthest) / max(layers - 1, 1)
    if step * layers < 1e-6:
        step, position = 0.0, torch.zeros_like(inverse_depth)
    else:
        position = ((nearest - inverse_depth) / step).clamp(0.0, layers - 1.0)
    if not soft:
        position = position.round()
    reach = math.ceil(max_radius)
    found = []
    for index in range(layers):
        offset = position - index
        weight = (1.0 - offset.abs()).clamp_min(0.0)
        box = _bounding_box(weight > 0.0, reach)
        if box is None:
            continue
        rows, columns = box
        planes = _layer_planes(
            colour[:, rows, columns], weight[rows, columns], offset[rows, columns] <= -1.0, reach
        )
        found.append(Layer(nearest - index * step, planes, rows.start, columns.start))
    return LayeredScene(tuple(found), height, width, pad, max_radius)


def _bounding_box(mask: torch.Tensor, margin: int) -> tuple[slice, slice] | None:
    """Return the rows and columns that hold the mask and ``margin`` around it."""
    slices = []
    for axis in (1, 0):
        used = mask.any(dim=axis).nonzero()
        if not len(used):
            return None
        first, last = int(used[0]), int(used[-1])
        slices.append(slice(max(first - margin, 0), min(last + margin + 1, mask.shape[1 - axis])))
    return slices[0], slices[1]


def _layer_planes(
    colour: torch.Tensor, weight: torch.Tensor, hidden: torch.Tensor, reach: int
) -> torch.Tensor:
    """Return premultiplied colour and coverage, continued under nearer layers."""
    own = torch.cat((colour * weight, weight[None]))
    if reach < 1 or not bool(hidden.any()):
        return own
    visible = (~hidden).to(own.dtype)[None]
    sums = _box_sum(torch.cat((own, visible)), reach)
    # Half a pixel: sums of float differences leave traces where the box saw nothing.
    continued = torch.where(sums[4:] > 0.5, sums[:4] / sums[4:].clamp_min(0.5), 0.0)
    return torch.where(hidden, continued, own).contiguous()


def _box_sum(planes: torch.Tensor, reach: int) -> torch.Tensor:
    """Return sums over squares of 2 * reach + 1 pixels, cut off at the border."""
    for axis in (-1, -2):
        length = planes.shape[axis]
        total = functional.pad(planes.cumsum(axis), (1, 0) if axis == -1 else (0, 0, 1, 0))
        index = torch.arange(length, device=planes.device)
        last = (index + reach + 1).clamp_max(length)
        first = (index - reach).clamp_min(0)
        planes = total.index_select(axis, last) - total.index_select(axis, first)
    return planes


def coc_radius(
    kappa: torch.Tensor, focus_dioptres: torch.Tensor, depth_dioptres: float
) -> torch.Tensor:
    """Return (N,) signed radii of the circle of confusion in pixels.

    r = kappa / 2 * (1/s - 1/d): negative for points nearer than the focus.
    """
    return 0.5 * kappa * (focus_dioptres - depth_dioptres)


def render(
    scene: LayeredScene,
    kappa: float,
    focus_dioptres: float,
    *,
    aperture: Aperture | None = None,
) -> torch.Tensor:
    """Render one plane; see :func:`render_stack`. Returns (3, H, W) linear light."""
    focus = torch.tensor([float(focus_dioptres)])
    return render_stack(scene, kappa, focus, aperture=aperture)[0]


def render_stack(
    scene: LayeredScene,
    kappa: float | torch.Tensor,
    focus_dioptres: torch.Tensor,
    *,
    aperture: Aperture | None = None,
) -> torch.Tensor:
    """Render the scene at several focus distances.

    :param kappa: circle-of-confusion diameter in pixels per dioptre: one value or (N,).
    :param focus_dioptres: (N,) focus of each plane in 1/m.
    :param aperture: form of the blur spot; a disc by default.
    :returns: (N, 3, H, W) linear light on the scene's device.
    :raises ValueError: if a layer needs more blur than the scene was prepared for.
    """
    aperture = aperture or Aperture()
    focus = torch.as_tensor(focus_dioptres, dtype=torch.float32, device='cpu').reshape(-1)
    kappas = torch.as_tensor(kappa, dtype=torch.float32, device='cpu').expand(focus.shape)
    device = scene.layers[0].planes.device
    count, height, width = len(focus), scene.height, scene.width
    out = torch.zeros((count, 3, height, width), device=device)
    left = torch.ones((count, 1, height, width), device=device)
    for layer in scene.layers:
        radii = coc_radius(kappas, focus, layer.dioptres)
        largest = float(radii.abs().max())
        if largest > scene.max_radius + 1e-3:
            raise ValueError(
                f'a layer at {layer.dioptres:.3f} dioptres needs a blur radius of {largest:.1f} '
                f'px, but the scene was layered with max_radius={scene.max_radius:.1f}'
            )
        for planes in _by_kernel_size(radii, aperture, device):
            chosen = torch.tensor(planes, device=device)
            blurred, rows, columns = _blur(scene, layer, radii[planes], aperture)
            free = left[chosen, :, rows, columns]
            coverage = blurred[:, 3:].clamp_min(0.0)
            # Slices of one surface share its edge, so their coverages add up (up to 1); the
            # product 1 - a, right for unrelated edges, would widen soft-sliced objects.
            taken = torch.minimum(coverage, free)
            gain = taken / coverage.clamp_min(_TINY)
            out[chosen, :, rows, columns] += gain * blurred[:, :3]
            left[chosen, :, rows, columns] = free - taken
    return out / (1.0 - left).clamp_min(_TINY)


def _by_kernel_size(
    radii: torch.Tensor, aperture: Aperture, device: torch.device
) -> list[list[int]]:
    """Group planes that one call blurs: on a CPU small and large kernels go apart."""
    everything = list(range(len(radii)))
    if device.type != 'cpu':
        return [everything]
    groups: dict[int, list[int]] = {}
    for plane in everything:
        width = 2 * aperture.half_size(float(radii[plane])) + 1
        groups.setdefault(min(width, _DIRECT_WIDTH + 2), []).append(plane)
    return list(groups.values())


def _blur(
    scene: LayeredScene, layer: Layer, radii: torch.Tensor, aperture: Aperture
) -> tuple[torch.Tensor, slice, slice]:
    """Blur one layer; returns (N, 4, h, w) and the rows and columns of the image it covers."""
    half = aperture.half_size(float(radii.abs().max()))
    kernels = spot(radii.to(layer.planes.device), aperture, half)
    y, x = _spans(scene, layer, half)
    if layer.planes.device.type == 'cpu' and 2 * half + 1 <= _DIRECT_WIDTH:
        blurred = _convolve_direct(layer, kernels, y, x)
    else:
        # Lengths for the largest spot of the scene, so that one transform serves every plane.
        largest = max(half, aperture.half_size(scene.max_radius))
        shape = (
            _transform_length(layer.planes.shape[1], _spans(scene, layer, largest)[0], largest),
            _transform_length(layer.planes.shape[2], _spans(scene, layer, largest)[1], largest),
        )
        blurred = _convolve_fourier(layer, kernels, y, x, shape)
    top, left = layer.top - scene.pad, layer.left - scene.pad
    return blurred, slice(top + y[0], top + y[1]), slice(left + x[0], left + x[1])


def _spans(
    scene: LayeredScene, layer: Layer, half: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the rows and columns, counted from the crop, of the image that a spot reaches."""
    spans = []
    for start, length, size in (
        (layer.top, layer.planes.shape[1], scene.height),
        (layer.left, layer.planes.shape[2], scene.width),
    ):
        first = min(max(start - half, scene.pad), scene.pad + size)
        last = max(min(start + length + half, scene.pad + size), first)
        spans.append((first - start, last - start))
    return spans[0], spans[1]


def _transform_length(length: int, span: tuple[int, int], half: int) -> int:
    """Return a fast transform length for which no kept row or column is reached by wrap-around."""
    needed = max(length, 2 * half + 1, span[1] + half, length - span[0] + half)
    return int(next_fast_len(needed, real=True))


def _convolve_direct(
    layer: Layer, kernels: torch.Tensor, y: tuple[int, int], x: tuple[int, int]
) -> torch.Tensor:
    """Convolve by summation, for rows y and columns x counted from the crop."""
    count, width, _ = kernels.shape
    half = width // 2
    height_in, width_in = layer.planes.shape[1:]
    frame = (half - x[0], x[1] + half - width_in, half - y[0], y[1] + half - height_in)
    source = functional.pad(layer.planes, frame)
    weights = kernels.flip(1, 2).repeat_interleave(4, dim=0)[:, None]
    result = functional.conv2d(source.repeat(count, 1, 1)[None], weights, groups=4 * count)
    return result.view(count, 4, y[1] - y[0], x[1] - x[0])


def _convolve_fourier(
    layer: Layer,
    kernels: torch.Tensor,
    y: tuple[int, int],
    x: tuple[int, int],
    shape: tuple[int, int],
) -> torch.Tensor:
    """Convolve by real Fourier transforms, for rows y and columns x counted from the crop."""
    half = kernels.shape[1] // 2
    fill = (0, shape[1] - kernels.shape[2], 0, shape[0] - kernels.shape[1])
    centred = functional.pad(kernels, fill).roll((-half - y[0], -half - x[0]), dims=(1, 2))
    product = layer.spectrum(shape) * torch.fft.rfft2(centred)[:, None]
    # Two one-dimensional steps: rows that are not kept need no second transform.
    kept = torch.fft.ifft(product, dim=-2)[..., : y[1] - y[0], :]
    return torch.fft.irfft(kept, n=shape[1], dim=-1)[..., : x[1] - x[0]]
