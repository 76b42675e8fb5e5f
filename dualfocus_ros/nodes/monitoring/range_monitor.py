# SPDX-License-Identifier: Apache-2.0
"""Monitor of the requested depth range against the range that the lens can measure."""

from __future__ import annotations

from dualfocus_ros.camera.depth_resolution import RangeCheck, check_range
from dualfocus_ros.inference.settings import EstimatorSettings


class RangeMonitor:
    """Compares the depth range of the parameters and of each stack with the limit of the lens."""

    def __init__(self) -> None:
        # Result for the last stack; None without one, or if the lens is not known.
        self.last: RangeCheck | None = None
        self._warned: RangeCheck | None = None

    def check(self, settings: EstimatorSettings, far_dioptres: float) -> str | None:
        """Check the requested range; return a warning unless it was given before.

        The warning is repeated after a change of the lens, or if the requested range grows by
        more than 10 %; noise of the reported lens position is smaller.

        :param far_dioptres: focus of the plane focused farthest.
        """
        kappa = settings.blur_per_dioptre
        self.last = None
        if kappa is None:
            return None
        self.last = check = check_range(kappa, settings.depth_max, far_dioptres)
        warned = self._warned
        if not check.exceeded:
            return None
        if (
            warned is not None
            and warned.kappa == kappa
            and check.requested <= 1.1 * warned.requested
        ):
            return None
        self._warned = check
        return str(check)
