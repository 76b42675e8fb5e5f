# SPDX-License-Identifier: Apache-2.0
"""v4l2_camera: V4L2 controls as parameters, the lens position in the camera's unit."""

from __future__ import annotations

from collections.abc import Mapping, Set

from dualfocus_ros.nodes.lens_drivers.driver_profile import (
    Lock,
    TableProfile,
    Value,
    register,
    switch_lock,
)

# V4L2_EXPOSURE_MANUAL and V4L2_EXPOSURE_APERTURE_PRIORITY, the automatic mode of webcams.
_EXPOSURE = (1, 3)
_SWITCH = (False, True)


@register
class V4l2(TableProfile):
    """Lens, exposure, gain and white balance of a V4L2 camera.

    Parameters have the kernel's names of the controls, of newer and of older kernels.
    """

    name = 'v4l2'
    node_name = 'v4l2_camera'
    position_parameter = 'focus_absolute'

    def autofocus_off_values(self, offered: Set[str]) -> dict[str, Value]:
        names = ('focus_automatic_continuous', 'focus_auto')
        return {name: False for name in names if name in offered}

    def locks(self, offered: Set[str], metadata: Mapping[str, str]) -> tuple[Lock, ...]:
        return (
            switch_lock(
                'exposure', offered, {'auto_exposure': _EXPOSURE, 'exposure_auto': _EXPOSURE}
            ),
            switch_lock('gain', offered, {'gain_automatic': _SWITCH}),
            switch_lock(
                'white balance',
                offered,
                {'white_balance_automatic': _SWITCH, 'white_balance_temperature_auto': _SWITCH},
            ),
        )
