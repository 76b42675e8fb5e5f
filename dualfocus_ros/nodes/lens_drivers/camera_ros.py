# SPDX-License-Identifier: Apache-2.0
"""camera_ros: libcamera controls as parameters, the lens position in dioptres."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set
from typing import Any

from dualfocus_ros.nodes.lens_drivers.driver_profile import DriverProfile, Lock, Value, register

_AF_MANUAL = 0
_MANUAL, _AUTO = 1, 0


@register
class CameraRos(DriverProfile):
    """Lens, exposure, gain and white balance of a libcamera camera (Raspberry Pi and others).

    camera_ros applies only the newest request of each frame, so requests are atomic and more than
    a frame apart.
    """

    name = 'camera_ros'
    node_name = 'camera'
    image_prefix = 'camera'
    metadata_topic = '/diagnostics'
    min_request_interval = 0.25
    position_parameter = 'LensPosition'

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> DriverProfile:
        return cls()

    def autofocus_off_values(self, offered: Set[str]) -> dict[str, Value]:
        return {'AfMode': _AF_MANUAL} if 'AfMode' in offered else {}

    def locks(self, offered: Set[str], metadata: Mapping[str, str]) -> tuple[Lock, ...]:
        # libcamera 0.5 split AeEnable into two modes, which take precedence where both exist.
        switches: dict[str, tuple[Value, Value]] = {
            'AeEnable': (False, True),
            'ExposureTimeMode': (_MANUAL, _AUTO),
            'AnalogueGainMode': (_MANUAL, _AUTO),
        }
        switches = {name: values for name, values in switches.items() if name in offered}
        held = {name: values[0] for name, values in switches.items()}
        if held:
            # Without these, camera_ros restores the exposure time of its start.
            held |= _measured('ExposureTime', int, offered, metadata)
            held |= _measured('AnalogueGain', float, offered, metadata)
        exposure = Lock(
            'exposure and gain', held, {name: values[1] for name, values in switches.items()}
        )
        if 'AwbEnable' not in offered:
            return exposure, Lock('white balance', {}, {})
        return exposure, Lock('white balance', {'AwbEnable': False}, {'AwbEnable': True})

    def nearest_dioptres(self, dioptres: float) -> float:
        return dioptres

    def position(self, dioptres: float) -> Value:
        return float(dioptres)


def _measured(
    name: str, convert: Callable[[str], Value], offered: Set[str], metadata: Mapping[str, str]
) -> dict[str, Value]:
    """Return the value of a control in the newest frame, if the control can be set."""
    if name not in offered or name not in metadata:
        return {}
    try:
        return {name: convert(metadata[name])}
    except ValueError:
        return {}
