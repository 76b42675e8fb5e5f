# SPDX-License-Identifier: Apache-2.0
"""Registry of the inputs of the depth node."""

from __future__ import annotations

from collections.abc import Callable

from dualfocus_ros.nodes.inputs.planes_input import PlanesInput
from dualfocus_ros.nodes.inputs.stack_input import StackInput
from dualfocus_ros.nodes.inputs.stack_source import StackSource
from dualfocus_ros.nodes.inputs.sweep_input import SweepInput

# Input of each value of the parameter `input`.
INPUTS: dict[str, Callable[..., StackSource]] = {
    'sweep': SweepInput,
    'planes': PlanesInput,
    'stack': StackInput,
}
