# SPDX-License-Identifier: Apache-2.0
"""Layered defocus renderer with occlusion, for an image with known depth.

The scene is sliced uniformly in dioptres (:mod:`dualfocus_ros.simulation.depth_layers`). Each
slice has one point spread function per focus distance, or several where the spot varies over the
image (:mod:`dualfocus_ros.simulation.aberrations`). Colour is linear light.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from scipy.fft import next_fast_len
import torch
from torch.nn import functional

from dualfocus_ros.simulation.aberrations import FieldAberrations, FieldTile, field_tiles
from dualfocus_ros.simulation.depth_layers import Layer, LayeredScene, layer_scene
from dualfocus_ros.simulation.psf import Aperture, OffAxis, blur_kernels

__all__ = ['LayeredScene', 'layer_scene', 'max_blur_radius', 'render', 'render_stack']

_TINY = 1e-12
# Below this kernel width a direct convolution is faster than Fourier transforms on a CPU.
_DIRECT_WIDTH = 11


def _coc_radius(kappa: torch.Tensor, focus: torch.Tensor, depth: float) -> torch.Tensor:
    """Return (N,) signed radii, kappa / 2 * (1/s - 1/d), of the circle of confusion in pixels."""
    return 0.5 * kappa * (focus - depth)


def max_blur_radius(
    kappa: float | torch.Tensor,
    focus_dioptres: torch.Tensor,
    farthest: float,
    nearest: float,
    *,
    aperture: Aperture | None = None,
    field: FieldAberrations | None = None,
) -> float:
    """Return the largest blur radius of a stack in pixels, ``max_radius`` of ``layer_scene``.

    :param farthest: smallest inverse depth of the scene in 1/m; ``nearest``: the largest.
    """
    focus = torch.as_tensor(focus_dioptres, dtype=torch.float32).reshape(-1).cpu()
    kappas = torch.as_tensor(kappa, dtype=torch.float32).cpu().expand(focus.shape)
    aperture = aperture or Aperture()
    focus = focus + aperture.focus_shift * aperture.spherical
    settings = [focus] if field is None else list(field.focus_range(focus))
    radii = torch.stack(
        [_coc_radius(kappas, at, depth) for at in settings for depth in (farthest, nearest)]
    )
    return float(radii.abs().max()) * (1.0 + abs(aperture.chromatic))


def render(
    scene: LayeredScene,
    kappa: float,
    focus_dioptres: float,
    *,
    aperture: Aperture | None = None,
    field: FieldAberrations | None = None,
) -> torch.Tensor:
    """Return one plane, (3, H, W) linear light; see :func:`render_stack`."""
    focus = torch.tensor([float(focus_dioptres)])
    return render_stack(scene, kappa, focus, aperture=aperture, field=field)[0]


def render_stack(
    scene: LayeredScene,
    kappa: float | torch.Tensor,
    focus_dioptres: torch.Tensor,
    *,
    aperture: Aperture | None = None,
    field: FieldAberrations | None = None,
) -> torch.Tensor:
    """Return the scene rendered at several focus distances.

    :param kappa: circle-of-confusion diameter in pixels per dioptre: one value or (N,).
    :param focus_dioptres: (N,) focus of each plane in 1/m.
    :param aperture: shape of the blur spot; a disc by default.
    :param field: variation of spot and focus over the image; none by default.
    :returns: (N, 3, H, W) linear light on the scene's device.
    :raises ValueError: for a blur radius above the scene's ``max_radius``, or for a Gaussian
        aperture with a cat's eye.
    """
    aperture = aperture or Aperture()
    focus = torch.as_tensor(focus_dioptres, dtype=torch.float32, device='cpu').reshape(-1)
    kappas = torch.as_tensor(kappa, dtype=torch.float32, device='cpu').expand(focus.shape)
    focus = focus + aperture.focus_shift * aperture.spherical
    device = scene.layers[0].planes.device
    regions = [_Region(focus)]
    if field is not None and not field.is_uniform:
        regions = [
            _Region(field.focus(focus, tile.x, tile.y), tile, field.off_axis(tile.x, tile.y))
            for tile in field_tiles(field.nodes, scene.height, scene.width, device)
        ]
    groups = _PER_CHANNEL if aperture.chromatic else _ALL_CHANNELS
    count, height, width = len(focus), scene.height, scene.width
    images = torch.zeros((count, 3, height, width), device=device)
    transmittance = torch.ones((count, len(groups), height, width), device=device)
    for layer in scene.layers:
        for index, (channels, sign) in enumerate(groups):
            part = layer.colour(channels) if aperture.chromatic else layer
            radii = torch.stack([_coc_radius(kappas, p.focus, layer.dioptres) for p in regions])
            if sign:
                radii = radii + sign * aperture.chromatic * radii.abs()
            largest = float(radii.abs().max())
            if largest > scene.max_radius + 1e-3:
                raise ValueError(
                    f'a layer at {layer.dioptres:.3f} dioptres needs a blur radius of '
                    f'{largest:.1f} px, but the scene was layered with '
                    f'max_radius={scene.max_radius:.1f}'
                )
            group_transmittance = transmittance[:, index : index + 1]
            for planes in _by_kernel_size(radii, aperture, device):
                chosen = torch.tensor(planes, device=device)
                blurred, rows, columns = _blur(scene, part, radii[:, planes], regions, aperture)
                free = group_transmittance[chosen, :, rows, columns]
                coverage = blurred[:, -1:].clamp_min(0.0)
                # Slices of one surface share its edge: their coverages add, up to 1. The usual
                # product of 1 - coverage, right for unrelated edges, would widen soft slices.
                alpha = torch.minimum(coverage, free)
                gain = alpha / coverage.clamp_min(_TINY)
                images[chosen, channels, rows, columns] += gain * blurred[:, :-1]
                group_transmittance[chosen, :, rows, columns] = free - alpha
    return images / (1.0 - transmittance).clamp_min(_TINY)


# Channels with a common spot, and the sign of the change of its radius by ``chromatic``.
_ALL_CHANNELS = ((slice(0, 3), 0.0),)
_PER_CHANNEL = ((slice(0, 1), 1.0), (slice(1, 2), 0.0), (slice(2, 3), -1.0))


@dataclass(frozen=True, eq=False)
class _Region:
    """Part of the image with one spot per plane: a tile, or the whole image."""

    focus: torch.Tensor  # (N,) focus of each plane in 1/m
    tile: FieldTile | None = None
    off_axis: OffAxis | None = None


def _by_kernel_size(
    radii: torch.Tensor, aperture: Aperture, device: torch.device
) -> list[list[int]]:
    """Group planes, radii (P, N), for blurring; on a CPU, large kernels are separate."""
    if device.type != 'cpu':
        return [list(range(radii.shape[1]))]
    groups: dict[int, list[int]] = {}
    for plane, radius in enumerate(radii.abs().amax(dim=0).tolist()):
        width = 2 * aperture.half_size(radius) + 1
        groups.setdefault(min(width, _DIRECT_WIDTH + 2), []).append(plane)
    return list(groups.values())


def _blur(
    scene: LayeredScene,
    layer: Layer,
    radii: torch.Tensor,
    regions: Sequence[_Region],
    aperture: Aperture,
) -> tuple[torch.Tensor, slice, slice]:
    """Return the layer blurred by radii (P, N), (N, C, h, w), and its rows and columns."""
    device = layer.planes.device
    half = aperture.half_size(float(radii.abs().max()))
    window = _blurred_window(scene, layer, half)
    if regions[0].tile is None:
        kernels = blur_kernels(radii[0].to(device), aperture, half)
        # Lengths for the largest spot of the scene: all planes share one transform.
        largest = max(half, aperture.half_size(scene.max_radius))
        shape = _transform_shape(layer, _blurred_window(scene, layer, largest), largest)
        blurred = _convolve(layer, kernels, window, shape)
    else:
        (top, bottom), (left, right) = window
        size = (radii.shape[1], len(layer.planes), bottom - top, right - left)
        blurred = torch.zeros(size, device=device)
        for region, at in zip(regions, radii):
            assert region.tile is not None
            pad, rows, columns = scene.pad, region.tile.rows, region.tile.columns
            tile = (rows.start + pad, rows.stop + pad), (columns.start + pad, columns.stop + pad)
            # Spots may be smaller in this tile than in others.
            half = aperture.half_size(float(at.abs().max()))
            shared = _intersection(_blurred_window(scene, layer, half), tile)
            source = layer.crop(*((first - half, last + half) for first, last in shared))
            if not source.planes.numel():
                continue
            kernels = blur_kernels(at.to(device), aperture, half, off_axis=region.off_axis)
            piece = _convolve(source, kernels, shared, _transform_shape(source, shared, half))
            weight = region.tile.weight[_slices(shared, tile)]
            rows, columns = _slices(shared, window)
            blurred[..., rows, columns] += weight * piece
    rows, columns = _slices(window, ((scene.pad, 0), (scene.pad, 0)))
    return blurred, rows, columns


# (first row, end row), (first column, end column) in the padded frame.
_Window = tuple[tuple[int, int], tuple[int, int]]


def _blurred_window(scene: LayeredScene, layer: Layer, half: int) -> _Window:
    """Return the window of the image that is affected by a layer blurred by ``half`` pixels."""
    spans = []
    for start, length, size in (
        (layer.top, layer.planes.shape[1], scene.height),
        (layer.left, layer.planes.shape[2], scene.width),
    ):
        first = min(max(start - half, scene.pad), scene.pad + size)
        last = max(min(start + length + half, scene.pad + size), first)
        spans.append((first, last))
    return spans[0], spans[1]


def _intersection(one: _Window, other: _Window) -> _Window:
    """Return the intersection of two windows; spans with first = end are empty."""
    spans = []
    for (a, b), (c, d) in zip(one, other):
        first = max(a, c)
        spans.append((first, max(min(b, d), first)))
    return spans[0], spans[1]


def _slices(window: _Window, whole: _Window) -> tuple[slice, slice]:
    """Return the slices of ``window`` in an array that covers ``whole``."""
    (rows, columns), ((top, _), (left, _)) = window, whole
    return slice(rows[0] - top, rows[1] - top), slice(columns[0] - left, columns[1] - left)


def _transform_shape(layer: Layer, window: _Window, half: int) -> tuple[int, int]:
    """Return fast transform lengths that keep the window free of wrap-around."""
    lengths = []
    for start, length, span in zip((layer.top, layer.left), layer.planes.shape[1:], window):
        first, last = span[0] - start, span[1] - start
        needed = max(length, 2 * half + 1, last + half, length - first + half)
        lengths.append(int(next_fast_len(needed, real=True)))
    return lengths[0], lengths[1]


def _convolve(
    layer: Layer, kernels: torch.Tensor, window: _Window, shape: tuple[int, int]
) -> torch.Tensor:
    """Return the layer convolved with each kernel, (N, C, h, w), within a window."""
    y, x = (
        (first - start, last - start)
        for (first, last), start in zip(window, (layer.top, layer.left))
    )
    count, width, _ = kernels.shape
    half = width // 2
    if layer.planes.device.type != 'cpu' or width > _DIRECT_WIDTH:
        fill = (0, shape[1] - width, 0, shape[0] - width)
        centred = functional.pad(kernels, fill).roll((-half - y[0], -half - x[0]), dims=(1, 2))
        product = layer.spectrum(shape) * torch.fft.rfft2(centred)[:, None]
        # Two 1-D transforms: the second one only for the rows of the result.
        partial = torch.fft.ifft(product, dim=-2)[..., : y[1] - y[0], :]
        return torch.fft.irfft(partial, n=shape[1], dim=-1)[..., : x[1] - x[0]]
    channels, height_in, width_in = layer.planes.shape
    frame = (half - x[0], x[1] + half - width_in, half - y[0], y[1] + half - height_in)
    source = functional.pad(layer.planes, frame)
    weights = kernels.flip(1, 2).repeat_interleave(channels, dim=0)[:, None]
    result = functional.conv2d(source.repeat(count, 1, 1)[None], weights, groups=channels * count)
    return result.view(count, channels, y[1] - y[0], x[1] - x[0])
