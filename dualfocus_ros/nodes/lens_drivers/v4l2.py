# SPDX-License-Identifier: Apache-2.0
"""v4l2_camera: V4L2 controls as parameters, the lens position in the camera's unit."""

from __future__ import annotations

from collections.abc import Mapping

from dualfocus_ros.nodes.lens_drivers.driver_profile import TableProfile, Value, register

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

    autofocus_off: Mapping[str, Value] = {
        'focus_automatic_continuous': False,
        'focus_auto': False,
    }
    lock_switches: Mapping[str, Mapping[str, tuple[Value, Value]]] = {
        'exposure': {'auto_exposure': _EXPOSURE, 'exposure_auto': _EXPOSURE},
        'gain': {'gain_automatic': _SWITCH},
        'white balance': {
            'white_balance_automatic': _SWITCH,
            'white_balance_temperature_auto': _SWITCH,
        },
    }
