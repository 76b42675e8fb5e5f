# SPDX-License-Identifier: Apache-2.0
"""Every parameter of the depth node: name, default, meaning, range, and what must fit together.

The one table from which the ROS parameters are declared, checked and documented.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, dataclass, field, fields
import re
from typing import Any, TypeVar

from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.exceptions import SettingsError
from dualfocus_ros.focal_stack import MAX_PLANES, MIN_PLANES
from dualfocus_ros.inference.settings import ALIGNMENT_MODES, BREATHING_MODELS, EstimatorSettings
from dualfocus_ros.nodes.parameter_spec import ParameterSpec
from dualfocus_ros.sweep.assembler import AssemblerSettings
from dualfocus_ros.sweep.focus_sources import SettlingModel
from dualfocus_ros.sweep.plane_synchronizer import PlaneSynchronizerSettings
from dualfocus_ros.sweep.time_synchronizer import TimeSynchronizerSettings

_GROUPS = (
    'stack',
    'planes',
    'depth',
    'points',
    'lens',
    'breathing',
    'alignment',
    'exposure',
    'command',
    'camera_ros',
)
_DEVICE = re.compile(r'auto|cpu|cuda(:\d+)?')

_T = TypeVar('_T')


def _parameter(
    default: _T,
    description: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    read_only: bool = False,
) -> _T:
    spec = {
        'description': description,
        'low': low,
        'high': high,
        'choices': choices,
        'read_only': read_only,
    }
    return field(default=default, metadata=spec)


@dataclass(frozen=True)
class DepthNodeSettings:
    """The values of all parameters at one moment."""

    model: str = _parameter(
        'auto',
        'Weights: a shipped name, or the path of a .safetensors file; auto takes the '
        'default of this release',
        read_only=True,
    )
    device: str = _parameter(
        'auto',
        'Where to compute: auto (a GPU if there is one), cuda, cuda:N or cpu',
        read_only=True,
    )
    precision: str = _parameter(
        'auto',
        'Number format of the convolutions; auto is fp16 on CUDA and fp32 on a CPU',
        choices=('auto', 'fp32', 'fp16', 'bf16'),
        read_only=True,
    )
    threads: int = _parameter(
        0,
        'CPU threads of the network; 0 takes all processors but one',
        low=0,
        high=256,
        read_only=True,
    )
    cuda_graphs: bool = _parameter(
        True,
        'On a GPU, launch the network in one piece; where that fails the node goes on '
        'without and says so',
        read_only=True,
    )
    input: str = _parameter(
        'sweep',
        'sweep: one camera whose focus moves; planes: several cameras at fixed focus, '
        'taken together; stack: whole FocalStack messages',
        choices=('sweep', 'planes', 'stack'),
        read_only=True,
    )
    focus_source: str = _parameter(
        'focus_state',
        'Where the focus of an image is known from: FocusState with the stamp of '
        'the image; metadata of camera_ros with the stamp of the image; or the commanded position '
        'and a settling model',
        choices=('focus_state', 'camera_ros', 'command'),
        read_only=True,
    )
    image_transport: str = _parameter(
        'raw',
        'raw: image_raw; compressed: image_raw/compressed (JPEG or PNG)',
        choices=('raw', 'compressed'),
        read_only=True,
    )
    autostart: bool = _parameter(
        True, 'Configure and activate without waiting for a lifecycle manager', read_only=True
    )
    camera_info_policy: str = _parameter(
        'exact',
        'exact: the camera_info with the stamp of the image; latest: the newest one',
        choices=('exact', 'latest'),
    )
    rectify: str = _parameter(
        'auto',
        'auto: undistort images whose camera_info has distortion (plumb_bob, '
        'rational_polynomial, equidistant); off: take them as rectified',
        choices=('auto', 'off'),
    )
    stamp_policy: str = _parameter(
        'reference',
        'Stamp of the outputs: that of the reference plane (the one focused nearest, '
        'whose geometry the depth has), or of the first, middle or last plane; with stack.mode '
        'sliding only last differs from one depth to the next',
        choices=('reference', 'first', 'mid', 'last'),
    )
    max_pixels: int = _parameter(
        1 << 24,
        'Images with more pixels are refused before anything is allocated for them',
        low=64,
        high=1 << 30,
    )

    stack_mode: str = _parameter(
        'sweep',
        'sweep: one depth a sweep; sliding: one depth a frame, of the newest plane at '
        'each focus position',
        choices=('sweep', 'sliding'),
    )
    stack_size: int = _parameter(
        0,
        'Planes in a stack, 2 to 32; 0 as the sweep says, or from one turn of the focus to the '
        'next where it says nothing',
        low=0,
        high=MAX_PLANES,
    )
    stack_min_size: int = _parameter(
        3,
        'Fewest planes of a stack that lost some; such a stack is flagged',
        low=MIN_PLANES,
        high=MAX_PLANES,
    )
    stack_timeout: float = _parameter(
        2.0, 'A sweep that gets no plane for this long is over (s)', low=0.01, high=60.0
    )
    stack_sync_tolerance: float = _parameter(
        0.01,
        'Largest difference between the stamps of planes that are taken together (input '
        'planes); 0 for equal stamps (s)',
        low=0.0,
        high=1.0,
    )
    stack_pairing_window: float = _parameter(
        0.5,
        'How long an image waits for its focus, and the other way round: by the clock, and '
        'by the stamps of what it waits for (s)',
        low=0.01,
        high=10.0,
    )
    stack_accept_moving: bool = _parameter(
        False, 'Use images during which the lens was moving; such a stack is flagged'
    )
    stack_command_tolerance: float = _parameter(
        0.25,
        'Images whose reported focus is farther than this from the focus_command for their '
        'plane are refused: the lens is stuck, blocked or on its way (focus_source focus_state, '
        '1/m); 0 takes all',
        low=0.0,
        high=100.0,
    )

    planes_focus_dioptres: tuple[float, ...] = _parameter(
        (),
        'Focus of plane_0, plane_1, ... in dioptres (1/m, 0 is infinity); their number is the '
        'number of topics (input planes)',
        low=-100.0,
        high=100.0,
        read_only=True,
    )

    depth_decimation: int = _parameter(
        1,
        'Depth is computed from images shrunk by this factor across and down, each pixel the '
        'mean light of n x n, and comes as much smaller: 2 takes about a quarter of the time',
        low=1,
        high=8,
    )
    depth_encoding: str = _parameter(
        '32FC1',
        '32FC1: metres, NaN invalid, -inf too near, +inf too far; 16UC1: millimetres, 0 invalid',
        choices=('32FC1', '16UC1'),
    )
    depth_min: float = _parameter(0.1, 'Nearer estimates become -inf (m)', low=0.0, high=1000.0)
    depth_max: float = _parameter(
        20.0, 'Farther estimates become +inf (m)', low=0.001, high=1000.0
    )
    depth_max_sigma: float = _parameter(
        0.0,
        'Pixels with a larger standard deviation become invalid (m); 0 keeps all',
        low=0.0,
        high=1000.0,
    )
    depth_edge_filter: float = _parameter(
        0.05,
        'Pixels between a nearer and a farther neighbour, each off by more than this share '
        'of the inverse depth, become invalid: flying pixels at edges; 0 keeps all',
        low=0.0,
        high=1.0,
    )

    points_color: bool = _parameter(True, 'Colour the points from the all-in-focus image')
    points_max_rate: float = _parameter(
        0.0,
        'Most messages a second on depth/points, by their stamps; 0 for one with every depth (Hz)',
        low=0.0,
        high=1000.0,
    )
    points_decimated_max_rate: float = _parameter(
        0.0,
        'Most messages a second on depth/points_decimated, by their stamps; 0 for one with '
        'every depth (Hz)',
        low=0.0,
        high=1000.0,
    )
    points_decimation: int = _parameter(
        4, 'depth/points_decimated has every n-th point of every n-th row', low=1, high=64
    )
    points_voxel_size: float = _parameter(
        0.0,
        'depth/points_decimated has the mean of the points in each cube of this size instead '
        '(m); 0 uses points.decimation',
        low=0.0,
        high=10.0,
    )

    lens_focal_length: float = _parameter(0.0, 'Focal length (m); 0 unknown', low=0.0, high=2.0)
    lens_f_number: float = _parameter(
        0.0, 'Focal length over aperture diameter; 0 unknown', low=0.0, high=128.0
    )
    lens_pixel_pitch: float = _parameter(
        0.0, 'Distance of the pixels of the published image (m); 0 unknown', low=0.0, high=1e-3
    )
    lens_kappa: float = _parameter(
        0.0,
        'Blur per defocus: diameter of the circle of confusion in pixels of the published '
        'image per dioptre, as measured; 0 for that of the other three. Where it is known, sigma '
        'is nowhere below the error that the optics make, and depth asked for beyond what the '
        'lens can measure is warned of',
        low=0.0,
        high=1e4,
    )
    lens_field_curvature: tuple[float, ...] = _parameter(
        (0.0, 0.0),
        'c2, c4 of the bowed surface that the lens focuses on: c2 r^2 + c4 r^4 is '
        'added to the inverse depth of a pixel, r being its distance from the principal point in '
        'half diagonals of the image (1/m)',
        low=-5.0,
        high=5.0,
    )

    breathing_model: str = _parameter(
        'none',
        'How the image scale follows focus: none (as the camera_info of each image says), '
        'thin_lens (needs lens.*) or polynomial (needs breathing.coefficients)',
        choices=BREATHING_MODELS,
    )
    breathing_coefficients: tuple[float, ...] = _parameter(
        (),
        'g1, g2, ... of the image scale 1 + g1 q + g2 q^2 + ... at a focus of q dioptres',
        low=-10.0,
        high=10.0,
    )
    breathing_centre_drift: tuple[float, ...] = _parameter(
        (0.0, 0.0),
        'How far the centre of the scaling moves right and down, in image widths per '
        'dioptre (breathing.model thin_lens or polynomial)',
        low=-1.0,
        high=1.0,
    )

    alignment_mode: str = _parameter(
        'correct',
        'What to do about planes that a hand, a robot or a lens without feedback has '
        'displaced: correct: take it out; flag: only tell (StackInfo, /diagnostics); off: do not '
        'look',
        choices=ALIGNMENT_MODES,
    )
    alignment_max_motion: float = _parameter(
        5.0,
        'A stack is flagged as motion when a plane is displaced by more pixels than this, '
        'root mean square over the image; beyond it near and far things are displaced '
        'differently, which no shift of the whole image takes out',
        low=0.1,
        high=1000.0,
    )
    exposure_normalise: bool = _parameter(
        True,
        'Make all planes as bright as the reference plane: a lens darkens as it focuses '
        'near, and automatic exposure follows what it sees',
    )

    command_latency_frames: int = _parameter(
        2,
        'Images after a focus_command that still show the old position or the movement '
        '(focus_source command)',
        low=0,
        high=60,
    )
    command_settling_time: float = _parameter(
        0.1,
        'Time after a focus_command until the lens rests (s, focus_source command)',
        low=0.0,
        high=10.0,
    )
    camera_ros_latency_frames: int = _parameter(
        0,
        'Images after a new LensPosition during which the lens still moves (focus_source '
        'camera_ros)',
        low=0,
        high=60,
    )
    camera_ros_settling_time: float = _parameter(
        0.0,
        'Time after a new LensPosition until the lens rests (s, focus_source camera_ros)',
        low=0.0,
        high=10.0,
    )

    def assembler(self) -> AssemblerSettings:
        """Return what the assembler of sweeps needs to know."""
        return AssemblerSettings(
            size=self.stack_size,
            min_size=self.stack_min_size,
            timeout_ns=_nanoseconds(self.stack_timeout),
            accept_moving=self.stack_accept_moving,
            command_tolerance=self.stack_command_tolerance,
            sliding=self.stack_mode == 'sliding',
            rectify=self.rectify == 'auto',
            synchronizer=TimeSynchronizerSettings(
                window_ns=_nanoseconds(self.stack_pairing_window),
                exact_cameras=self.camera_info_policy == 'exact',
            ),
        )

    def synchroniser(self) -> PlaneSynchronizerSettings:
        """Return what the synchroniser of planes needs to know."""
        return PlaneSynchronizerSettings(
            self.planes_focus_dioptres,
            _nanoseconds(self.stack_sync_tolerance),
            self.stack_min_size,
            _nanoseconds(self.stack_timeout),
        )

    def settling(self) -> SettlingModel:
        """Return the settling model of the focus source."""
        if self.focus_source == 'command':
            return SettlingModel(self.command_latency_frames, self.command_settling_time)
        return SettlingModel(self.camera_ros_latency_frames, self.camera_ros_settling_time)

    def pipeline(self) -> EstimatorSettings:
        """Return what the estimator needs to know.

        :raises ValueError: if the values contradict each other.
        """
        known = (self.lens_focal_length, self.lens_f_number, self.lens_pixel_pitch)
        lens = Lens(*known) if all(value > 0.0 for value in known) else None
        try:
            return EstimatorSettings(
                decimation=self.depth_decimation,
                depth_min=self.depth_min,
                depth_max=self.depth_max,
                max_sigma=self.depth_max_sigma,
                edge_filter=self.depth_edge_filter,
                breathing=self.breathing_model,
                breathing_coefficients=self.breathing_coefficients,
                breathing_centre_drift=self.breathing_centre_drift,
                alignment=self.alignment_mode,
                max_motion=self.alignment_max_motion,
                normalise_exposure=self.exposure_normalise,
                lens=lens,
                kappa=self.lens_kappa,
                field_curvature=self.lens_field_curvature,
                points_color=self.points_color,
                points_decimation=self.points_decimation,
                points_voxel_size=self.points_voxel_size,
            )
        except SettingsError as error:
            raise ValueError(error.with_names(ESTIMATOR_PARAMETERS)) from None


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
}


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _ros_name(attribute: str) -> str:
    for group in _GROUPS:
        if attribute.startswith(f'{group}_'):
            return f'{group}.{attribute[len(group) + 1 :]}'
    return attribute


def _spec(parameter: Field[Any]) -> ParameterSpec:
    default: Any = parameter.default
    return ParameterSpec(_ros_name(parameter.name), default, **parameter.metadata)


PARAMETERS = tuple(_spec(f) for f in fields(DepthNodeSettings))
SPECS = {spec.name: spec for spec in PARAMETERS}
_FIELD_NAMES = {_ros_name(f.name): f.name for f in fields(DepthNodeSettings)}


def settings_from(values: Mapping[str, Any]) -> DepthNodeSettings:
    """Return the settings with these parameter values, by ROS name, and defaults for the others.

    :raises ValueError: if a value is not allowed; see :meth:`ParameterSpec.coerce`.
    """
    return DepthNodeSettings(
        **{_FIELD_NAMES[name]: SPECS[name].coerce(value) for name, value in values.items()}
    )


def validate(settings: DepthNodeSettings) -> list[str]:
    """Return what is wrong with values that are each in their range, but not together."""
    found = []
    if not _DEVICE.fullmatch(settings.device):
        found.append(f'device must be auto, cuda, cuda:N or cpu, got {settings.device!r}')
    if not settings.model:
        found.append('model must be auto, a shipped name or the path of a .safetensors file')
    if settings.stack_size == 1:
        found.append('stack.size must be 0 or from 2 to 32, got 1: one plane has no depth')
    if settings.input == 'planes':
        focus = settings.planes_focus_dioptres
        if not MIN_PLANES <= len(focus) <= MAX_PLANES or len(set(focus)) != len(focus):
            found.append(
                f'planes.focus_dioptres must have {MIN_PLANES} to {MAX_PLANES} different values '
                f'with input planes, got {list(focus)}'
            )
    try:
        settings.pipeline()
    except ValueError as error:
        found.append(str(error))
    return found
