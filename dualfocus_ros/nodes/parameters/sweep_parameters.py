# SPDX-License-Identifier: Apache-2.0
"""Parameters of ``focus_sweep_node``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import partial
from typing import Any

from dualfocus_ros.focal_stack import MAX_PLANES, MIN_PLANES
from dualfocus_ros.nodes.lens_drivers import DRIVERS, PROFILES, TOPIC, DriverProfile
from dualfocus_ros.nodes.parameters.parameter_spec import ParameterSpec
from dualfocus_ros.sweep.sweep_controller import MODES, PATTERNS, SweepSettings, uniform_planes

# Settable only at start.
_fixed = partial(ParameterSpec, read_only=True)
_NODE_NAMES = ', '.join(f'{p.node_name} for {name}' for name, p in sorted(PROFILES.items()))

PARAMETERS = (
    _fixed(
        'driver',
        TOPIC,
        f'How to move the lens; {TOPIC}: publish focus_command for a lens node; others: set the '
        'parameters of that camera driver',
        choices=DRIVERS,
    ),
    _fixed('driver_node', '', f'Name of the driver node; empty: {_NODE_NAMES}'),
    _fixed(
        'driver_prefix',
        '',
        'Prefix of the camera parameters of an OAK; empty: rgb. (driver depthai)',
    ),
    _fixed(
        'driver_timeout',
        1.0,
        'Timeout of a call to the driver, and pause between attempts to set it up (s)',
        0.05,
        60.0,
    ),
    _fixed(
        'driver_check_period',
        1.0,
        'Period of checks that the driver keeps the parameters set (s)',
        0.1,
        60.0,
    ),
    _fixed(
        'lock_exposure',
        True,
        'Lock exposure, gain and white balance during sweeps, where the driver can',
    ),
    _fixed(
        'calibration.positions',
        (),
        'Lens positions in the unit of the driver, for drivers whose unit is not dioptres; '
        '`dualfocus calibrate focus` measures them',
        -1e6,
        1e6,
    ),
    _fixed(
        'calibration.dioptres',
        (),
        'Focus at these positions, strictly increasing or decreasing (1/m)',
        -50.0,
        100.0,
    ),
    ParameterSpec(
        'mode',
        'continuous',
        'continuous: sweep without end; once: one sweep per call of ~/capture; hold: rest at '
        'hold_dioptres',
        choices=MODES,
    ),
    ParameterSpec(
        'pattern',
        'triangle',
        'triangle: reverse at the last plane; sawtooth: return to the first',
        choices=PATTERNS,
    ),
    ParameterSpec('near_dioptres', 2.5, 'Nearest plane (1/m)', 0.0, 50.0),
    ParameterSpec('far_dioptres', 0.2, 'Farthest plane (1/m); 0: infinity', 0.0, 50.0),
    ParameterSpec(
        'count',
        8,
        'Number of planes, evenly spaced in dioptres from near to far',
        MIN_PLANES,
        MAX_PLANES,
    ),
    ParameterSpec(
        'planes_dioptres',
        (),
        'Planes in the order of a sweep, instead of near, far and count (1/m)',
        0.0,
        50.0,
    ),
    ParameterSpec('hold_dioptres', 1.0, 'Focus of mode hold (1/m)', 0.0, 50.0),
    ParameterSpec(
        'tolerance',
        0.02,
        'Largest distance between reported and commanded focus on target (1/m)',
        1e-4,
        1.0,
    ),
    ParameterSpec('settle_frames', 1, 'Images on target before the next plane', 1, 100),
    ParameterSpec('settle_time', 0.0, 'Time on target before the next plane (s)', 0.0, 10.0),
    ParameterSpec('model_time', 0.3, 'Time per plane without focus reports (s)', 0.0, 10.0),
    ParameterSpec(
        'report_timeout',
        1.0,
        'Time without a focus report after which none is expected; three times as long before '
        'the first (s)',
        0.05,
        60.0,
    ),
    ParameterSpec(
        'resend_time',
        0.5,
        'Time after which a command is repeated while the lens is off target (s)',
        0.05,
        60.0,
    ),
    ParameterSpec(
        'plane_timeout',
        4.0,
        'Time after which a plane that the lens does not reach is skipped (s)',
        0.1,
        600.0,
    ),
    _fixed(
        'command.latency_frames',
        2,
        'Images after a command that still show the old position or the movement (drivers '
        'without metadata); as in the depth node',
        0,
        60,
    ),
    _fixed(
        'command.settling_time',
        0.1,
        'Time after a command until the lens rests (drivers without metadata); as in the depth '
        'node (s)',
        0.0,
        10.0,
    ),
    _fixed(
        'camera_ros.latency_frames',
        0,
        'Images after a new LensPosition during which the lens still moves (driver camera_ros); '
        'as in the depth node',
        0,
        60,
    ),
    _fixed(
        'camera_ros.settling_time',
        0.0,
        'Time after a new LensPosition until the lens rests (driver camera_ros); as in the depth '
        'node (s)',
        0.0,
        10.0,
    ),
)


def sweep_settings(values: Mapping[str, Any], profile: DriverProfile | None) -> SweepSettings:
    """Return the settings of the sweep, with planes that the driver can be set to.

    :raises ValueError: if the parameters contradict each other, or a plane is out of range.
    """
    planes = values['planes_dioptres'] or uniform_planes(
        values['near_dioptres'], values['far_dioptres'], values['count']
    )
    hold = values['hold_dioptres']
    if profile is not None:
        planes = [profile.nearest_dioptres(plane) for plane in planes]
        hold = profile.nearest_dioptres(hold) if values['mode'] == 'hold' else hold
    # The other settings are parameters of the same name and unit.
    shared = {f.name: values[f.name] for f in fields(SweepSettings) if f.name in values}
    return SweepSettings(tuple(planes), hold=hold, **shared)
