# SPDX-License-Identifier: Apache-2.0
"""When the lens has arrived after a command, seen in the images alone.

The images at rest at the positions of a sweep span a curve in the space of images; interpolated
along the focus it tells, of any other image, where the lens was. So no report is needed, and a
report that only repeats the command is found out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import itertools
import math

import cv2
import numpy as np
from scipy.interpolate import CubicSpline

from dualfocus_ros.calibration.robust_fit import fit_linear
from dualfocus_ros.calibration.target_images import FocusImage, Region
from dualfocus_ros.exceptions import CalibrationError

SETTLED = 0.02  # of the step, that may still be to go
MOVED = 0.10  # of the step, after which the lens is on its way
MIN_POSITIONS = 4
MIN_STEPS = 6
MIN_FRAMES = 5  # of a step
MAX_FRAMES = 6000
_THUMBNAIL = 128
_REST = 0.25  # of the frames of a step, at its end
_SAME = 0.005  # dioptres
_ON_TARGET = 0.02  # dioptres between report and command that count as arrived
_MAX_NOISE = 0.1


@dataclass(frozen=True)
class LensCommand:
    """A position that the lens was told to go to."""

    stamp_ns: int
    dioptres: float


@dataclass(frozen=True, eq=False)
class Thumbnail:
    """What is kept of a frame.

    :param values: (P,) float32 small image, relative to its mean.
    :param reported: dioptres that the driver reported; NaN for nothing.
    """

    stamp_ns: int
    values: np.ndarray
    reported: float = math.nan
    moving: bool = False


@dataclass(frozen=True, eq=False)
class LensStep:
    """One movement.

    :param delays: (N,) seconds from the command to each frame.
    :param progress: (N,) 0 at the old, 1 at the new position.
    :param old_frames: frames after the command that still show the old position.
    :param rest_frame: index of the first frame from which on the lens rests.
    :param arrival_frame: index of the first frame that was reported on target; None for none.
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
    """The result.

    :param latency_frames: frames after a command that still show the old position, at most.
    :param settling_time: seconds from a command until 98 % of the step are done.
    :param time_error: standard error of it, from the scatter of the steps.
    :param settle_frames: frames reported on target until the lens rests.
    :param settle_time: seconds from the first frame reported on target until the lens rests.
    :param model_time: seconds after a command by which a frame at rest has been taken.
    :param hysteresis: dioptres between the positions reached from below and from above.
    :param hysteresis_error: its standard error; NaN where only one direction was driven.
    :param noise: standard deviation of the progress at rest.
    :param curve: coefficients of ln(rest of the way) over seconds, by rising powers; empty where
        the frames are too few for it and the time is that of the slowest step.
    :param ambiguous: steps left out, because the images at both ends look alike.
    :param reported: whether a driver's report was compared.
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
    steps: tuple[LensStep, ...]
    curve: tuple[float, ...]
    ambiguous: int
    reported: bool


def make_thumbnail(image: FocusImage, region: Region | None = None) -> Thumbnail:
    """Return what is kept of an image, or of a region of it."""
    light = image.light()
    if region is not None:
        light = region.cut(light)
    factor = min(1.0, _THUMBNAIL / max(light.shape))
    small = cv2.resize(light, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    values = (small / max(float(small.mean()), 1e-6)).astype(np.float32).ravel()
    return Thumbnail(image.stamp_ns, values, image.dioptres, image.moving)


def commands_from_reports(traces: Sequence[Thumbnail]) -> list[LensCommand]:
    """Return an order wherever the reported position changes (libcamera repeats the command)."""
    orders: list[LensCommand] = []
    previous = math.nan
    for item in traces:
        if math.isfinite(item.reported) and not abs(item.reported - previous) < _SAME:
            if math.isfinite(previous):
                # The frame that reports it first counts as the first one after the order.
                orders.append(LensCommand(item.stamp_ns - 1, item.reported))
            previous = item.reported
    return orders


def measure_settling(orders: Sequence[LensCommand], traces: Sequence[Thumbnail]) -> SettlingResult:
    """Measure latency, settling time and hysteresis.

    :param orders: in the order of time; repeated ones are one.
    :param traces: all frames, in the order of time.
    :raises CalibrationError: for a recording that does not tell.
    """
    dwells = _dwells(orders, traces)
    curve = _RestImageCurve(dwells)
    found: list[tuple[LensStep, _Dwell]] = []
    noises: list[float] = []
    unrest: list[float] = []
    ambiguous = 0
    for before, after in itertools.pairwise(dwells):
        if not curve.tells(before.target, after.target):
            ambiguous += 1
            continue
        way = after.target - before.target
        positions = curve.locate(after.frames, before.target, after.target)
        progress = (positions - before.target) / way
        rest = progress[-after.rest :]
        # From frame to frame, so that a slow movement is not taken for noise.
        noises.append(float(np.sqrt(0.5 * np.mean(np.diff(rest) ** 2))))
        slope = np.polyfit(np.arange(len(rest)), rest, 1)[0] * len(rest) if len(rest) > 2 else 0.0
        unrest.append(abs(float(slope)))
        # What is left of the way to where the lens came to rest, wherever that is.
        progress = progress / float(np.median(rest))
        delays = np.array([(f.stamp_ns - after.stamp_ns) * 1e-9 for f in after.frames])
        step = LensStep(before.target, after.target, delays, progress, 0, 0, None)
        found.append((step, after))
    _check_steps(len(found), ambiguous)
    noise = float(np.median(noises))
    if noise > _MAX_NOISE:
        raise CalibrationError(
            f'at rest the images still differ by {100 * noise:.0f} % of a step: keep camera, '
            'target and light still, use more light, or make larger steps'
        )
    if float(np.median(unrest)) > 3.0 * noise + SETTLED:
        raise CalibrationError(
            'the lens was still moving when the next command came: wait longer at each position '
            '(focus_sweep_node: model_time or settle_time), at least twice the settling time'
        )
    steps = [_with_frames(step, dwell, noise) for step, dwell in found]
    period = _frame_period(traces)
    time, error, fitted = _settling_time(steps, noise)
    latency = int(max(step.old_frames for step in steps))
    arrivals = [s for s in steps if s.arrival_frame is not None]
    if arrivals:
        settle_frames = max(
            max(s.rest_frame - s.arrival_frame, 0) + 1
            for s in arrivals
            if s.arrival_frame is not None
        )
        reported_at = np.median([s.delays[s.arrival_frame] for s in arrivals])
        settle_time = max(0.0, time - float(reported_at))
    else:
        settle_frames, settle_time = latency + 1, time
    hysteresis, hysteresis_error = _hysteresis(curve, dwells)
    return SettlingResult(
        latency,
        time,
        error,
        settle_frames,
        settle_time,
        max(time, latency * period) + 1.5 * period,
        hysteresis,
        hysteresis_error,
        period,
        noise,
        tuple(steps),
        fitted,
        ambiguous,
        bool(arrivals),
    )


@dataclass(frozen=True, eq=False)
class _Dwell:
    """An order and the frames until the next one."""

    stamp_ns: int
    target: float
    frames: list[Thumbnail]
    rising: bool

    @property
    def rest(self) -> int:
        """Number of frames at the end in which the lens is taken to rest."""
        return max(2, round(_REST * len(self.frames)))


def _dwells(orders: Sequence[LensCommand], traces: Sequence[Thumbnail]) -> list[_Dwell]:
    changes: list[LensCommand] = []
    for order in orders:
        if not changes or abs(order.dioptres - changes[-1].dioptres) > _SAME:
            changes.append(order)
    stamps = [t.stamp_ns for t in traces]
    dwells = []
    for index, order in enumerate(changes):
        end = changes[index + 1].stamp_ns if index + 1 < len(changes) else None
        first = int(np.searchsorted(stamps, order.stamp_ns, side='right'))
        last = len(stamps) if end is None else int(np.searchsorted(stamps, end, side='right'))
        rising = index > 0 and order.dioptres > changes[index - 1].dioptres
        dwells.append(_Dwell(order.stamp_ns, order.dioptres, list(traces[first:last]), rising))
    # The recording ended in it, or the camera started only later.
    while dwells and len(dwells[-1].frames) < MIN_FRAMES:
        dwells.pop()
    while dwells and len(dwells[0].frames) < MIN_FRAMES:
        dwells.pop(0)
    if len(dwells) < MIN_STEPS + 1:
        raise CalibrationError(
            f'the recording has {max(len(dwells) - 1, 0)} whole steps of the lens: at least '
            f'{MIN_STEPS} are needed, better 20, up and down over the focus range'
        )
    short = sum(len(dwell.frames) < MIN_FRAMES for dwell in dwells)
    if short > 0.3 * len(dwells):
        raise CalibrationError(
            f'{short} of {len(dwells)} steps have fewer than {MIN_FRAMES} frames: wait longer at '
            'each position'
        )
    return [dwell for dwell in dwells if len(dwell.frames) >= MIN_FRAMES]


class _RestImageCurve:
    """The images at rest over the focus, interpolated by a cubic spline."""

    def __init__(self, dwells: Sequence[_Dwell]) -> None:
        groups: dict[int, list[np.ndarray]] = {}
        for dwell in dwells:
            rest = np.mean([f.values for f in dwell.frames[-dwell.rest :]], axis=0)
            groups.setdefault(round(dwell.target / _SAME), []).append(rest)
        keys = sorted(groups)
        self.targets = np.array([key * _SAME for key in keys])
        if len(keys) < MIN_POSITIONS:
            raise CalibrationError(
                f'the lens was sent to {len(keys)} different positions: at least {MIN_POSITIONS} '
                'are needed, better 6 to 10'
            )
        self._images = np.stack([np.mean(groups[key], axis=0) for key in keys])
        self._gram = self._images.astype(np.float64) @ self._images.T.astype(np.float64)
        self._weights = CubicSpline(self.targets, np.eye(len(keys)))

    def tells(self, start: float, end: float) -> bool:
        """Whether an image between two positions tells how far from the end it is.

        It does not where the target is as blurred before as beyond its focus.
        """
        at = self._weights(np.linspace(start, end, 21)) - self._weights(end)
        away = np.einsum('ij,jk,ik->i', at, self._gram, at)
        return bool(np.all(np.diff(away) < 0.0))

    def locate(self, frames: Sequence[Thumbnail], start: float, end: float) -> np.ndarray:
        """Return where the lens was in each frame, between a bit before start and beyond end."""
        grid = np.linspace(start - 0.2 * (end - start), end + 0.2 * (end - start), 281)
        grid = grid[
            (grid >= self.targets[0] - 0.1 * abs(end - start))
            & (grid <= self.targets[-1] + 0.1 * abs(end - start))
        ]
        weights = self._weights(grid)
        length = np.einsum('ij,jk,ik->i', weights, self._gram, weights)
        found = []
        for frame in frames:
            products = self._images @ frame.values
            distance = length - 2.0 * weights @ products.astype(np.float64)
            best = int(np.argmin(distance))
            if 0 < best < len(grid) - 1:
                a, b, c = distance[best - 1 : best + 2]
                shift = 0.5 * (a - c) / max(a - 2.0 * b + c, 1e-300)
                found.append(grid[best] + np.clip(shift, -0.5, 0.5) * (grid[1] - grid[0]))
            else:
                found.append(grid[best])
        return np.array(found)


def _with_frames(step: LensStep, dwell: _Dwell, noise: float) -> LensStep:
    """Return the step with what can be counted in frames."""
    moved = np.nonzero(step.progress > MOVED + 2.0 * noise)[0]
    old = int(moved[0]) if len(moved) else len(step.progress)
    away = np.nonzero(np.abs(step.progress - 1.0) > SETTLED + 3.0 * noise)[0]
    rest = int(away[-1]) + 1 if len(away) else 0
    arrival = next(
        (
            index
            for index, frame in enumerate(dwell.frames)
            if abs(frame.reported - step.target) <= _ON_TARGET and not frame.moving
        ),
        None,
    )
    return LensStep(step.start, step.target, step.delays, step.progress, old, rest, arrival)


def _settling_time(
    steps: Sequence[LensStep], noise: float
) -> tuple[float, float, tuple[float, ...]]:
    """Return the time until 98 % of a step, its error, and the curve that it is read from."""
    delays = np.concatenate([step.delays for step in steps])
    left = np.concatenate([1.0 - step.progress for step in steps])
    label = np.repeat(np.arange(len(steps)), [len(step.delays) for step in steps])
    slowest = max(float(step.delays[min(step.rest_frame, len(step.delays) - 1)]) for step in steps)
    usable = (left > max(0.5 * SETTLED, 3.0 * noise)) & (left < 0.4)
    if usable.sum() >= 8 and len(np.unique(label[usable])) >= 3:
        t, logs = delays[usable], np.log(left[usable])
        unit = float(t.max() - t.min()) or 1.0
        x = (t - t.mean()) / unit
        # Noise is of the way left, not of its logarithm.
        weight = left[usable] / np.hypot(left[usable], 3.0 * max(noise, 1e-3))
        design = np.stack([np.ones_like(x), x, x * x], axis=1)
        fit = fit_linear(design * weight[:, None], logs * weight, scale_floor=0.05)
        fine = np.linspace(x.min(), x.max() + 0.5, 400)
        values = np.polynomial.polynomial.polyval(fine, fit.coefficients)
        below = np.nonzero(values <= math.log(SETTLED))[0]
        if len(below) and fit.rms < 0.5 and below[0] > 0:
            crossing = float(fine[below[0]])
            slope = float(fit.coefficients[1] + 2.0 * fit.coefficients[2] * crossing)
            at = np.array([1.0, crossing, crossing**2])
            spread = float(np.sqrt(max(at @ fit.covariance @ at, 0.0)))
            normal = np.polynomial.Polynomial(fit.coefficients)
            plain = normal(np.polynomial.Polynomial([-t.mean() / unit, 1.0 / unit])).coef
            time = crossing * unit + float(t.mean())
            return time, unit * spread / abs(slope), tuple(float(c) for c in plain)
    # Faster than the frames come, or not like a damped motion: the slowest step counts.
    return slowest, float('nan'), ()


def _hysteresis(curve: _RestImageCurve, dwells: Sequence[_Dwell]) -> tuple[float, float]:
    """Return how much farther the lens comes from below than from above, and the error of it."""
    places: dict[tuple[int, bool], list[float]] = {}
    span = 0.5 * float(np.median(np.diff(curve.targets)))
    for dwell in dwells[1:]:
        mean = np.mean([f.values for f in dwell.frames[-dwell.rest :]], axis=0)
        item = Thumbnail(dwell.stamp_ns, mean)
        position = curve.locate([item], dwell.target - span, dwell.target + span)[0]
        key = round(dwell.target / _SAME), dwell.rising
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


def _frame_period(traces: Sequence[Thumbnail]) -> float:
    gaps = np.diff([t.stamp_ns for t in traces]) * 1e-9
    return float(np.median(gaps))


def _check_steps(count: int, ambiguous: int) -> None:
    if count >= MIN_STEPS:
        return
    raise CalibrationError(
        f'only {count} steps tell where the lens is; in {ambiguous} the target is as blurred '
        'before as after: put it at one end of the focus range, so that it gets sharper all the '
        'way, and record more steps'
    )
