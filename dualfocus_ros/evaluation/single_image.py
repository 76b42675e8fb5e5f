# SPDX-License-Identifier: Apache-2.0
"""Single-image control: ridge regression on random features of one plane and the focus range.

A focus-based method that is hardly better has learned the appearance of scenes.
"""

from __future__ import annotations

from collections.abc import Sequence
import logging

import cv2
import numpy as np

from dualfocus_ros.datasets.registry import open_dataset
from dualfocus_ros.evaluation.classical import sum_modified_laplacian
from dualfocus_ros.evaluation.method_interface import Case, Estimate, Method
from dualfocus_ros.evaluation.protocols import StackProtocol, make_case

logger = logging.getLogger(__name__)

SINGLE_IMAGE = 'single-image'
# Training views; no command evaluates on these seeds by default.
TRAINING_DATA = ('shapes:977,count=24', 'indoor:977,count=12')
PIXELS_PER_VIEW = 3000
HIDDEN_UNITS = 256
RIDGE = 0.03
_WINDOWS = (9, 33, 65)
FEATURES = 7 + 7 * len(_WINDOWS)


class SingleImageMethod(Method):
    """Regression on the middle plane, fitted on other views of the protocol.

    :param data: data set to fit it on, ``KIND:PLACE``; empty for :data:`TRAINING_DATA`.
    """

    name = SINGLE_IMAGE

    def __init__(self, data: str, protocol: StackProtocol) -> None:
        places = (data,) if data else TRAINING_DATA
        cases = []
        for place in places:
            dataset = open_dataset(place)
            logger.info('fitting %s on %s', self.name, dataset.description)
            samples = (dataset[index] for index in range(len(dataset)))
            cases += [make_case(sample, dataset, protocol) for sample in samples]
        fitted = f'regression fitted on {len(cases)} stacks of {" and ".join(places)}'
        self.about = f'one image: the middle plane and the ends of the focus list, {fitted}'
        self._regression = SingleImageRegression(cases)

    def estimate(self, case: Case) -> Estimate:
        return Estimate(self._regression.estimate(case))


class SingleImageRegression:
    """Regression of the position, relative to the ends of the focus list, from one plane.

    :raises ValueError: if no training case has ground truth.
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
            # Clipped: an expectation over the sweep cannot reach positions outside it either.
            targets.append(np.clip((truth.reshape(-1)[chosen] - low) / (high - low), 0.0, 1.0))
        if not rows:
            raise ValueError('single-image needs views with truth to be fitted on, got none')
        x, y = np.concatenate(rows), np.concatenate(targets)
        self._mean, self._deviation = x.mean(axis=0), x.std(axis=0) + 1e-6
        self._projection = rng.normal(size=(FEATURES, HIDDEN_UNITS)) / np.sqrt(FEATURES)
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
        """Return normalised features, random ReLU units and a constant."""
        scaled = np.clip((features - self._mean) / self._deviation, -5.0, 5.0)
        units = np.maximum(scaled @ self._projection + self._bias, 0.0)
        return np.concatenate([scaled, units, np.ones((len(scaled), 1))], axis=1)


def _features(case: Case) -> np.ndarray:
    """Return (H, W, FEATURES): focus range, pixel position, local colour, contrast, sharpness."""
    order = np.argsort(case.focus, kind='stable')
    image = case.images[order[len(order) // 2]]
    scale = 1.0 / 255.0 if image.dtype == np.uint8 else 1.0
    image = image.astype(np.float32) * np.float32(scale)
    height, width = image.shape[:2]
    y, x = np.mgrid[-1.0 : 1.0 : height * 1j, -1.0 : 1.0 : width * 1j]
    focus = case.focus[order]
    ends = [np.full((height, width), value) for value in (focus[0], focus[-1])]
    maps = [*ends, x, y, x * x, y * y, x * y]
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    for window in _WINDOWS:
        size = (window, window)
        mean = cv2.blur(image, size)
        maps += [mean[..., channel] for channel in range(3)]
        variance = cv2.blur(grey * grey, size) - cv2.blur(grey, size) ** 2
        maps.append(np.log(np.maximum(variance, 0.0) + 1e-6))
        maps += [np.log(sum_modified_laplacian(grey, step, window) + 1e-4) for step in (1, 2, 4)]
    return np.stack(maps, axis=-1)
