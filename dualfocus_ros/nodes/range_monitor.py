# SPDX-License-Identifier: Apache-2.0
"""Watches whether depth is asked for where the lens cannot measure it, and says so once."""

from __future__ import annotations

from dualfocus_ros.camera.depth_resolution import RangeCheck, check_range
from dualfocus_ros.inference.settings import EstimatorSettings


class RangeMonitor:
    """Compares the parameters and the planes of each stack with what the lens can measure."""

    def __init__(self) -> None:
        self.check: RangeCheck | None = None
        self._said: RangeCheck | None = None

    def look(self, settings: EstimatorSettings, far_dioptres: float) -> str | None:
        """Note what is asked for now; return a warning unless it has been given before.

        The warning comes again only after a change of the lens, or where more is asked for than
        before. A lens that reports its position with noise asks for more by less than 10 %.

        :param far_dioptres: the focus of the plane focused farthest.
        """
        kappa = settings.blur_per_dioptre
        self.check = None
        if kappa is None:
            return None
        self.check = check = check_range(kappa, settings.depth_max, far_dioptres)
        said = self._said
        known = said is not None and said.kappa == kappa and check.asked <= 1.1 * said.asked
        if not check.beyond or known:
            return None
        self._said = check
        return str(check)
