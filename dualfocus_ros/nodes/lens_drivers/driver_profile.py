# SPDX-License-Identifier: Apache-2.0
"""What the parameters of a camera driver are called, and what they mean. No ROS here."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Protocol

from dualfocus_ros.camera.position_table import PositionTable

Value = bool | int | float


@dataclass(frozen=True)
class Lock:
    """One of the camera's own regulations that a sweep must hold still.

    :param name: for people, such as ``exposure``.
    :param held: parameters that hold it where it is; empty if the driver has none for it.
    :param released: the values of those that switch, with which it runs again; used where the
        driver does not tell what it had before.
    """

    name: str
    held: Mapping[str, Value]
    released: Mapping[str, Value]


class DriverProfile(Protocol):
    """One kind of driver.

    :ivar name: the value of the parameter ``driver``.
    :ivar node: how the driver's node is usually called.
    :ivar position_parameter: the parameter that moves the lens.
    :ivar pause: seconds that the driver needs to itself between two requests that set different
        parameters.
    :ivar observes: whether newer versions publish metadata, which are worth waiting for.
    """

    name: str
    node: str
    position_parameter: str
    pause: float
    publishes_metadata: bool

    def autofocus_off_values(self, offered: Set[str]) -> dict[str, Value]:
        """Return the parameters that switch autofocus off; none if there is no autofocus."""

    def locks(self, offered: Set[str], metadata: Mapping[str, str]) -> tuple[Lock, ...]:
        """Return what can be held still.

        :param offered: names of all parameters of the driver.
        :param observed: what the metadata of the newest frame say, if the driver publishes any.
        """

    def nearest(self, dioptres: float) -> float:
        """Return the focus nearest to this one that the driver can really be sent to.

        :raises ValueError: if that is out of reach.
        """

    def position(self, dioptres: float) -> Value:
        """Return the value of the position parameter for a focus."""


def switch_lock(
    name: str, offered: Set[str], alternatives: Mapping[str, tuple[Value, Value]]
) -> Lock:
    """Return a lock of one parameter, the first of several possible names that is offered.

    :param alternatives: name -> the values that hold and that release.
    """
    for parameter, (held, released) in alternatives.items():
        if parameter in offered:
            return Lock(name, {parameter: held}, {parameter: released})
    return Lock(name, {}, {})


def required_table(
    name: str, positions: tuple[float, ...], dioptres: tuple[float, ...]
) -> PositionTable:
    """Return the table of a driver whose unit is not dioptres.

    :raises ValueError: if there is none, or it is no table.
    """
    if not positions and not dioptres:
        raise ValueError(
            f'driver {name}: its positions are no dioptres; give calibration.positions and '
            'calibration.dioptres, which `dualfocus calibrate focus` writes'
        )
    return PositionTable(positions, dioptres)
