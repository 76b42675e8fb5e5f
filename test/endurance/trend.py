# SPDX-License-Identifier: Apache-2.0
"""Whether a series of samples has a trend, and whether that is more than its noise."""

from __future__ import annotations

from dataclasses import dataclass
import math

import numpy as np

# Two-sided, about one false alarm in 370 series of independent noise.
SIGNIFICANT = 3.0
FEWEST = 8


@dataclass(frozen=True)
class Trend:
    """A straight line through samples; the slope and its standard error per hour."""

    slope: float
    error: float
    mean: float

    @property
    def significant(self) -> bool:
        """Whether the slope is more than its noise."""
        return abs(self.slope) > SIGNIFICANT * self.error

    def rises_beyond(self, bound: float) -> bool:
        """Whether it rises, significantly, and faster than a bound per hour."""
        return self.significant and self.slope > bound


def trend(seconds: np.ndarray, values: np.ndarray) -> Trend:
    """Return the least-squares line of samples taken at regular times.

    Neighbouring samples of memory or latency resemble each other, so that there are fewer
    independent ones than samples. The standard error is that of n (1 - r) / (1 + r) independent
    samples, r being the correlation of a residual with the next, where that is above zero.

    :param seconds: times, (n,).
    :param values: (n,), NaN where there is none.
    :raises ValueError: for fewer than 8 samples.
    """
    known = np.isfinite(values)
    hours, values = seconds[known] / 3600.0, values[known].astype(float)
    count = len(values)
    if count < FEWEST:
        raise ValueError(f'a trend needs at least {FEWEST} samples, got {count}')
    mean = float(values.mean())
    centred = hours - hours.mean()
    spread = float((centred**2).sum())
    slope = float((centred * (values - mean)).sum()) / spread
    residuals = values - mean - slope * centred
    power = float((residuals**2).sum())
    if power <= 1e-24 * max(1.0, mean * mean):
        return Trend(slope, 0.0, mean)
    r = float((residuals[1:] * residuals[:-1]).sum()) / power
    r = min(max(r, 0.0), 1.0 - 2.0 / count)
    independent = max(count * (1.0 - r) / (1.0 + r), 3.0)
    variance = power / count * independent / (independent - 2.0)
    return Trend(slope, math.sqrt(variance / spread * count / independent), mean)
