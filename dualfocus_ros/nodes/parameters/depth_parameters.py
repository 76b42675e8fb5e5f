# SPDX-License-Identifier: Apache-2.0
"""Parameters of the depth node: the table for declaration, checks and documentation.

``derived_settings.py`` passes the values on to the parts of the node.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
import re
from typing import Any, TypeVar

from dualfocus_ros.focal_stack import MAX_PLANES, MIN_PLANES
from dualfocus_ros.inference.settings import ALIGNMENT_MODES, BREATHING_MODELS
from dualfocus_ros.nodes.parameters.parameter_spec import ParameterSpec

# Field names that begin with a group of ROS names: stack_size is stack.size.
_GROUPED = re.compile(
    '^(stack|planes|depth|points|lens|breathing|alignment|exposure|command|camera_ros)_'
)
_T = TypeVar('_T')


def _parameter(
    default: _T,
    description: str,
    bounds: tuple[float | None, float | None] = (None, None),
    choices: tuple[str, ...] = (),
    read_only: bool = False,
) -> _T:
    low, high = bounds
    spec = {'low': low, 'high': high, 'choices': choices, 'read_only': read_only}
    return field(default=default, metadata={'description': description, **spec})


@dataclass(frozen=True)
class DepthNodeSettings:
    """Values of all parameters at one time."""

    model: str = _parameter(
        'auto',
        'Weights: auto (default of this release), a shipped name, or the path of a '
        '.safetensors file',
        read_only=True,
    )
    device: str = _parameter(
        'auto',
        'Device of the network: auto (GPU if available), cuda, cuda:N or cpu',
        read_only=True,
    )
    precision: str = _parameter(
        'auto',
        'Number format of the convolutions; auto is fp16 on CUDA and fp32 on a CPU',
        choices=('auto', 'fp32', 'fp16', 'bf16'),
        read_only=True,
    )
    threads: int = _parameter(
        0, 'CPU threads of the network; 0 uses all CPUs but one', (0, 256), read_only=True
    )
    cuda_graphs: bool = _parameter(
        True,
        'Capture the network in CUDA graphs (GPU only); on a failure the node continues '
        'without them and logs it',
        read_only=True,
    )
    input: str = _parameter(
        'sweep',
        'sweep: one camera whose focus moves; planes: several cameras at fixed focus, '
        'synchronised; stack: FocalStack messages',
        choices=('sweep', 'planes', 'stack'),
        read_only=True,
    )
    focus_source: str = _parameter(
        'focus_state',
        'Source of the focus of an image: focus_state (FocusState with the stamp of the '
        'image), camera_ros (metadata with the stamp of the image) or command (focus_command '
        'and a settling model)',
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
        True, 'Configure and activate at start, without a lifecycle manager', read_only=True
    )
    camera_info_policy: str = _parameter(
        'exact',
        'exact: the camera_info with the stamp of the image; latest: the newest one',
        choices=('exact', 'latest'),
    )
    rectify: str = _parameter(
        'auto',
        'auto: rectify images whose camera_info has distortion (plumb_bob, '
        'rational_polynomial, equidistant); off: treat images as rectified',
        choices=('auto', 'off'),
    )
    stamp_policy: str = _parameter(
        'reference',
        'Stamp of the outputs: of the reference plane (focused nearest; depth has its '
        'geometry) or of the first, middle or last plane; with stack.mode sliding only last '
        'differs between successive outputs',
        choices=('reference', 'first', 'mid', 'last'),
    )
    max_pixels: int = _parameter(
        1 << 24, 'Reject images with more pixels before memory is allocated', (64, 1 << 30)
    )

    stack_mode: str = _parameter(
        'sweep',
        'sweep: one depth per sweep; sliding: one depth per image, from the newest plane at '
        'each focus position',
        choices=('sweep', 'sliding'),
    )
    stack_size: int = _parameter(
        0,
        'Planes per stack, 2 to 32; 0: the plane count of the sweep, or the images between '
        'two turning points of the focus if it is not reported',
        (0, MAX_PLANES),
    )
    stack_min_size: int = _parameter(
        3,
        'Minimum planes of an incomplete stack, which is flagged; smaller stacks are dropped',
        (MIN_PLANES, MAX_PLANES),
    )
    stack_timeout: float = _parameter(
        2.0, 'Close a sweep after this many seconds without a new plane', (0.01, 60.0)
    )
    stack_sync_tolerance: float = _parameter(
        0.01,
        'Maximum difference between the stamps of the planes of a stack, in seconds; 0 '
        'requires equal stamps (input planes)',
        (0.0, 1.0),
    )
    stack_pairing_window: float = _parameter(
        0.5,
        'Seconds that an image waits for its focus, or a focus for its image, by the clock '
        'and by the stamps of the awaited messages',
        (0.01, 10.0),
    )
    stack_accept_moving: bool = _parameter(
        False, 'Use images taken while the lens was moving; such a stack is flagged'
    )
    stack_command_tolerance: float = _parameter(
        0.25,
        'Reject images whose reported focus differs from the focus_command of their plane by '
        'more than this, in 1/m: the lens is stuck or still moving; 0 accepts all '
        '(focus_source focus_state)',
        (0.0, 100.0),
    )

    planes_focus_dioptres: tuple[float, ...] = _parameter(
        (),
        'Focus of plane_0, plane_1, ... in dioptres (1/m, 0 is infinity); their number is the'
        ' number of topics (input planes)',
        (-100.0, 100.0),
        read_only=True,
    )

    depth_decimation: int = _parameter(
        1,
        'Downsampling factor of the images, across and down, by averaging the linear light of'
        ' n x n pixels; the depth image shrinks likewise; 2 takes about a quarter of the time',
        (1, 8),
    )
    depth_encoding: str = _parameter(
        '32FC1',
        '32FC1: metres, NaN invalid, -inf too near, +inf too far; 16UC1: millimetres, 0 invalid',
        choices=('32FC1', '16UC1'),
    )
    depth_min: float = _parameter(0.1, 'Set nearer estimates to -inf (m)', (0.0, 1000.0))
    depth_max: float = _parameter(20.0, 'Set farther estimates to +inf (m)', (0.001, 1000.0))
    depth_max_sigma: float = _parameter(
        0.0, 'Invalidate pixels with a larger standard deviation (m); 0 keeps all', (0.0, 1000.0)
    )
    depth_edge_filter: float = _parameter(
        0.05,
        'Invalidate flying pixels at edges: pixels between a nearer and a farther neighbour '
        'whose inverse depths both differ by more than this fraction; 0 keeps all',
        (0.0, 1.0),
    )

    points_color: bool = _parameter(True, 'Colour the points from the all-in-focus image')
    points_max_rate: float = _parameter(
        0.0, 'Maximum rate of depth/points in Hz (by stamp); 0 = unlimited', (0.0, 1000.0)
    )
    points_decimated_max_rate: float = _parameter(
        0.0,
        'Maximum rate of depth/points_decimated in Hz (by stamp); 0 = unlimited',
        (0.0, 1000.0),
    )
    points_decimation: int = _parameter(
        4, 'Stride of depth/points_decimated: every n-th point of every n-th row', (1, 64)
    )
    points_voxel_size: float = _parameter(
        0.0,
        'Voxel size of depth/points_decimated (m), with the mean of the points of each voxel;'
        ' 0 uses points.decimation',
        (0.0, 10.0),
    )

    lens_focal_length: float = _parameter(0.0, 'Focal length (m); 0 unknown', (0.0, 2.0))
    lens_f_number: float = _parameter(
        0.0, 'Focal length over aperture diameter; 0 unknown', (0.0, 128.0)
    )
    lens_pixel_pitch: float = _parameter(
        0.0, 'Pixel pitch of the published image (m); 0 unknown', (0.0, 1e-3)
    )
    lens_kappa: float = _parameter(
        0.0,
        'Measured blur per defocus: diameter of the circle of confusion in pixels of the '
        'published image per dioptre; 0 computes it from the other three. If known, sigma has the '
        'optical error as lower limit, and a depth range beyond that of the lens causes a warning',
        (0.0, 1e4),
    )
    lens_field_curvature: tuple[float, ...] = _parameter(
        (0.0, 0.0),
        'c2, c4 of the curved focus surface: c2 r^2 + c4 r^4 is added to the inverse depth of a '
        'pixel at distance r from the principal point, in half diagonals of the image (1/m)',
        (-5.0, 5.0),
    )

    breathing_model: str = _parameter(
        'none',
        'Change of the image scale with focus: none (as in the camera_info of each image), '
        'thin_lens (needs lens.*) or polynomial (needs breathing.coefficients)',
        choices=BREATHING_MODELS,
    )
    breathing_coefficients: tuple[float, ...] = _parameter(
        (),
        'g1, g2, ... of the image scale 1 + g1 q + g2 q^2 + ... at a focus of q dioptres',
        (-10.0, 10.0),
    )
    breathing_centre_drift: tuple[float, ...] = _parameter(
        (0.0, 0.0),
        'Shift of the centre of scaling right and down, in image widths per dioptre '
        '(breathing.model thin_lens or polynomial)',
        (-1.0, 1.0),
    )

    alignment_mode: str = _parameter(
        'correct',
        'Displaced planes, after motion of the camera or with a lens without feedback: correct: '
        'align them; flag: report them only (StackInfo, /diagnostics); off: do not measure',
        choices=ALIGNMENT_MODES,
    )
    alignment_max_motion: float = _parameter(
        5.0,
        'Flag a stack as motion if a plane is displaced by more pixels than this, root mean '
        'square over the image; above it near and far objects move differently, which no '
        'shift of the whole image corrects',
        (0.1, 1000.0),
    )
    exposure_normalise: bool = _parameter(
        True,
        'Scale the brightness of all planes to the reference plane: a lens darkens as it '
        'focuses near, and automatic exposure varies',
    )

    command_latency_frames: int = _parameter(
        2,
        'Images after a focus_command that still show the old position or the movement '
        '(focus_source command)',
        (0, 60),
    )
    command_settling_time: float = _parameter(
        0.1,
        'Seconds after a focus_command until the lens has settled (focus_source command)',
        (0.0, 10.0),
    )
    camera_ros_latency_frames: int = _parameter(
        0,
        'Images after a new LensPosition during which the lens still moves (focus_source '
        'camera_ros)',
        (0, 60),
    )
    camera_ros_settling_time: float = _parameter(
        0.0,
        'Seconds after a new LensPosition until the lens has settled (focus_source camera_ros)',
        (0.0, 10.0),
    )


PARAMETERS = tuple(
    ParameterSpec(_GROUPED.sub(r'\1.', f.name), f.default, **f.metadata)  # type: ignore[arg-type]
    for f in fields(DepthNodeSettings)
)
SPECS = {spec.name: spec for spec in PARAMETERS}


def settings_from(values: Mapping[str, Any]) -> DepthNodeSettings:
    """Return the settings with these parameter values, by ROS name, and defaults for the others.

    :raises ValueError: if a value is not allowed; see :meth:`ParameterSpec.coerce`.
    """
    return DepthNodeSettings(
        **{field_name(name): SPECS[name].coerce(value) for name, value in values.items()}
    )


def field_name(name: str) -> str:
    """Return the field of the settings with the value of a parameter."""
    return name.replace('.', '_')
