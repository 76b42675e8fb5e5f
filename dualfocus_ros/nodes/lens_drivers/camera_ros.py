# SPDX-License-Identifier: Apache-2.0
"""camera_ros: libcamera controls as parameters, the lens position in dioptres."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set

from dualfocus_ros.nodes.lens_drivers.driver_profile import DriverProfile, Lock, Value, register


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

    autofocus_off: Mapping[str, Value] = {'AfMode': 0}
    lock_switches: Mapping[str, Mapping[str, tuple[Value, Value]]] = {
        'white balance': {'AwbEnable': (False, True)}
    }

    def locks(self, offered: Set[str], metadata: Mapping[str, str]) -> tuple[Lock, ...]:
        # libcamera 0.5 split AeEnable into two modes, which take precedence where both exist.
        manual = {'AeEnable': False, 'ExposureTimeMode': 1, 'AnalogueGainMode': 1}
        automatic = {'AeEnable': True, 'ExposureTimeMode': 0, 'AnalogueGainMode': 0}
        held: dict[str, Value] = {n: value for n, value in manual.items() if n in offered}
        released = {name: automatic[name] for name in held}
        if held:
            # Without these, camera_ros restores the exposure time of its start.
            held |= _measured('ExposureTime', int, offered, metadata)
            held |= _measured('AnalogueGain', float, offered, metadata)
        exposure = Lock('exposure and gain', held, released)
        return exposure, *super().locks(offered, metadata)


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
