# SPDX-License-Identifier: Apache-2.0
"""depthai_ros_driver: the colour camera of an OAK, the lens as an 8-bit code."""

from __future__ import annotations

from collections.abc import Mapping, Set

from dualfocus_ros.nodes.lens_drivers.driver_profile import (
    Lock,
    Value,
    required_table,
    switch_lock,
)

_CODES = range(256)


class Depthai:
    """Lens, exposure, gain and white balance of an OAK.

    Manual exposure takes ``r_exposure`` and ``r_iso`` of the driver, and manual white balance its
    ``r_whitebalance``: what the camera's own regulation had found cannot be read.

    :param positions: values of ``r_focus``, 0 to 255.
    :param dioptres: what they focus at.
    :param prefix: what stands before the names of the camera's parameters.
    :raises ValueError: without a table, or with a bad one.
    """

    name = 'depthai'
    node = 'oak'
    pause = 0.0
    publishes_metadata = False

    def __init__(
        self, positions: tuple[float, ...], dioptres: tuple[float, ...], prefix: str = ''
    ) -> None:
        self._table = required_table(self.name, positions, dioptres)
        wrong = [position for position in positions if not 0 <= position <= _CODES[-1]]
        if wrong:
            raise ValueError(
                f'calibration.positions: r_focus goes from 0 to {_CODES[-1]}, got {wrong[0]:g}'
            )
        self._prefix = prefix or 'rgb.'
        self.position_parameter = f'{self._prefix}r_focus'

    def autofocus_off_values(self, offered: Set[str]) -> dict[str, Value]:
        name = f'{self._prefix}r_set_man_focus'
        return {name: True} if name in offered else {}

    def locks(self, offered: Set[str], metadata: Mapping[str, str]) -> tuple[Lock, ...]:
        return tuple(
            switch_lock(name, offered, {f'{self._prefix}{switch}': (True, False)})
            for name, switch in (
                ('exposure and gain', 'r_set_man_exposure'),
                ('white balance', 'r_set_man_whitebalance'),
            )
        )

    def nearest(self, dioptres: float) -> float:
        return self._table.dioptres(self.position(dioptres))

    def position(self, dioptres: float) -> Value:
        return self._table.whole_position(dioptres)
