# SPDX-License-Identifier: Apache-2.0
"""``dualfocus optics``: predict depth error, range limit and sweep of a lens."""

from __future__ import annotations

import argparse
import logging
import math
from pathlib import Path

from dualfocus_ros.camera.depth_resolution import (
    BLUR_ERROR,
    MAX_RELATIVE_ERROR,
    LensReport,
    analyze_lens,
)
from dualfocus_ros.camera.lens_presets import PRESETS, LensPreset
from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.cli.arguments import (
    add_json_argument,
    add_lens_arguments,
    add_number,
    length,
    lens_from,
    positive,
    positive_int,
)
from dualfocus_ros.cli.console import echo, echo_json
from dualfocus_ros.exceptions import UsageError
from dualfocus_ros.focal_stack import MAX_PLANES

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.epilog = (
        'kappa is the diameter of the circle of confusion in pixels per dioptre (1/m) of defocus: '
        'F^2 / (N p). A blur error of B pixels is a depth error of z^2 B / kappa metres at z '
        'metres. The default of B is that of the network on rendered scenes. Example: dualfocus '
        'optics --focal-length 16mm --f-number 1.4 --pixel-pitch 11.25um --range 0.5 5'
    )
    lens = parser.add_argument_group('the lens: a preset, three numbers, or kappa alone')
    names = '; '.join(f'{name}: {preset.title}' for name, preset in PRESETS.items())
    lens.add_argument('--preset', choices=[*PRESETS], metavar='NAME', help=names)
    add_lens_arguments(lens)
    lens.add_argument(
        '--kappa', type=positive, metavar='PX', help='measured blur in px per dioptre'
    )
    parser.add_argument(
        '--range',
        nargs=2,
        type=length,
        default=(0.5, 5.0),
        metavar=('NEAR', 'FAR'),
        help='metres; FAR may be inf (default: 0.5 5)',
    )
    blur_error = 'error of an estimated blur diameter in pixels'
    add_number(parser, '--blur-error', 'PX', BLUR_ERROR, blur_error, positive)
    blur = 'largest blur of a point in its sharpest plane of the sweep'
    add_number(parser, '--blur', 'PX', 2.0, blur, positive)
    parser.add_argument(
        '--image-width',
        type=positive_int,
        metavar='PX',
        help='width of the images, for the breathing at their edge (default: that of the preset)',
    )
    add_json_argument(parser)
    parser.add_argument('--plot', type=Path, metavar='FILE.png', help='plot the error by distance')


def execute(arguments: argparse.Namespace) -> int:
    """Compute and print the report; draw the plot on request."""
    preset, lens = _lens(arguments)
    title = _title(lens) if preset is None else preset.title
    source = None if preset is None else preset.source
    try:
        report = analyze_lens(
            lens,
            *arguments.range,
            width=arguments.image_width or (None if preset is None else preset.width),
            blur_error=arguments.blur_error,
            blur=arguments.blur,
        )
    except ValueError as error:
        raise UsageError(f'--range: {error}') from None
    if arguments.plot is not None:
        from dualfocus_ros.visualization.lens_plot import save_lens_plot

        save_lens_plot(arguments.plot, report, title)
        logger.info('wrote %s', arguments.plot)
    if arguments.json:
        echo_json({'lens': title, 'source': source, **report.as_dict()})
    else:
        echo(_format(report, title, source))
    if len(report.planes) > MAX_PLANES:
        logger.warning(
            '%d planes are more than the %d of a stack: allow more --blur or a shorter --range',
            len(report.planes),
            MAX_PLANES,
        )
    return 0


def _lens(arguments: argparse.Namespace) -> tuple[LensPreset | None, Lens | float]:
    """Return preset, and lens or kappa."""
    lens = lens_from(arguments)
    if [arguments.preset, lens, arguments.kappa].count(None) != 2:
        raise UsageError(
            'give the lens in one way: --preset NAME, or --focal-length, --f-number and '
            '--pixel-pitch, or --kappa'
        )
    if arguments.kappa is not None:
        return None, arguments.kappa
    if lens is not None:
        return None, lens
    preset = PRESETS[arguments.preset]
    # More pixels on the same sensor have a smaller pitch.
    pitch = preset.lens.pixel_pitch * preset.width / (arguments.image_width or preset.width)
    return preset, Lens(preset.lens.focal_length, preset.lens.f_number, pitch)


def _title(lens: Lens | float) -> str:
    if not isinstance(lens, Lens):
        return f'a lens of {lens:g} px per dioptre'
    return (
        f'{lens.focal_length * 1e3:g} mm f/{lens.f_number:g} on pixels of '
        f'{lens.pixel_pitch * 1e6:.4g} um'
    )


def _format(report: LensReport, title: str, source: str | None) -> str:
    far = f'{report.far:g} m' if math.isfinite(report.far) else 'infinity'
    width = '' if report.width is None else f', images {report.width} px wide'
    lines = [f'{title}{width}' + (f' ({source})' if source else '')]
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
        edge = report.breathing_edge_px
        at_edge = '' if edge is None else f', {edge:.1f} px at the edge of the image'
        lines.append(
            f'  breathing      {100 * report.breathing:8.3g} % from {far} to {report.near:g} m'
            f'{at_edge}'
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
        f'  sweep from {far} to {report.near:g} m, blur in the sharpest plane at most '
        f'{report.blur:g} px: {len(report.planes)} planes, {spacing:.4g} dioptres apart',
        '  [' + ', '.join(f'{q:.4g}' for q in report.planes) + ']',
    ]
    return '\n'.join(lines)
