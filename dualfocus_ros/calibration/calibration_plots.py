# SPDX-License-Identifier: Apache-2.0
"""Pictures of the fits: what was measured, the model through it, and what remains."""

from __future__ import annotations

from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
import numpy as np

from dualfocus_ros.calibration.blur_scale import BlurScale
from dualfocus_ros.calibration.breathing import BreathingFit
from dualfocus_ros.calibration.field_curvature_fit import FieldCurvatureFit
from dualfocus_ros.calibration.focus_scale import FocusScale, SharpnessPeak
from dualfocus_ros.calibration.settling import SETTLED, SettlingResult
from dualfocus_ros.camera.field_curvature import field_curvature_offset

_MEASURED, _MODEL, _OTHER, _OUT = '#1f5fa8', '#c8452d', '#4f8f4a', '#9aa0a8'
_DPI = 110


def focus_figure(scale: FocusScale, sweeps: list[tuple[float, SharpnessPeak]]) -> np.ndarray:
    """Return dioptres over driver units, their residuals, and the peaks that they came from.

    :param sweeps: distance in metres and peak of each sweep; none for given pairs.
    :returns: (H, W, 3) uint8 RGB, as all functions here.
    """
    figure, upper, lower, right = _sheet('Focus scale', three=bool(sweeps))
    fine = np.linspace(scale.positions.min(), scale.positions.max(), 200)
    upper.plot(fine, scale.at(fine), color=_MODEL, label=_polynomial(scale.coefficients))
    out = scale.fit.outliers
    upper.plot(scale.positions[~out], scale.dioptres[~out], 'o', color=_MEASURED, label='measured')
    if out.any():
        upper.plot(scale.positions[out], scale.dioptres[out], 'x', color=_OUT, label='outlier')
    upper.set(ylabel='focus, 1/m')
    upper.legend()
    _residuals(lower, scale.positions, scale.fit.residuals, ~out)
    lower.set(xlabel='lens position, driver units', ylabel='residual, 1/m')
    if right is not None:
        for number, (distance, peak) in enumerate(sweeps):
            colour = f'C{number % 10}'
            right.plot(
                peak.positions,
                peak.measures / peak.measures.max(),
                '.-',
                color=colour,
                linewidth=0.8,
                label=f'{distance:g} m',
            )
            right.axvline(peak.position, color=colour, linestyle=':', linewidth=1.0)
        right.set(
            xlabel='lens position, driver units',
            ylabel='sharpness, of its peak',
            title='Sweeps',
            ylim=(0.0, 1.3),
        )
        right.legend(fontsize='small', title='target at', loc='upper center', ncol=4)
    return _rendered(figure)


def breathing_figure(result: BreathingFit) -> np.ndarray:
    """Return scale and centre over focus with their residuals."""
    figure, upper, lower, right = _sheet('Focus breathing', three=True)
    assert right is not None
    q = np.array([view.dioptres for view in result.views])
    at_reference = float(result.scale(np.array(result.reference)))
    measured = np.array([view.scale for view in result.views]) * at_reference
    fine = np.linspace(0.0, q.max(), 200)
    g1, g2 = result.coefficients
    upper.plot(fine, result.scale(fine), color=_MODEL, label=f'1 {g1:+.5f} q {g2:+.6f} q²')
    upper.plot(q, measured, 'o', color=_MEASURED, label='measured')
    upper.set(ylabel='image scale m')
    upper.legend()
    edge = 0.5 * result.width
    _residuals(lower, q, edge * (measured - result.scale(q)), np.ones(len(q), bool))
    lower.set(xlabel='focus, 1/m', ylabel='residual, px at edge')
    shift = np.array([view.shift for view in result.views])
    scale = np.array([view.scale for view in result.views])
    for axis, name, colour in ((0, 'x', _MEASURED), (1, 'y', _OTHER)):
        right.plot(q, shift[:, axis], 'o', color=colour, label=f'{name} measured')
        order = np.argsort(q)
        model = result.width * result.drift[axis] * (q - scale * result.reference)
        right.plot(
            q[order],
            model[order],
            color=colour,
            label=f'{name}: {result.width * result.drift[axis]:+.3f} px per dioptre',
        )
    low, high = right.get_ylim()
    if high - low < 1.0:  # do not show noise as large as a drift
        right.set_ylim(0.5 * (low + high) - 0.5, 0.5 * (low + high) + 0.5)
    right.set(xlabel='focus, 1/m', ylabel='shift of the centre, px', title='Centre drift')
    right.legend(fontsize='small')
    return _rendered(figure)


def settling_figure(result: SettlingResult) -> np.ndarray:
    """Return the way of all steps over time, and what is left of it on a logarithmic scale."""
    figure = Figure(figsize=(10, 4.2), dpi=_DPI, layout='constrained')
    figure.suptitle('Settling')
    left, right = figure.subplots(1, 2)
    for rising, colour, name in ((True, _MEASURED, 'nearer'), (False, _OTHER, 'farther')):
        steps = [s for s in result.steps if (s.target > s.start) == rising]
        for number, step in enumerate(steps):
            left.plot(
                step.delays,
                step.progress,
                '.-',
                color=colour,
                linewidth=0.5,
                markersize=4,
                alpha=0.6,
                label=f'to {name}' if number == 0 else None,
            )
            rest = 1.0 - step.progress
            shown = rest > 1e-3
            right.semilogy(step.delays[shown], rest[shown], '.', color=colour, markersize=5)
    limit = min(max(s.delays.max() for s in result.steps), 4.0 * result.settling_time + 0.1)
    for axes in (left, right):
        axes.axvline(
            result.settling_time,
            color=_MODEL,
            linestyle='--',
            label=f'settled: {result.settling_time:.3f} s',
        )
        axes.set(xlabel='time after the command, s', xlim=(0.0, limit))
        axes.grid(alpha=0.3)
    if result.curve:
        fine = np.linspace(0.0, limit, 300)
        values = np.exp(np.polynomial.polynomial.polyval(fine, result.curve))
        some = (values < 0.5) & (values > 0.3 * SETTLED)
        right.semilogy(fine[some], values[some], color=_MODEL, label='fitted')
    right.axhline(SETTLED, color=_OUT, linestyle=':', label=f'{100 * SETTLED:.0f} % of the step')
    left.set(ylabel='part of the step done', ylim=(-0.1, 1.2))
    right.set(ylabel='part of the step to go', ylim=(1e-3, 1.5))
    left.legend(fontsize='small', loc='lower right')
    right.legend(fontsize='small')
    return _rendered(figure)


def blur_figure(result: BlurScale, scale: Any = np.ones_like) -> np.ndarray:
    """Return blur over focus with its residuals, and edge profiles or the widths used.

    :param scale: the magnification that the fit divided by.
    """
    profiles = result.widths.profiles
    figure, upper, lower, right = _sheet('Blur', three=bool(profiles))
    q = result.widths.dioptres
    measured = 4.0 * result.widths.sigma / scale(q)
    fine = np.linspace(q.min(), q.max(), 300)
    upper.plot(
        fine,
        4.0 * result.sigma(fine),
        color=_MODEL,
        label=f'κ = {result.kappa:.2f} px per dioptre',
    )
    used = result.used
    upper.plot(q[used], measured[used], 'o', color=_MEASURED, label=result.widths.method)
    if not used.all():
        upper.plot(q[~used], measured[~used], 'x', color=_OUT, label='not used')
    upper.axvline(result.focus, color=_OUT, linestyle=':')
    upper.set(ylabel='diameter of the blur, px', ylim=(0.0, None))
    upper.legend()
    _residuals(lower, q, 4.0 * result.residuals, used)
    lower.set(xlabel='focus, 1/m', ylabel='residual, px')
    if right is not None:
        picks = np.linspace(0, len(profiles) - 1, min(7, len(profiles))).round().astype(int)
        for pick in picks:
            focus, distance, value = profiles[pick]
            right.plot(distance, value, linewidth=1.0, label=f'{focus:.2f}')
        reach = max(0.75 * float(measured.max()), 6.0)
        right.set(
            xlabel='distance from the edge, px',
            ylabel='light, of the step',
            title='Edge profiles',
            xlim=(-reach, reach),
            ylim=(-0.2, 1.2),
        )
        right.legend(fontsize='small', title='focus, 1/m')
    return _rendered(figure)


def field_figure(result: FieldCurvatureFit) -> np.ndarray:
    """Return the bow of the targets over the radius, what remains of it, and where both are."""
    figure = Figure(figsize=(10, 4.5), dpi=_DPI, layout='constrained')
    figure.suptitle('Field curvature')
    grid = figure.add_gridspec(2, 2, width_ratios=(3, 2))
    axes = figure.add_subplot(grid[:, 0])
    x, y = (np.concatenate([getattr(t, name) for t in result.targets]) for name in 'xy')
    squared = x**2 + y**2
    after, used = result.after.residuals, ~result.after.outliers
    bowed = after - field_curvature_offset(squared, result.coefficients)
    fine = np.linspace(0.0, result.reach, 200)
    c2, c4 = result.coefficients
    axes.plot(np.sqrt(squared[used]), bowed[used], '.', color=_MEASURED, label='measured')
    axes.plot(np.sqrt(squared[used]), after[used], '.', color=_OTHER, label='corrected')
    if not used.all():
        axes.plot(np.sqrt(squared[~used]), bowed[~used], 'x', color=_OUT, label='outlier')
    axes.plot(
        fine,
        -field_curvature_offset(fine**2, result.coefficients),
        color=_MODEL,
        label=f'−({c2:+.3f} r² {c4:+.3f} r⁴)',
    )
    axes.set(
        xlabel='r, half diagonals from the principal point',
        ylabel='sharp at, beside the plane, 1/m',
    )
    axes.grid(alpha=0.3)
    axes.legend(fontsize='small')
    largest = max(float(np.abs(result.before.residuals[used]).max()), 1e-6)
    maps = (result.before, 'as measured'), (result.after, 'corrected')
    for row, (fit, name) in enumerate(maps):
        place = figure.add_subplot(grid[row, 1])
        shown = place.scatter(
            x, y, c=fit.residuals, s=14, cmap='coolwarm', vmin=-largest, vmax=largest
        )
        place.set(
            title=f'{name}: {fit.rms:.3f} 1/m (RMS) off a plane',
            aspect='equal',
            xticks=(),
            yticks=(),
        )
        place.invert_yaxis()
        figure.colorbar(shown, ax=place, label='1/m')
    return _rendered(figure)


def _sheet(title: str, *, three: bool) -> tuple[Figure, Any, Any, Any]:
    """Return a figure with a plot, its residuals below it, and another plot beside them."""
    figure = Figure(figsize=(10 if three else 6, 4.5), dpi=_DPI, layout='constrained')
    grid = figure.add_gridspec(2, 2 if three else 1, height_ratios=(3, 1))
    upper = figure.add_subplot(grid[0, 0])
    lower = figure.add_subplot(grid[1, 0], sharex=upper)
    right = figure.add_subplot(grid[:, 1]) if three else None
    upper.tick_params(labelbottom=False)
    for axes in (upper, lower, right):
        if axes is not None:
            axes.grid(alpha=0.3)
    figure.suptitle(title)
    return figure, upper, lower, right


def _residuals(axes: Any, x: np.ndarray, values: np.ndarray, used: np.ndarray) -> None:
    axes.axhline(0.0, color=_MODEL, linewidth=1.0)
    axes.plot(x[used], values[used], 'o', color=_MEASURED, markersize=4)
    axes.plot(x[~used], values[~used], 'x', color=_OUT, markersize=4)
    largest = 1.25 * float(np.abs(values[used]).max())
    axes.set_ylim(-max(largest, 1e-6), max(largest, 1e-6))


def _polynomial(coefficients: tuple[float, ...]) -> str:
    names = ('', ' u', ' u²')
    return ' '.join(f'{c:+.4g}{n}' for c, n in zip(coefficients, names, strict=False))


def _rendered(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()
