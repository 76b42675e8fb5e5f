# SPDX-License-Identifier: Apache-2.0
"""The control that sees one plane only: what position, colour and blur say without a sweep.

A ridge regression on random features, fitted on views that are rendered by the protocol under
test. It knows the focus list, as every method does, and one plane, the middle one. Where a method
that sees the whole stack is not much better, it has learned what scenes look like rather than to
measure focus.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from dualfocus_ros.evaluation.cases import Case
from dualfocus_ros.evaluation.classical import sum_modified_laplacian

PIXELS_PER_VIEW = 3000  # drawn per view
HIDDEN_UNITS = 256
RIDGE = 0.03
_WINDOWS = (9, 33, 65)


class SingleImageRegression:
    """Inverse depth, relative to the ends of the focus list, from features of one plane.

    :param cases: stacks with truth to fit it on, not those to be judged.
    :raises ValueError: if no case has truth within its focus list.
    """

    def __init__(self, cases: Sequence[Case], seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        rows, targets = [], []
        for case in cases:
            low, high = float(case.focus.min()), float(case.focus.max())
            truth = case.truth_position
            usable = np.flatnonzero(np.isfinite(truth))
            if not usable.size:
                continue
            chosen = rng.choice(usable, min(PIXELS_PER_VIEW, usable.size), replace=False)
            rows.append(_features(case).reshape(-1, FEATURES)[chosen])
            # What lies outside the sweep is out of reach of an expectation over it, too.
            targets.append(np.clip((truth.reshape(-1)[chosen] - low) / (high - low), 0.0, 1.0))
        if not rows:
            raise ValueError('the single-image control needs views with truth to be fitted on')
        x, y = np.concatenate(rows), np.concatenate(targets)
        self._mean, self._deviation = x.mean(axis=0), x.std(axis=0) + 1e-6
        self._mix = rng.normal(size=(FEATURES, HIDDEN_UNITS)) / np.sqrt(FEATURES)
        self._bias = rng.normal(size=HIDDEN_UNITS)
        hidden = self._hidden(x)
        normal = hidden.T @ hidden / len(x) + RIDGE * np.eye(hidden.shape[1])
        self._weights = np.linalg.solve(normal, hidden.T @ y / len(x))

    def estimate(self, case: Case) -> np.ndarray:
        """Return the position of every pixel, (H, W) float32."""
        low, high = float(case.focus.min()), float(case.focus.max())
        hidden = self._hidden(_features(case).reshape(-1, FEATURES))
        relative = np.clip(hidden @ self._weights, 0.0, 1.0).reshape(case.truth.shape)
        return np.asarray(low + (high - low) * relative, dtype=np.float32)

    def _hidden(self, features: np.ndarray) -> np.ndarray:
        scaled = np.clip((features - self._mean) / self._deviation, -5.0, 5.0)
        ramps = np.maximum(scaled @ self._mix + self._bias, 0.0)
        return np.concatenate([scaled, ramps, np.ones((len(scaled), 1))], axis=1)


def _features(case: Case) -> np.ndarray:
    """Return (H, W, FEATURES): focus list, place, colour, contrast and sharpness around."""
    order = np.argsort(case.focus, kind='stable')
    image = case.images[order[len(order) // 2]]
    scale = 1.0 / 255.0 if image.dtype == np.uint8 else 1.0
    image = image.astype(np.float32) * np.float32(scale)
    height, width = image.shape[:2]
    y, x = np.mgrid[-1.0 : 1.0 : height * 1j, -1.0 : 1.0 : width * 1j]
    focus = case.focus[order]
    maps = [np.full((height, width), value) for value in (focus[0], focus[-1])]
    maps += [x, y, x * x, y * y, x * y]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    for window in _WINDOWS:
        size = (window, window)
        mean = cv2.blur(image, size)
        maps += [mean[..., channel] for channel in range(3)]
        variance = cv2.blur(grey * grey, size) - cv2.blur(grey, size) ** 2
        maps.append(np.log(np.maximum(variance, 0.0) + 1e-6))
        maps += [np.log(sum_modified_laplacian(grey, step, window) + 1e-4) for step in (1, 2, 4)]
    return np.stack(maps, axis=-1)


FEATURES = 7 + 7 * len(_WINDOWS)
