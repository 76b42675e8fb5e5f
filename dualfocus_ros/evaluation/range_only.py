# SPDX-License-Identifier: Apache-2.0
"""Range-only control: a constant estimate from the focus list, without images."""

from __future__ import annotations

import numpy as np

from dualfocus_ros.evaluation.cases import Case
from dualfocus_ros.evaluation.method_interface import Estimate, Method

RANGE_ONLY = 'range-only'


class RangeOnlyMethod(Method):
    """Expectation of the focus list under equal probabilities."""

    name = RANGE_ONLY
    about = 'no image: expectation of the focus list under equal probabilities'

    def estimate(self, case: Case) -> Estimate:
        """Return ``case.middle`` for every pixel."""
        return Estimate(np.full(case.truth.shape, case.middle, np.float32))
