# SPDX-License-Identifier: Apache-2.0
"""Colour scales: perceptually uniform colour maps, value ranges and legend ticks."""

from __future__ import annotations

from dataclasses import dataclass
import math

import cv2
import numpy as np

INVALID_COLOUR = (128, 132, 140)  # a grey outside all scales
# Depth beyond the limits.
NEARER_COLOUR, FARTHER_COLOUR = (170, 236, 240), (38, 96, 200)
LEVELS = 256


@dataclass(frozen=True, eq=False)
class ColourScale:
    """Mapping of values to colours.

    :param low: value at the bottom of the legend.
    :param high: value at the top.
    :param colours: (256, 3) uint8 RGB from low to high.
    :param logarithmic: equal ratios of values, instead of differences, are equally far apart.
    :param unit: unit of the values, for the legend.
    """

    low: float
    high: float
    colours: np.ndarray
    logarithmic: bool = False
    unit: str = 'm'

    def position(self, values: np.ndarray) -> np.ndarray:
        """Return positions on the legend, 0 at low and 1 at high, not clipped."""
        if self.logarithmic:
            return np.asarray(np.log(values / self.low) / np.log(self.high / self.low))
        return np.asarray((values - self.low) / (self.high - self.low))

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Return (H, W, 3) uint8 RGB; NaN becomes grey, infinite values the ends of the scale."""
        position = self.position(np.clip(values.astype(np.float64), self.low, self.high))
        image = self.colours[(np.nan_to_num(position) * (LEVELS - 1) + 0.5).astype(np.intp)]
        image[np.isnan(values)] = INVALID_COLOUR
        return image

    def ticks(self, spacing: float = 0.09) -> list[tuple[float, str]]:
        """Return legend ticks as (position 0 to 1, text), at least ``spacing`` apart."""
        found: dict[float, str] = {}
        for value in self._round_values():
            position = float(self.position(np.array(value)))
            if all(abs(position - other) >= spacing for other in found):
                found[position] = f'{value:g}'
        return sorted(found.items())

    def _round_values(self) -> list[float]:
        """Return round numbers in the range; on a logarithmic scale the roundest first."""
        if self.logarithmic:
            digits = '1 2 5 1.5 3 4 7 1.2 2.5 6 8 1.1 1.3 1.4 1.7 2.2 9'
            found = [float(f'{d}e{n}') for d in digits.split() for n in range(-4, 5)]
            found = [value for value in found if self.low <= value <= self.high]
            if len(found) > 2:
                return found
        rough = (self.high - self.low) / 8
        decade = 10.0 ** math.floor(math.log10(rough))
        step = next(m * decade for m in (1, 2, 5, 10) if m * decade >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(k * step, 10) for k in range(first, last + 1)]


def depth_scale(depth: np.ndarray, *more: np.ndarray) -> ColourScale:
    """Return a logarithmic scale over the finite depths of one or more maps, near bright.

    Its ends are the 1st and 99th percentile.
    """
    values = np.concatenate([image[np.isfinite(image)] for image in (depth, *more)])
    if values.size == 0:
        return log_depth_scale(0.5, 2.0)
    low, high = np.percentile(values, (1, 99))
    low, high = max(float(low), 1e-3), max(float(high), 2e-3)
    if high < 1.05 * low:  # a flat scene would show only noise
        low, high = low / 1.05, high * 1.05
    return log_depth_scale(low, high)


def log_depth_scale(low: float, high: float) -> ColourScale:
    """Return the scale of :func:`depth_scale` over a range in metres."""
    return ColourScale(low, high, _depth_colours(), logarithmic=True)


def relative_depth_scale() -> ColourScale:
    """Return a linear scale of inverse depth from 0 to 1 without unit, near bright."""
    return ColourScale(0.0, 1.0, _depth_colours()[::-1], unit='')


def sigma_scale(sigma: np.ndarray, unit: str = 'm') -> ColourScale:
    """Return a scale from 0 to the 98th percentile."""
    values = sigma[np.isfinite(sigma)]
    high = float(np.percentile(values, 98)) if values.size else 1.0
    return ColourScale(0.0, max(high, 1e-3), _colour_map('VIRIDIS'), unit=unit)


def confidence_scale() -> ColourScale:
    """Return a scale of per cent, bright for high confidence."""
    return ColourScale(0.0, 100.0, _colour_map('CIVIDIS'), unit='%')


def error_scale(error: np.ndarray, unit: str = 'm') -> ColourScale:
    """Return a diverging scale: blue too near, white correct, red too far."""
    values = np.abs(error[np.isfinite(error)])
    high = max(float(np.percentile(values, 98)) if values.size else 1.0, 1e-3)
    position = np.linspace(-1.0, 1.0, LEVELS)[:, None]
    near, far, white = np.array([33, 86, 165]), np.array([178, 34, 44]), np.array([247, 247, 247])
    strength = np.abs(position) ** 0.9
    colours = white + strength * (np.where(position < 0, near, far) - white)
    return ColourScale(-high, high, colours.round().astype(np.uint8), unit=unit)


def _depth_colours() -> np.ndarray:
    """Return Inferno from yellow to dark violet, without the black end that hides detail."""
    picks = np.linspace(LEVELS - 1, 0.1 * LEVELS, LEVELS).round().astype(np.intp)
    return _colour_map('INFERNO')[picks]


def _colour_map(name: str) -> np.ndarray:
    """Return (256, 3) uint8 RGB of a colour map of OpenCV."""
    ramp = np.arange(LEVELS, dtype=np.uint8)[:, None]
    return np.asarray(cv2.applyColorMap(ramp, getattr(cv2, f'COLORMAP_{name}'))[:, 0, ::-1])
