# SPDX-License-Identifier: Apache-2.0
"""``dualfocus optics``: what depth a lens can tell, before it is bought or built in."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
import json
import logging
import math
from pathlib import Path
from typing import Any

from dualfocus_ros.camera.depth_resolution import (
    BLUR_ERROR,
    MAX_RELATIVE_ERROR,
    depth_error,
    hyperfocal_distance,
    range_limit,
    sweep_planes,
)
from dualfocus_ros.camera.lens_presets import PRESETS, LensPreset
from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.cli import lens_arguments
from dualfocus_ros.cli.console import echo
from dualfocus_ros.exceptions import UsageError
from dualfocus_ros.focal_stack import MAX_PLANES
from dualfocus_ros.io.atomic_files import atomic_write

logger = logging.getLogger(__name__)

# Distances that people think in; those within the range are listed, with its ends.
_ROUND = (0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 50.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.epilog = (
        'kappa is the width of the circle of confusion in pixels per dioptre (1/m) of defocus: '
        'F^2 / (N p). An error of B pixels of blur is one of z^2 B / kappa metres at z metres. '
        'The default of B is what our network reaches on rendered scenes. Example: dualfocus '
        'optics --focal-length 16mm --f-number 1.4 --pixel-pitch 11.25um --range 0.5 5'
    )
    lens = parser.add_argument_group('the lens: a preset, three numbers, or kappa alone')
    names = '; '.join(f'{name}: {preset.title}' for name, preset in PRESETS.items())
    lens.add_argument('--preset', choices=[*PRESETS], metavar='NAME', help=names)
    lens_arguments.add_arguments(lens)
    lens.add_argument(
        '--kappa', type=float, metavar='PX', help='as measured, px of blur per dioptre'
    )
    parser.add_argument(
        '--range',
        nargs=2,
        type=lens_arguments.length,
        default=(0.5, 5.0),
        metavar=('NEAR', 'FAR'),
        help='metres; FAR may be inf (default: 0.5 5)',
    )
    parser.add_argument(
        '--blur-error',
        type=float,
        default=BLUR_ERROR,
        metavar='PX',
        help=f'error of a blur that is estimated, in pixels (default: {BLUR_ERROR:g})',
    )
    parser.add_argument(
        '--blur',
        type=float,
        default=2.0,
        metavar='PX',
        help='blur at most that a point has in its best plane of the sweep (default: 2)',
    )
    parser.add_argument(
        '--image-width',
        type=int,
        metavar='PX',
        help='of the images; tells by how much the lens breathes at their edge (default: the '
        "preset's)",
    )
    parser.add_argument('--json', action='store_true', help='print JSON instead of a table')
    parser.add_argument('--plot', type=Path, metavar='FILE.png', help='draw the error by distance')


def execute(arguments: argparse.Namespace) -> int:
    """Compute, print and, if asked, draw."""
    report = analyze_lens(arguments)
    if arguments.plot is not None:
        _plot(arguments.plot, report)
        logger.info('wrote %s', arguments.plot)
    echo(json.dumps(_as_json(report), indent=2) if arguments.json else _as_text(report))
    if len(report.planes) > MAX_PLANES:
        logger.warning(
            '%d planes are more than the %d of a stack: allow more --blur or a shorter --range',
            len(report.planes),
            MAX_PLANES,
        )
    return 0


@dataclass(frozen=True)
class LensReport:
    """What a lens can do over a range; lengths in metres, blur in pixels.

    :param errors: distance and expected error, near to far.
    :param planes: the suggested sweep in dioptres, from far to near.
    :param breathing: by how much the image at the near end is larger than at the far end; None
        where the focal length is not known.
    """

    title: str
    source: str
    kappa: float
    lens: Lens | None
    width: int | None
    near: float
    far: float
    blur_error: float
    blur: float
    errors: list[tuple[float, float]]
    hyperfocal: float
    limit: float
    planes: list[float]
    breathing: float | None


def analyze_lens(arguments: argparse.Namespace) -> LensReport:
    """Return what the lens of the arguments can do.

    :raises UsageError: where the lens or the range are none.
    """
    preset, lens, kappa = _lens(arguments)
    near, far = arguments.range
    for name in ('blur_error', 'blur'):
        value = getattr(arguments, name)
        if not (math.isfinite(value) and value > 0.0):
            raise UsageError(f'--{name.replace("_", "-")} must be above 0 pixels, got {value:g}')
    if arguments.image_width is not None and arguments.image_width < 1:
        raise UsageError(f'--image-width must be above 0 pixels, got {arguments.image_width}')
    try:
        planes = sweep_planes(near, far, kappa, arguments.blur)
    except ValueError as error:
        raise UsageError(f'--range: {error}') from None
    breathing = None
    if lens is not None:
        try:
            breathing = lens.magnification(planes[-1], planes[0]) - 1.0
        except ValueError as error:
            raise UsageError(f'--range: {error}') from None
    limit = range_limit(kappa, blur_error=arguments.blur_error)
    width = arguments.image_width or (None if preset is None else preset.width)
    distances = [z for z in _ROUND if near < z < far]
    if math.isfinite(far):
        distances.append(far)
    return LensReport(
        title=preset.title if preset is not None else _title(lens, kappa),
        source='' if preset is None else preset.source,
        kappa=kappa,
        lens=lens,
        width=width,
        near=near,
        far=far,
        blur_error=arguments.blur_error,
        blur=arguments.blur,
        errors=[(z, depth_error(z, kappa, arguments.blur_error)) for z in [near, *distances]],
        hyperfocal=hyperfocal_distance(kappa),
        limit=limit,
        planes=planes,
        breathing=breathing,
    )


def _lens(arguments: argparse.Namespace) -> tuple[LensPreset | None, Lens | None, float]:
    """Return preset, lens and kappa, each as far as it is known."""
    lens = lens_arguments.lens_from(arguments)
    ways = [arguments.preset is not None, lens is not None, arguments.kappa is not None]
    if sum(ways) != 1:
        raise UsageError(
            'give the lens in one way: --preset NAME, or --focal-length, --f-number and '
            '--pixel-pitch, or --kappa'
        )
    if arguments.kappa is not None:
        if not (math.isfinite(arguments.kappa) and arguments.kappa > 0.0):
            raise UsageError(f'--kappa must be above 0 px per dioptre, got {arguments.kappa:g}')
        return None, None, arguments.kappa
    if lens is not None:
        return None, lens, lens.kappa()
    preset = PRESETS[arguments.preset]
    # The sensor stays; an image of more pixels has more of them in its blur.
    pixels = arguments.image_width or preset.width
    pitch = preset.lens.pixel_pitch * preset.width / max(pixels, 1)
    lens = Lens(preset.lens.focal_length, preset.lens.f_number, pitch)
    return preset, lens, lens.kappa()


def _title(lens: Lens | None, kappa: float) -> str:
    if lens is None:
        return f'a lens of {kappa:g} px per dioptre'
    return (
        f'{lens.focal_length * 1e3:g} mm f/{lens.f_number:g} on pixels of '
        f'{lens.pixel_pitch * 1e6:.4g} um'
    )


def _as_json(report: LensReport) -> dict[str, Any]:
    lens = report.lens
    return {
        'lens': report.title,
        'source': report.source or None,
        'focal_length_m': None if lens is None else lens.focal_length,
        'f_number': None if lens is None else lens.f_number,
        'pixel_pitch_m': None if lens is None else lens.pixel_pitch,
        'image_width_px': report.width,
        'kappa_px_per_dioptre': report.kappa,
        'blur_error_px': report.blur_error,
        'sigma_dioptres': report.blur_error / report.kappa,
        'range_m': [report.near, report.far if math.isfinite(report.far) else None],
        'errors': [
            {'distance_m': z, 'error_m': error, 'share': error / z} for z, error in report.errors
        ],
        'range_limit_m': report.limit,
        'range_limit_share': MAX_RELATIVE_ERROR,
        'hyperfocal_m': report.hyperfocal,
        'blur_px': report.blur,
        'planes_dioptres': [round(q, 6) for q in report.planes],
        'breathing': report.breathing,
        'breathing_edge_px': _edge(report),
    }


def _edge(report: LensReport) -> float | None:
    """Return by how many pixels breathing moves the edge of the image."""
    if report.breathing is None or report.width is None:
        return None
    return 0.5 * report.width * report.breathing


def _as_text(report: LensReport) -> str:
    far = f'{report.far:g} m' if math.isfinite(report.far) else 'infinity'
    width = '' if report.width is None else f', images {report.width} px wide'
    lines = [f'{report.title}{width}' + (f' ({report.source})' if report.source else '')]
    lines += [
        f'  kappa          {report.kappa:8.3g} px of blur per dioptre',
        f'  range limit    {report.limit:8.3g} m: the expected error exceeds '
        f'{MAX_RELATIVE_ERROR:.0%} of the depth beyond',
        f'  hyperfocal     {report.hyperfocal:8.3g} m: focused there, blur stays within 1 px '
        f'from {0.5 * report.hyperfocal:.3g} m to infinity',
    ]
    if report.breathing is None:
        lines.append('  breathing      unknown: needs the focal length')
    else:
        edge = _edge(report)
        at = '' if edge is None else f', {edge:.1f} px at the edge of the image'
        lines.append(
            f'  breathing      {100 * report.breathing:8.3g} % from {far} to {report.near:g} m{at}'
        )
    lines += ['', f'  distance   expected error (for {report.blur_error:g} px of blur)']
    for z, error in report.errors:
        if error > z:
            lines.append(f'  {z:6.2f} m   more than the depth')
            continue
        mark = '  beyond the limit' if z > report.limit else ''
        lines.append(f'  {z:6.2f} m   {error:8.4f} m  {error / z:6.1%}{mark}')
    spacing = (report.planes[-1] - report.planes[0]) / (len(report.planes) - 1)
    lines += [
        '',
        f'  sweep from {far} to {report.near:g} m, blur in the best plane at most '
        f'{report.blur:g} px: {len(report.planes)} planes, {spacing:.4g} dioptres apart',
        '  [' + ', '.join(f'{q:.4g}' for q in report.planes) + ']',
    ]
    return '\n'.join(lines)


def _plot(path: Path, report: LensReport) -> None:
    """Draw expected error by distance on logarithmic axes, with the planes and the limit."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter
    import numpy as np

    far = report.far if math.isfinite(report.far) else max(4.0 * report.limit, 4.0 * report.near)
    distance = np.geomspace(report.near, far, 200)
    error = np.array([depth_error(z, report.kappa, report.blur_error) for z in distance])
    figure = Figure(figsize=(8, 5), dpi=120, layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.plot(distance, error, linewidth=2, label=f'for {report.blur_error:g} px of blur')
    seen = [1.0 / q for q in report.planes if q > 0.0 and 1.0 / q <= far * 1.001]
    at = [depth_error(z, report.kappa, report.blur_error) for z in seen]
    more = '' if len(seen) == len(report.planes) else ', one at infinity'
    axes.plot(
        seen,
        at,
        'o',
        color='C1',
        clip_on=False,
        zorder=3,
        label=f'{len(report.planes)} planes, blur between them up to {report.blur:g} px{more}',
    )
    for share, style in ((MAX_RELATIVE_ERROR, '--'), (0.01, ':')):
        axes.plot(
            distance,
            share * distance,
            color='grey',
            linestyle=style,
            linewidth=1,
            label=f'{share:.0%} of the depth',
        )
    if report.near < report.limit < far:
        axes.axvspan(report.limit, far, color='C3', alpha=0.12, linewidth=0)
        axes.axvline(report.limit, color='C3', label=f'range limit, {report.limit:.3g} m')
    axes.set(
        xscale='log',
        yscale='log',
        xlabel='distance, m',
        ylabel='expected depth error, m',
        xlim=(report.near, far),
        title=f'{report.title}: {report.kappa:.3g} px per dioptre',
    )
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:g}'))
        axis.set_minor_formatter(FuncFormatter(_few))
    axes.grid(alpha=0.3, which='both')
    axes.legend(loc='upper left')
    with atomic_write(path) as partial:
        figure.savefig(partial, format='png')


def _few(value: float, _: int) -> str:
    """Label 2, 3 and 5 between the powers of ten."""
    leading = value / 10.0 ** math.floor(math.log10(value))
    return f'{value:g}' if round(leading, 6) in (2.0, 3.0, 5.0) else ''
