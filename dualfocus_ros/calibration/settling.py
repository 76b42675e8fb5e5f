# SPDX-License-Identifier: Apache-2.0
"""Calibration of latency, settling time and hysteresis of a lens, from images alone.

Reports of the driver are not needed (see :mod:`dualfocus_ros.calibration.lens_tracking`); if
there are any, they are compared, which reveals reports that only repeat the command.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import itertools
import math

from matplotlib.figure import Figure
import numpy as np

from dualfocus_ros.calibration import calibration_plots as plots
from dualfocus_ros.calibration.lens_tracking import (
    MIN_STEPS,
    SAME_FOCUS,
    Dwell,
    LensCommand,
    RestImageCurve,
    Thumbnail,
    find_dwells,
)
from dualfocus_ros.calibration.parameter_file import CalibrationResult
from dualfocus_ros.calibration.robust_fit import fit_linear
from dualfocus_ros.exceptions import CalibrationError
from dualfocus_ros.io.figures import figure_to_array

SETTLED = 0.02  # remaining share of the step
MOVED = 0.10  # share of the step that counts as motion
MAX_FRAMES = 6000  # of a recording
_HYSTERESIS = 0.01  # dioptres; smaller values are not reported
_ON_TARGET = 0.02  # dioptres; reports within this distance of the command are arrivals
_MAX_NOISE = 0.1


@dataclass(frozen=True, eq=False)
class LensStep:
    """Movement of the lens between two positions.

    :param delays: (N,) seconds from the command to each frame.
    :param progress: (N,) 0 at the old position, 1 at the new one.
    :param old_frames: frames after the command that show the old position.
    :param rest_frame: index of the first frame at rest.
    :param arrival_frame: index of the first frame reported on target; None without a report.
    """

    start: float
    target: float
    delays: np.ndarray
    progress: np.ndarray
    old_frames: int
    rest_frame: int
    arrival_frame: int | None


@dataclass(frozen=True, eq=False)
class SettlingResult:
    """Latency, settling time and hysteresis.

    :param latency_frames: largest number of frames after a command that show the old position.
    :param settling_time: seconds from a command to 98 % of the step, with its standard error.
    :param settle_frames: frames from the first one reported on target to rest.
    :param settle_time: seconds from the first frame reported on target to rest.
    :param model_time: seconds after a command within which a frame at rest is captured.
    :param hysteresis: dioptres between the positions reached from below and from above; its
        standard error is NaN for steps in one direction only.
    :param noise: standard deviation of the progress at rest.
    :param curve: coefficients of ln(remaining share) over seconds, by rising powers; empty with
        too few frames, where the time is that of the slowest step.
    :param ambiguous: steps left out, in which the images do not determine the focus.
    :param reported: whether reports of the driver were compared.
    """

    latency_frames: int
    settling_time: float
    time_error: float
    settle_frames: int
    settle_time: float
    model_time: float
    hysteresis: float
    hysteresis_error: float
    frame_period: float
    noise: float
    steps: Sequence[LensStep]
    curve: tuple[float, ...]
    ambiguous: int
    reported: bool


def measure_settling(
    commands: Sequence[LensCommand], thumbnails: Sequence[Thumbnail]
) -> SettlingResult:
    """Measure latency, settling time and hysteresis.

    :param commands: in order of time; repetitions are ignored.
    :param thumbnails: all frames, in order of time.
    :raises CalibrationError: for recordings that do not determine them.
    """
    dwells = find_dwells(commands, thumbnails)
    curve = RestImageCurve(dwells)
    moves: list[tuple[Dwell, Dwell, np.ndarray]] = []
    noises, drifts = [], []
    for before, after in itertools.pairwise(dwells):
        if not curve.is_unambiguous(before.target, after.target):
            continue
        positions = curve.locate(after.frames, before.target, after.target)
        progress = (positions - before.target) / (after.target - before.target)
        rest = progress[-after.rest :]
        # Differences between frames: a slow movement does not count as noise.
        noises.append(np.sqrt(0.5 * np.mean(np.diff(rest) ** 2)))
        slope = np.polyfit(np.arange(len(rest)), rest, 1)[0] if len(rest) > 2 else 0.0
        drifts.append(abs(slope * len(rest)))
        # Relative to the position of rest, which may differ from the command.
        moves.append((before, after, progress / float(np.median(rest))))
    ambiguous = len(dwells) - 1 - len(moves)
    if len(moves) < MIN_STEPS:
        raise CalibrationError(
            f'only {len(moves)} steps determine the focus; in {ambiguous} the target is equally '
            'blurred before and after: put it at one end of the focus range, so that it gets '
            'steadily sharper, and record more steps'
        )
    noise = float(np.median(noises))
    if noise > _MAX_NOISE:
        raise CalibrationError(
            f'the images at rest still differ by {100 * noise:.0f} % of a step: keep camera, '
            'target and light still, use more light, or make larger steps'
        )
    if float(np.median(drifts)) > 3.0 * noise + SETTLED:
        raise CalibrationError(
            'the lens was still moving when the next command came: wait longer at each position '
            '(focus_sweep_node: model_time or settle_time), at least twice the settling time'
        )
    steps = [
        _make_step(before.target, dwell, progress, noise) for before, dwell, progress in moves
    ]
    period = float(np.median(np.diff([t.stamp_ns for t in thumbnails]) * 1e-9))
    time, error, fitted = _settling_time(steps, noise)
    latency = max(step.old_frames for step in steps)
    settle_frames, settle_time = latency + 1, time
    arrivals = [(s, s.arrival_frame) for s in steps if s.arrival_frame is not None]
    if arrivals:
        settle_frames = max(max(step.rest_frame - frame, 0) + 1 for step, frame in arrivals)
        reported_at = float(np.median([step.delays[frame] for step, frame in arrivals]))
        settle_time = max(0.0, time - reported_at)
    model_time = max(time, latency * period) + 1.5 * period
    times = latency, time, error, settle_frames, settle_time, model_time
    return SettlingResult(
        *times,
        *_hysteresis(curve, dwells),
        period,
        noise,
        steps,
        fitted,
        ambiguous,
        bool(arrivals),
    )


def _make_step(start: float, dwell: Dwell, progress: np.ndarray, noise: float) -> LensStep:
    """Return a step with its latency, rest and arrival in frames."""
    delays = np.array([(frame.stamp_ns - dwell.stamp_ns) * 1e-9 for frame in dwell.frames])
    moved = np.nonzero(progress > MOVED + 2.0 * noise)[0]
    old = int(moved[0]) if len(moved) else len(progress)
    away = np.nonzero(np.abs(progress - 1.0) > SETTLED + 3.0 * noise)[0]
    rest = int(away[-1]) + 1 if len(away) else 0
    reports = (abs(f.reported - dwell.target) <= _ON_TARGET and not f.moving for f in dwell.frames)
    arrival = next((index for index, arrived in enumerate(reports) if arrived), None)
    return LensStep(start, dwell.target, delays, progress, old, rest, arrival)


def _settling_time(
    steps: Sequence[LensStep], noise: float
) -> tuple[float, float, tuple[float, ...]]:
    """Return the time to 98 % of a step, its error, and the coefficients of the fitted curve."""
    delays = np.concatenate([step.delays for step in steps])
    left = np.concatenate([1.0 - step.progress for step in steps])
    label = np.repeat(np.arange(len(steps)), [len(step.delays) for step in steps])
    slowest = max(float(step.delays[min(step.rest_frame, len(step.delays) - 1)]) for step in steps)
    usable = (left > max(0.5 * SETTLED, 3.0 * noise)) & (left < 0.4)
    if usable.sum() >= 8 and len(np.unique(label[usable])) >= 3:
        t, logs = delays[usable], np.log(left[usable])
        unit = float(t.max() - t.min()) or 1.0
        x = (t - t.mean()) / unit
        # Noise is additive in the remaining share, not in its logarithm.
        weight = left[usable] / np.hypot(left[usable], 3.0 * max(noise, 1e-3))
        design = np.vander(x, 3, increasing=True)
        fit = fit_linear(design * weight[:, None], logs * weight, scale_floor=0.05)
        normal = np.polynomial.Polynomial(fit.coefficients)
        fine = np.linspace(x.min(), x.max() + 0.5, 400)
        below = np.nonzero(normal(fine) <= math.log(SETTLED))[0]
        if len(below) and fit.rms < 0.5 and below[0] > 0:
            crossing = float(fine[below[0]])
            slope = float(fit.coefficients[1] + 2.0 * fit.coefficients[2] * crossing)
            at = np.array([1.0, crossing, crossing**2])
            spread = float(np.sqrt(max(at @ fit.covariance @ at, 0.0)))
            plain = normal(np.polynomial.Polynomial([-t.mean() / unit, 1.0 / unit])).coef
            time = crossing * unit + float(t.mean())
            return time, unit * spread / abs(slope), tuple(plain.tolist())
    # Faster than the frame rate, or not a damped motion: use the slowest step.
    return slowest, float('nan'), ()


def _hysteresis(curve: RestImageCurve, dwells: Sequence[Dwell]) -> tuple[float, float]:
    """Return the mean difference of rest positions reached from below and above, and its error."""
    places: dict[tuple[int, bool], list[float]] = {}
    span = 0.5 * float(np.median(np.diff(curve.targets)))
    for dwell in dwells[1:]:
        item = Thumbnail(dwell.stamp_ns, dwell.rest_image())
        position = curve.locate([item], dwell.target - span, dwell.target + span)[0]
        key = round(dwell.target / SAME_FOCUS), dwell.rising
        places.setdefault(key, []).append(float(position) - dwell.target)
    gaps = [
        float(np.median(places[key, True]) - np.median(places[key, False]))
        for key in {key for key, _ in places}
        if (key, True) in places and (key, False) in places
    ]
    if not gaps:
        return 0.0, float('nan')
    error = 1.25 * float(np.std(gaps)) / math.sqrt(max(len(gaps) - 1, 1))
    return float(np.median(gaps)), error


def settling_result(result: SettlingResult, group: str) -> CalibrationResult:
    """Return node parameters, summary and figure of a measurement.

    :param group: ``command`` or ``camera_ros``, the parameters of depth_node to set.
    """
    parameters = {
        f'{group}.latency_frames': result.latency_frames,
        f'{group}.settling_time': _round_up(result.settling_time),
        'settle_frames': result.settle_frames,
        'settle_time': _round_up(result.settle_time),
        'model_time': _round_up(result.model_time),
    }
    summary = {
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
    warnings = []
    if abs(result.hysteresis) > max(_HYSTERESIS, 3.0 * result.hysteresis_error):
        warnings.append(
            'the lens stops at different places on its way up and down: sweep in one '
            "direction only (focus_sweep_node: pattern 'sawtooth')"
        )
    error = '' if math.isnan(result.time_error) else f' (standard error {result.time_error:.4f} s)'
    method = '' if result.curve else ', of the slowest step: too few frames for a curve'
    lines = [
        f'settling: {result.settling_time:.4f} s{error} from a command to 98 % of the step, '
        f'from {len(result.steps)} steps{method}; {result.ambiguous} steps are ambiguous',
        f'latency: up to {result.latency_frames} frames after a command show the old '
        f'position, at {1.0 / result.frame_period:.1f} frames per second',
    ]
    if result.reported:
        lines.append(
            f'reports: the lens is at rest {result.settle_time:.4f} s after the first report '
            f'of arrival, at the latest with frame {result.settle_frames} from there'
        )
    if math.isfinite(result.hysteresis_error):
        lines.append(
            f'hysteresis: {result.hysteresis:+.4f} dioptres (standard error '
            f'{result.hysteresis_error:.4f}) between upward and downward steps'
        )
    return CalibrationResult(parameters, summary, lines, _figure(result), warnings)


def _round_up(seconds: float) -> float:
    """Round up to whole milliseconds."""
    return math.ceil(seconds * 1000.0 - 1e-6) / 1000.0


def _figure(result: SettlingResult) -> np.ndarray:
    """Draw the progress of all steps over time, and the remainder on a logarithmic scale."""
    figure = Figure(figsize=(10, 4.2), dpi=plots.DPI, layout='constrained')
    figure.suptitle('Settling')
    left, right = figure.subplots(1, 2)
    for rising, colour, name in (True, plots.MEASURED, 'nearer'), (False, plots.OTHER, 'farther'):
        style = {'color': colour, 'linewidth': 0.5, 'markersize': 4, 'alpha': 0.6}
        steps = [s for s in result.steps if (s.target > s.start) == rising]
        for number, step in enumerate(steps):
            label = None if number else f'to {name}'
            left.plot(step.delays, step.progress, '.-', label=label, **style)
            shown = 1.0 - step.progress > 1e-3
            rest = 1.0 - step.progress[shown]
            right.semilogy(step.delays[shown], rest, '.', color=colour, markersize=5)
    limit = min(max(s.delays.max() for s in result.steps), 4.0 * result.settling_time + 0.1)
    for axes in (left, right):
        label = f'settled: {result.settling_time:.3f} s'
        axes.axvline(result.settling_time, color=plots.MODEL, linestyle='--', label=label)
        axes.set(xlabel='time after the command, s', xlim=(0.0, limit))
        axes.grid(alpha=0.3)
    if result.curve:
        fine = np.linspace(0.0, limit, 300)
        values = np.exp(np.polynomial.polynomial.polyval(fine, result.curve))
        some = (values < 0.5) & (values > 0.3 * SETTLED)
        right.semilogy(fine[some], values[some], color=plots.MODEL, label='fitted')
    label = f'{100 * SETTLED:.0f} % of the step'
    right.axhline(SETTLED, color=plots.OUT, linestyle=':', label=label)
    left.set(ylabel='completed share of the step', ylim=(-0.1, 1.2))
    right.set(ylabel='remaining share of the step', ylim=(1e-3, 1.5))
    left.legend(fontsize='small', loc='lower right')
    right.legend(fontsize='small')
    return figure_to_array(figure)
