# SPDX-License-Identifier: Apache-2.0
"""``dualfocus calibrate settling``: latency, settling time, hysteresis."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from dualfocus_ros.calibration.settling import (
    MAX_FRAMES,
    SettlingResult,
    Thumbnail,
    commands_from_reports,
    make_thumbnail,
    measure_settling,
)
from dualfocus_ros.cli import focus_frames
from dualfocus_ros.cli.calibrate import CalibrationResult
from dualfocus_ros.exceptions import CommandError

WHAT_TO_RECORD = """\
what to record:
  Put a target with texture in front of the camera, at one end of the focus range or beyond it, so
  that it gets sharper all the way, both on firm stands. Sweep up and down in 6 to 10 steps,
  waiting at each for at least twice the settling time (focus_sweep_node with model_time or
  settle_time of 0.5 s or more, pattern triangle), and record images, focus_command, and whatever
  reports the focus, for 20 steps or more, at the frame rate of use.

example:
  dualfocus calibrate settling sweeps -o settling.yaml

result: command.latency_frames and command.settling_time of depth_node (camera_ros.* for a bag
without commands, of camera_ros), settle_frames, settle_time and model_time of focus_sweep_node.
"""
_HYSTERESIS = 0.01  # dioptres; less does not matter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('source', type=Path, metavar='BAG', help='bag of a sweep up and down')
    focus_frames.add_arguments(parser)


def calibrate(arguments: argparse.Namespace) -> CalibrationResult:
    """Follow the lens in the images after every command."""
    from dualfocus_ros.calibration.calibration_plots import settling_figure

    arguments.rest = 0.0
    orders, source = focus_frames.read_commands(arguments.source)
    region = focus_frames.region(arguments)
    traces: list[Thumbnail] = []
    for image in focus_frames.read_frames(arguments.source, arguments):
        traces.append(make_thumbnail(image, region))
        if len(traces) == MAX_FRAMES:
            break
    traces.sort(key=lambda item: item.stamp_ns)
    commanded = bool(orders)
    if not commanded:
        if source != 'camera_ros':
            raise CommandError(
                f'{arguments.source} has no focus_command: without the time of the commands the '
                'latency cannot be told; record that topic too'
            )
        orders = commands_from_reports(traces)
    elif source == 'command':  # what comes out of the commands is no report
        traces = [Thumbnail(t.stamp_ns, t.values) for t in traces]
    result = measure_settling(orders, traces)
    group = 'command' if commanded else 'camera_ros'
    parameters = {
        f'{group}.latency_frames': result.latency_frames,
        f'{group}.settling_time': _up(result.settling_time),
        'settle_frames': result.settle_frames,
        'settle_time': _up(result.settle_time),
        'model_time': _up(result.model_time),
    }
    return CalibrationResult(
        parameters, _summary(result), _lines(result), settling_figure(result), _warnings(result)
    )


def _up(seconds: float) -> float:
    """Round up to milliseconds."""
    return math.ceil(seconds * 1000.0 - 1e-6) / 1000.0


def _lines(result: SettlingResult) -> list[str]:
    error = '' if math.isnan(result.time_error) else f' (standard error {result.time_error:.4f} s)'
    how = '' if result.curve else ', that of the slowest step: the frames are too few for a curve'
    lines = [
        f'settling: {result.settling_time:.4f} s{error} from a command until 98 % of the step are '
        f'done, from {len(result.steps)} steps{how}; {result.ambiguous} steps told nothing',
        f'latency: up to {result.latency_frames} frames after a command still show the old '
        f'position, at {1.0 / result.frame_period:.1f} frames per second',
    ]
    if result.reported:
        lines.append(
            f'reports: the lens rests {result.settle_time:.4f} s after the first report '
            f'of arrival, at the latest with frame {result.settle_frames} from there'
        )
    if math.isfinite(result.hysteresis_error):
        lines.append(
            f'hysteresis: {result.hysteresis:+.4f} dioptres (standard error '
            f'{result.hysteresis_error:.4f}) between the ways up and down'
        )
    return lines


def _warnings(result: SettlingResult) -> list[str]:
    if abs(result.hysteresis) > max(_HYSTERESIS, 3.0 * result.hysteresis_error):
        return [
            'the lens stops at different places on its way up and down: sweep in one '
            "direction only (focus_sweep_node: pattern 'sawtooth')"
        ]
    return []


def _summary(result: SettlingResult) -> dict[str, object]:
    return {
        'settling_time': result.settling_time,
        'settling_time_error': result.time_error,
        'latency_frames': result.latency_frames,
        'hysteresis_dioptres': result.hysteresis,
        'hysteresis_error': result.hysteresis_error,
        'frame_period': result.frame_period,
        'steps': len(result.steps),
        'steps_ambiguous': result.ambiguous,
        'noise_of_step': result.noise,
        'reports_compared': result.reported,
    }
