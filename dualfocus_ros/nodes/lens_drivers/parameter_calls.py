# SPDX-License-Identifier: Apache-2.0
"""Calls to the parameter services of a driver, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import enum

from dualfocus_ros.nodes.lens_drivers.driver_profile import Value


class ParameterService(enum.Enum):
    """A parameter service of every ROS node."""

    LIST = 'list_parameters'
    GET = 'get_parameters'
    SET = 'set_parameters_atomically'


@dataclass(frozen=True, eq=False)
class ParameterCall:
    """A call to a parameter service.

    The answer is a list of names (LIST), a dict of values by name (GET, None where unset), or the
    reason of a refusal, empty on success (SET).
    """

    service: ParameterService
    names: tuple[str, ...] = ()
    values: Mapping[str, Value] | None = None
