# SPDX-License-Identifier: Apache-2.0
"""Occlusion-aware defocus of an image with known depth, by layers of constant blur.

The scene is cut into layers uniform in dioptres (:mod:`dualfocus_ros.simulation.depth_layers`), each with
one point spread function per focus distance, or several where the spot changes over the image
(:mod:`dualfocus_ros.simulation.aberrations`). Everything is in linear light.
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

__all__ = ['LayeredScene', 'blur_reach', 'coc_radius', 'layer_scene', 'render', 'render_stack']

_TINY = 1e-12
# Below this kernel width a direct convolution is faster than Fourier transforms on a CPU.
_DIRECT_WIDTH = 11


def coc_radius(
    kappa: torch.Tensor, focus_dioptres: torch.Tensor, depth_dioptres: float
) -> torch.Tensor:
    """Return (N,) signed radii of the circle of confusion in pixels.

    r = kappa / 2 * (1/s - 1/d): negative for points nearer than the focus.
    """
    return 0.5 * kappa * (focus_dioptres - depth_dioptres)


def blur_reach(
    kappa: float | torch.Tensor,
    focus_dioptres: torch.Tensor,
    farthest: float,
    nearest: float,
    *,
    aperture: Aperture | None = None,
    field: FieldAberrations | None = None,
) -> float:
    """Return the ``max_radius`` in pixels that :func:`layer_scene` needs for such a stack.

    :param farthest: least inverse depth of the scene in 1/m.
    :param nearest: largest inverse depth of the scene.
    """
    focus = torch.as_tensor(focus_dioptres, dtype=torch.float32).reshape(-1).cpu()
    kappas = torch.as_tensor(kappa, dtype=torch.float32).cpu().expand(focus.shape)
    aperture = aperture or Aperture()
    focus = focus + aperture.focus_shift * aperture.spherical
    settings = [focus] if field is None else list(field.focus_range(focus))
    radii = torch.stack(
        [coc_radius(kappas, at, depth) for at in settings for depth in (farthest, nearest)]
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
    """Render one plane; see :func:`render_stack`. Returns (3, H, W) linear light."""
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
    """Render the scene at several focus distances.

    :param kappa: circle-of-confusion diameter in pixels per dioptre: one value or (N,).
    :param focus_dioptres: (N,) focus of each plane in 1/m.
    :param aperture: form of the blur spot; a disc by default.
    :param field: how the spot and the focus change over the image; by default they do not.
    :returns: (N, 3, H, W) linear light on the scene's device.
    :raises ValueError: if a layer needs more blur than the scene was prepared for, or for a
        Gaussian aperture with a cat's eye.
    """
    aperture = aperture or Aperture()
    focus = torch.as_tensor(focus_dioptres, dtype=torch.float32, device='cpu').reshape(-1)
    kappas = torch.as_tensor(kappa, dtype=torch.float32, device='cpu').expand(focus.shape)
    focus = focus + aperture.focus_shift * aperture.spherical
    device = scene.layers[0].planes.device
    places = _places(scene, focus, field, device)
    colours = _COLOURS if aperture.chromatic else _TOGETHER
    count, height, width = len(focus), scene.height, scene.width
    out = torch.zeros((count, 3, height, width), device=device)
    left = torch.ones((count, len(colours), height, width), device=device)
    for layer in scene.layers:
        for index, (channels, sign) in enumerate(colours):
            part = layer.colour(channels) if aperture.chromatic else layer
            radii = torch.stack([coc_radius(kappas, p.focus, layer.dioptres) for p in places])
            if sign:
                radii = radii + sign * aperture.chromatic * radii.abs()
            _check_reach(scene, layer, float(radii.abs().max()))
            free_of_colour = left[:, index : index + 1]
            for planes in _by_kernel_size(radii, aperture, device):
                chosen = torch.tensor(planes, device=device)
                blurred, rows, columns = _blur(scene, part, radii[:, planes], places, aperture)
                free = free_of_colour[chosen, :, rows, columns]
                coverage = blurred[:, -1:].clamp_min(0.0)
                # Slices of one surface share its edge, so their coverages add up (up to 1); the
                # product 1 - a, right for unrelated edges, would widen soft-sliced objects.
                taken = torch.minimum(coverage, free)
                gain = taken / coverage.clamp_min(_TINY)
                out[chosen, channels, rows, columns] += gain * blurred[:, :-1]
                free_of_colour[chosen, :, rows, columns] = free - taken
    return out / (1.0 - left).clamp_min(_TINY)


# Channels that share a spot, and how its size differs before and beyond the focus.
_TOGETHER = ((slice(0, 3), 0.0),)
_COLOURS = ((slice(0, 1), 1.0), (slice(1, 2), 0.0), (slice(2, 3), -1.0))


@dataclass(frozen=True, eq=False)
class _Place:
    """What of the image has one spot per plane: a tile, or all of it.

    :param focus: (N,) of each plane there, in 1/m.
    """

    focus: torch.Tensor
    tile: FieldTile | None = None
    off_axis: OffAxis | None = None


def _places(
    scene: LayeredScene,
    focus: torch.Tensor,
    field: FieldAberrations | None,
    device: torch.device,
) -> list[_Place]:
    if field is None or field.is_uniform:
        return [_Place(focus)]
    return [
        _Place(field.focus(focus, tile.x, tile.y), tile, field.off_axis(tile.x, tile.y))
        for tile in field_tiles(field.nodes, scene.height, scene.width, device)
    ]


def _check_reach(scene: LayeredScene, layer: Layer, largest: float) -> None:
    if largest > scene.max_radius + 1e-3:
        raise ValueError(
            f'a layer at {layer.dioptres:.3f} dioptres needs a blur radius of {largest:.1f} '
            f'px, but the scene was layered with max_radius={scene.max_radius:.1f}'
        )


def _by_kernel_size(
    radii: torch.Tensor, aperture: Aperture, device: torch.device
) -> list[list[int]]:
    """Group planes that one call blurs: on a CPU small and large kernels go apart.

    :param radii: (P, N) of each place and plane.
    """
    everything = list(range(radii.shape[1]))
    if device.type != 'cpu':
        return [everything]
    groups: dict[int, list[int]] = {}
    for plane, radius in enumerate(radii.abs().amax(dim=0).tolist()):
        width = 2 * aperture.half_size(radius) + 1
        groups.setdefault(min(width, _DIRECT_WIDTH + 2), []).append(plane)
    return list(groups.values())


def _blur(
    scene: LayeredScene,
    layer: Layer,
    radii: torch.Tensor,
    places: Sequence[_Place],
    aperture: Aperture,
) -> tuple[torch.Tensor, slice, slice]:
    """Blur one layer; returns (N, C, h, w) and the rows and columns of the image it covers.

    :param radii: (P, N) of each place and plane.
    """
    device = layer.planes.device
    half = aperture.half_size(float(radii.abs().max()))
    reached = _reached(scene, layer, half)
    if places[0].tile is None:
        kernels = blur_kernels(radii[0].to(device), aperture, half)
        # Lengths for the largest spot of the scene, so that one transform serves every plane.
        largest = max(half, aperture.half_size(scene.max_radius))
        shape = _transform_shape(layer, _reached(scene, layer, largest), largest)
        blurred = _convolve(layer, kernels, reached, shape)
    else:
        (top, bottom), (left, right) = reached
        size = (radii.shape[1], len(layer.planes), bottom - top, right - left)
        blurred = torch.zeros(size, device=device)
        for place, at in zip(places, radii):
            assert place.tile is not None
            tile = _of_frame(scene, place.tile)
            half = aperture.half_size(float(at.abs().max()))
            # Spots may reach less far here than elsewhere.
            shared = _intersection(_reached(scene, layer, half), tile)
            source = layer.crop(*((first - half, last + half) for first, last in shared))
            if not source.planes.numel():
                continue
            kernels = blur_kernels(at.to(device), aperture, half, off_axis=place.off_axis)
            piece = _convolve(source, kernels, shared, _transform_shape(source, shared, half))
            share = place.tile.weight[_inside(shared, tile)]
            rows, columns = _inside(shared, reached)
            blurred[..., rows, columns] += share * piece
    rows, columns = _inside(reached, ((scene.pad, 0), (scene.pad, 0)))
    return blurred, rows, columns


# First row and the one after the last, and the same of columns, in the padded frame.
_Window = tuple[tuple[int, int], tuple[int, int]]


def _reached(scene: LayeredScene, layer: Layer, half: int) -> _Window:
    """Return the part of the image that a layer's spots reach."""
    spans = []
    for start, length, size in (
        (layer.top, layer.planes.shape[1], scene.height),
        (layer.left, layer.planes.shape[2], scene.width),
    ):
        first = min(max(start - half, scene.pad), scene.pad + size)
        last = max(min(start + length + half, scene.pad + size), first)
        spans.append((first, last))
    return spans[0], spans[1]


def _of_frame(scene: LayeredScene, tile: FieldTile) -> _Window:
    pad, rows, columns = scene.pad, tile.rows, tile.columns
    return (rows.start + pad, rows.stop + pad), (columns.start + pad, columns.stop + pad)


def _intersection(one: _Window, other: _Window) -> _Window:
    """Return what both windows hold; its spans are empty (last = first) if there is nothing."""
    spans = []
    for (a, b), (c, d) in zip(one, other):
        first = max(a, c)
        spans.append((first, max(min(b, d), first)))
    return spans[0], spans[1]


def _inside(window: _Window, whole: _Window) -> tuple[slice, slice]:
    """Return the slices that cut ``window`` out of an array that holds ``whole``."""
    (rows, columns), ((top, _), (left, _)) = window, whole
    return slice(rows[0] - top, rows[1] - top), slice(columns[0] - left, columns[1] - left)


def _transform_shape(layer: Layer, window: _Window, half: int) -> tuple[int, int]:
    """Return fast transform lengths for which wrap-around reaches nothing of the window."""
    lengths = []
    for start, length, span in zip((layer.top, layer.left), layer.planes.shape[1:], window):
        first, last = span[0] - start, span[1] - start
        needed = max(length, 2 * half + 1, last + half, length - first + half)
        lengths.append(int(next_fast_len(needed, real=True)))
    return lengths[0], lengths[1]


def _convolve(
    layer: Layer, kernels: torch.Tensor, window: _Window, shape: tuple[int, int]
) -> torch.Tensor:
    """Return (N, C, h, w), the layer convolved with each kernel, within a window.

    :param shape: of the Fourier transforms, see :func:`_transform_shape`.
    """
    y, x = (
        (first - start, last - start)
        for (first, last), start in zip(window, (layer.top, layer.left))
    )
    if layer.planes.device.type == 'cpu' and kernels.shape[1] <= _DIRECT_WIDTH:
        return _convolve_direct(layer, kernels, y, x)
    return _convolve_fourier(layer, kernels, y, x, shape)


def _convolve_direct(
    layer: Layer, kernels: torch.Tensor, y: tuple[int, int], x: tuple[int, int]
) -> torch.Tensor:
    """Convolve by summation, for rows y and columns x counted from the crop."""
    count, width, _ = kernels.shape
    half = width // 2
    channels, height_in, width_in = layer.planes.shape
    frame = (half - x[0], x[1] + half - width_in, half - y[0], y[1] + half - height_in)
    source = functional.pad(layer.planes, frame)
    weights = kernels.flip(1, 2).repeat_interleave(channels, dim=0)[:, None]
    result = functional.conv2d(source.repeat(count, 1, 1)[None], weights, groups=channels * count)
    return result.view(count, channels, y[1] - y[0], x[1] - x[0])


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
