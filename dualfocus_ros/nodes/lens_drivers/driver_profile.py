# SPDX-License-Identifier: Apache-2.0
"""Parameters of a camera driver, and the registry of all drivers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from dualfocus_ros.camera.position_table import PositionTable

Value = bool | int | float


@dataclass(frozen=True)
class Lock:
    """Parameters that lock one automatic control of the camera during sweeps.

    :param name: name in messages, such as ``exposure``.
    :param held: parameters that lock the control at its value; empty: the driver has none.
    :param released: the switches among them, with the values that unlock the control; used where
        the driver did not report its previous values.
    """

    name: str
    held: Mapping[str, Value]
    released: Mapping[str, Value]


class DriverProfile:
    """Parameters of one camera driver; positions in dioptres unless a subclass converts them.

    :cvar name: value of the parameter ``driver``.
    :cvar node_name: default name of the driver's node.
    :cvar image_prefix: default prefix of its image topics; empty: none.
    :cvar metadata_topic: default topic of its metadata of each frame, in the format of camera_ros;
        empty: none.
    :cvar min_request_interval: seconds between two requests that set different parameters.
    :ivar position_parameter: parameter that moves the lens.
    :ivar autofocus_off: parameters that switch autofocus off, of all versions of the driver.
    :ivar lock_switches: parameters that switch each automatic control, with the values that lock
        and unlock it; the first one that the driver has is used.
    """

    name: ClassVar[str]
    node_name: ClassVar[str]
    image_prefix: ClassVar[str] = ''
    metadata_topic: ClassVar[str] = ''
    min_request_interval: ClassVar[float] = 0.0
    position_parameter: str
    autofocus_off: Mapping[str, Value]
    lock_switches: Mapping[str, Mapping[str, tuple[Value, Value]]]

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> DriverProfile:
        """Return the profile for the parameters of ``focus_sweep_node``.

        :raises ValueError: if the driver's calibration is missing or invalid.
        """
        return cls()

    def autofocus_off_values(self, offered: Set[str]) -> dict[str, Value]:
        """Return the parameters that switch autofocus off; empty without autofocus.

        :param offered: names of all parameters of the driver.
        """
        return {name: value for name, value in self.autofocus_off.items() if name in offered}

    def locks(self, offered: Set[str], metadata: Mapping[str, str]) -> tuple[Lock, ...]:
        """Return the locks of exposure, gain and white balance.

        :param offered: names of all parameters of the driver.
        :param metadata: metadata of the newest frame, if the driver publishes them.
        """
        locks = []
        for name, switches in self.lock_switches.items():
            used = next((switch for switch in switches if switch in offered), None)
            if used is None:
                locks.append(Lock(name, {}, {}))
            else:
                held, released = switches[used]
                locks.append(Lock(name, {used: held}, {used: released}))
        return tuple(locks)

    def nearest_dioptres(self, dioptres: float) -> float:
        """Return the nearest focus that the driver can be set to.

        :raises ValueError: if the focus is out of range.
        """
        return dioptres

    def position(self, dioptres: float) -> Value:
        """Return the value of the position parameter for a focus in dioptres."""
        return float(dioptres)


class TableProfile(DriverProfile):
    """Parameters of a driver whose positions are whole numbers in its own unit.

    :param positions: values of the position parameter.
    :param dioptres: focus in 1/m at these positions.
    :raises ValueError: without a calibration, or with an invalid one.
    """

    def __init__(self, positions: Sequence[float], dioptres: Sequence[float]) -> None:
        if not positions and not dioptres:
            raise ValueError(
                f'driver {self.name} needs a calibration, because its lens positions are not in '
                'dioptres: set calibration.positions and calibration.dioptres, which '
                '`dualfocus calibrate focus` writes'
            )
        self._table = PositionTable(positions, dioptres)

    @classmethod
    def from_parameters(cls, values: Mapping[str, Any]) -> DriverProfile:
        return cls(values['calibration.positions'], values['calibration.dioptres'])

    def nearest_dioptres(self, dioptres: float) -> float:
        return self._table.dioptres(self.position(dioptres))

    def position(self, dioptres: float) -> Value:
        return self._table.whole_position(dioptres)


PROFILES: dict[str, type[DriverProfile]] = {}

_Profile = TypeVar('_Profile', bound=type[DriverProfile])


def register(profile: _Profile) -> _Profile:
    """Add a driver to the registry; a class decorator."""
    PROFILES[profile.name] = profile
    return profile


def make_profile(values: Mapping[str, Any]) -> DriverProfile | None:
    """Return the profile of the driver in the parameters; None for the driver ``topic``.

    :raises ValueError: if the driver's calibration is missing or invalid.
    """
    profile = PROFILES.get(values['driver'])
    return None if profile is None else profile.from_parameters(values)
