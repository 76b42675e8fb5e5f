# SPDX-License-Identifier: Apache-2.0
"""camera_ros: libcamera's controls as parameters, the lens in dioptres."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Set

from dualfocus_ros.nodes.lens_drivers.driver_profile import Lock, Value

_AF_MANUAL = 0
_MANUAL, _AUTO = 1, 0


class CameraRos:
    """Lens, exposure, gain and white balance of a libcamera camera (Raspberry Pi and others).

    The node applies only the newest set of parameters at each frame and forgets one that came
    before it in the same frame, so requests are atomic and apart by more than a frame.
    """

    name = 'camera_ros'
    node = 'camera'
    position_parameter = 'LensPosition'
    pause = 0.25
    publishes_metadata = True

    def autofocus_off_values(self, offered: Set[str]) -> dict[str, Value]:
        return {'AfMode': _AF_MANUAL} if 'AfMode' in offered else {}

    def locks(self, offered: Set[str], metadata: Mapping[str, str]) -> tuple[Lock, ...]:
        # libcamera 0.5 took AeEnable apart into two modes; the modes win where both exist.
        switches: dict[str, tuple[Value, Value]] = {
            'AeEnable': (False, True),
            'ExposureTimeMode': (_MANUAL, _AUTO),
            'AnalogueGainMode': (_MANUAL, _AUTO),
        }
        switches = {name: values for name, values in switches.items() if name in offered}
        held = {name: values[0] for name, values in switches.items()}
        if held:
            # Otherwise camera_ros brings back the exposure time that it started with.
            held |= _observed('ExposureTime', int, offered, metadata)
            held |= _observed('AnalogueGain', float, offered, metadata)
        exposure = Lock(
            'exposure and gain', held, {name: values[1] for name, values in switches.items()}
        )
        if 'AwbEnable' not in offered:
            return exposure, Lock('white balance', {}, {})
        return exposure, Lock('white balance', {'AwbEnable': False}, {'AwbEnable': True})

    def nearest(self, dioptres: float) -> float:
        return dioptres

    def position(self, dioptres: float) -> Value:
        return float(dioptres)


def _observed(
    name: str, kind: Callable[[str], Value], offered: Set[str], metadata: Mapping[str, str]
) -> dict[str, Value]:
    """Return the value that the newest frame was taken with, for a control that can be set."""
    if name not in offered or name not in metadata:
        return {}
    try:
        return {name: kind(metadata[name])}
    except ValueError:
        return {}
