# SPDX-License-Identifier: Apache-2.0
"""v4l2_camera: every V4L2 control as a parameter, the lens in a unit of the camera's own."""

from __future__ import annotations

from collections.abc import Mapping, Set

from dualfocus_ros.nodes.lens_drivers.driver_profile import (
    Lock,
    Value,
    required_table,
    switch_lock,
)

# V4L2_EXPOSURE_MANUAL and V4L2_EXPOSURE_APERTURE_PRIORITY, which webcams call automatic.
_EXPOSURE = (1, 3)
_SWITCH = (False, True)


class V4l2:
    """Lens, exposure, gain and white balance of a V4L2 camera.

    The parameters have the kernel's names of the controls, which newer kernels changed: both are
    known.

    :param positions: values of ``focus_absolute``.
    :param dioptres: what they focus at.
    :raises ValueError: without a table, or with a bad one.
    """

    name = 'v4l2'
    node = 'v4l2_camera'
    position_parameter = 'focus_absolute'
    pause = 0.0
    publishes_metadata = False

    def __init__(self, positions: tuple[float, ...], dioptres: tuple[float, ...]) -> None:
        self._table = required_table(self.name, positions, dioptres)

    def autofocus_off_values(self, offered: Set[str]) -> dict[str, Value]:
        names = ('focus_automatic_continuous', 'focus_auto')
        return {name: False for name in names if name in offered}

    def locks(self, offered: Set[str], metadata: Mapping[str, str]) -> tuple[Lock, ...]:
        return (
            switch_lock(
                'exposure',
                offered,
                {
                    'auto_exposure': _EXPOSURE,
                    'exposure_auto': _EXPOSURE,
                },
            ),
            switch_lock('gain', offered, {'gain_automatic': _SWITCH}),
            switch_lock(
                'white balance',
                offered,
                {
                    'white_balance_automatic': _SWITCH,
                    'white_balance_temperature_auto': _SWITCH,
                },
            ),
        )

    def nearest(self, dioptres: float) -> float:
        return self._table.dioptres(self.position(dioptres))

    def position(self, dioptres: float) -> Value:
        return self._table.whole_position(dioptres)
