# SPDX-License-Identifier: Apache-2.0
"""Settings of the parts of the depth node, derived from its parameters."""

from __future__ import annotations

import re

from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.exceptions import SettingsError
from dualfocus_ros.focal_stack import MAX_PLANES, MIN_PLANES
from dualfocus_ros.inference.settings import EstimatorSettings
from dualfocus_ros.nodes.parameters.depth_parameters import DepthNodeSettings, field_name
from dualfocus_ros.sweep.assembler import AssemblerSettings
from dualfocus_ros.sweep.focus_sources import SettlingModel
from dualfocus_ros.sweep.plane_synchronizer import PlaneSynchronizerSettings
from dualfocus_ros.sweep.time_synchronizer import TimeSynchronizerSettings

_DEVICE = re.compile(r'auto|cpu|cuda(:\d+)?')
# Parameters by the field of EstimatorSettings.
ESTIMATOR_PARAMETERS = {
    'alignment': 'alignment.mode',
    'breathing': 'breathing.model',
    'breathing_centre_drift': 'breathing.centre_drift',
    'breathing_coefficients': 'breathing.coefficients',
    'decimation': 'depth.decimation',
    'depth_max': 'depth.max',
    'depth_min': 'depth.min',
    'edge_filter': 'depth.edge_filter',
    'field_curvature': 'lens.field_curvature',
    'kappa': 'lens.kappa',
    'lens': 'lens.focal_length, lens.f_number and lens.pixel_pitch',
    'max_motion': 'alignment.max_motion',
    'max_sigma': 'depth.max_sigma',
    'normalise_exposure': 'exposure.normalise',
    'points_color': 'points.color',
    'points_decimation': 'points.decimation',
    'points_voxel_size': 'points.voxel_size',
}


def assembler_settings(parameters: DepthNodeSettings) -> AssemblerSettings:
    return AssemblerSettings(
        size=parameters.stack_size,
        min_size=parameters.stack_min_size,
        timeout_ns=_nanoseconds(parameters.stack_timeout),
        accept_moving=parameters.stack_accept_moving,
        command_tolerance=parameters.stack_command_tolerance,
        sliding=parameters.stack_mode == 'sliding',
        rectify=parameters.rectify == 'auto',
        synchronizer=TimeSynchronizerSettings(
            window_ns=_nanoseconds(parameters.stack_pairing_window),
            exact_cameras=parameters.camera_info_policy == 'exact',
        ),
    )


def synchronizer_settings(parameters: DepthNodeSettings) -> PlaneSynchronizerSettings:
    return PlaneSynchronizerSettings(
        parameters.planes_focus_dioptres,
        _nanoseconds(parameters.stack_sync_tolerance),
        parameters.stack_min_size,
        _nanoseconds(parameters.stack_timeout),
    )


def settling_model(parameters: DepthNodeSettings) -> SettlingModel:
    if parameters.focus_source == 'command':
        return SettlingModel(parameters.command_latency_frames, parameters.command_settling_time)
    return SettlingModel(parameters.camera_ros_latency_frames, parameters.camera_ros_settling_time)


def estimator_settings(parameters: DepthNodeSettings) -> EstimatorSettings:
    """Return the settings of the estimator.

    :raises ValueError: if the values contradict each other.
    """
    known = (parameters.lens_focal_length, parameters.lens_f_number, parameters.lens_pixel_pitch)
    lens = Lens(*known) if all(value > 0.0 for value in known) else None
    values = {
        field: getattr(parameters, field_name(name))
        for field, name in ESTIMATOR_PARAMETERS.items()
        if field != 'lens'
    }
    try:
        return EstimatorSettings(lens=lens, **values)
    except SettingsError as error:
        raise ValueError(error.with_names(ESTIMATOR_PARAMETERS)) from None


def validate(parameters: DepthNodeSettings) -> list[str]:
    """Return errors in the combination of values that are allowed one by one."""
    errors = []
    if not _DEVICE.fullmatch(parameters.device):
        errors.append(f'device must be auto, cuda, cuda:N or cpu, got {parameters.device!r}')
    if not parameters.model:
        errors.append(
            'model must be auto, a shipped name or the path of a .safetensors file, got an empty '
            'string'
        )
    if parameters.stack_size == 1:
        errors.append('stack.size must be 0 or from 2 to 32, got 1: one plane has no depth')
    if parameters.input == 'planes':
        focus = parameters.planes_focus_dioptres
        if not MIN_PLANES <= len(focus) <= MAX_PLANES or len(set(focus)) != len(focus):
            errors.append(
                f'planes.focus_dioptres must have {MIN_PLANES} to {MAX_PLANES} different values '
                f'with input planes, got {list(focus)}'
            )
    try:
        estimator_settings(parameters)
    except ValueError as error:
        errors.append(str(error))
    return errors


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
