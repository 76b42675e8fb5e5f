# SPDX-License-Identifier: Apache-2.0
"""depthai_ros_driver: the colour camera of an OAK, the lens position as an 8-bit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dualfocus_ros.nodes.lens_drivers.driver_profile import DriverProfile, TableProfile, register

_MAX_CODE = 255


@register
class Depthai(TableProfile):
    """Lens, exposure, gain and white balance of an OAK.

    Manual exposure uses the driver's ``r_exposure`` and ``r_iso``, manual white balance its
    ``r_whitebalance``: the values of the automatic controls cannot be read.

    :param positions: values of ``r_focus``, 0 to 255.
    :param dioptres: focus in 1/m at these positions.
    :param prefix: prefix of the camera's parameters; empty: ``rgb.``.
    :raises ValueError: without a calibration, or with an invalid one.
    """

    name = 'depthai'
    node_name = 'oak'
    image_prefix = 'oak/rgb'

    def __init__(
        self, positions: Sequence[float], dioptres: Sequence[float], prefix: str = ''
    ) -> None:
        super().__init__(positions, dioptres)
        invalid = [position for position in positions if not 0 <= position <= _MAX_CODE]
        if invalid:
            raise ValueError(
                f'calibration.positions: r_focus goes from 0 to {_MAX_CODE}, got {invalid[0]:g}'
            )
        prefix = prefix or 'rgb.'
        self.position_parameter = f'{prefix}r_focus'
        self.autofocus_off = {f'{prefix}r_set_man_focus': True}
        self.lock_switches = {
            'exposure and gain': {f'{prefix}r_set_man_exposure': (True, False)},
            'white balance': {f'{prefix}r_set_man_whitebalance': (True, False)},
        }

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> DriverProfile:
        positions, dioptres = values['calibration.positions'], values['calibration.dioptres']
        return cls(positions, dioptres, values['driver_prefix'])
