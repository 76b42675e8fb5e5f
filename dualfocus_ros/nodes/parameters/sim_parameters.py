# SPDX-License-Identifier: Apache-2.0
"""Parameters of ``sim_camera_node``."""

from __future__ import annotations

from functools import partial

from dualfocus_ros.nodes.parameters.parameter_spec import ParameterSpec
from dualfocus_ros.simulation.scenes import CAMERA_SCENES

_parameter = partial(ParameterSpec, read_only=True)

PARAMETERS = (
    _parameter(
        'scene',
        'table',
        'Scene; target: a flat board for rehearsals of calibration; rgbd: the files of the rgbd '
        'parameters',
        choices=CAMERA_SCENES,
    ),
    _parameter('target.distance', 1.0, 'Distance of the scene target (m)', 0.05, 100.0),
    _parameter('seed', 0, 'Seed of scene layout, textures, pose and noise', 0, 2**31 - 1),
    _parameter('rgbd.colour', '', 'Colour image of an RGB-D pair, a file path'),
    _parameter('rgbd.depth', '', 'Depth image of the pair: 16-bit in mm, or a .npy array in m'),
    _parameter('rgbd.intrinsics', (), 'fx, fy, cx, cy of the RGB-D pair, in pixels', -1e5, 1e5),
    _parameter('width', 640, 'Width of the images, in pixels', 64, 4096),
    _parameter('height', 480, 'Height of the images, in pixels', 64, 4096),
    _parameter('rate', 15.0, 'Frame rate of the images (Hz)', 0.1, 240.0),
    _parameter(
        'frame_id', 'camera_optical_frame', 'Frame of the images: z forward, x right, y down'
    ),
    _parameter('lens.focal_length', 0.016, 'Focal length of the lens (m)', 1e-4, 1.0),
    _parameter('lens.f_number', 1.4, 'Focal length over aperture diameter', 0.5, 64.0),
    _parameter(
        'lens.pixel_pitch',
        0.0,
        'Pixel pitch of the published image (m); 0: sensor width of 7.2 mm, or the focal length '
        'in pixels of the RGB-D pair',
        0.0,
        1e-3,
    ),
    _parameter(
        'lens.field_curvature',
        (0.0, 0.0),
        'Field curvature c2, c4, as in the depth node: a pixel is sharp at its inverse depth '
        '- c2 r^2 - c4 r^4, with r its distance from the principal point in half diagonals of '
        'the image (1/m)',
        -5.0,
        5.0,
    ),
    _parameter('focus.near_dioptres', 2.5, 'Nearest focus of the lens (1/m)', 0.0, 50.0),
    _parameter(
        'focus.far_dioptres', 0.0, 'Farthest focus of the lens (1/m); 0: infinity', 0.0, 50.0
    ),
    _parameter('settling_time', 0.12, 'Time until 98 % of a focus step are done (s)', 0.0, 10.0),
    _parameter(
        'latency', 0.02, 'Time from a focus command to the start of the movement (s)', 0.0, 10.0
    ),
    _parameter('breathing', True, 'Scale the image with the focus, as a thin lens does'),
    _parameter(
        'exposure_breathing',
        False,
        'Darken images at near focus by 1 / (1 + m)^2 at magnification m, as a lens with unit '
        'focusing does',
    ),
    _parameter(
        'exposure_jitter',
        0.0,
        'Standard deviation of the log exposure of a frame, as residual of automatic exposure',
        0.0,
        1.0,
    ),
    _parameter('noise', 1.0, 'Factor on shot and read noise; 0: none', 0.0, 20.0),
    _parameter(
        'jitter_px',
        0.0,
        'Standard deviation of a random shift of each frame, in pixels; camera_info does not '
        'contain it, ground_truth/depth does',
        0.0,
        20.0,
    ),
    _parameter('device', 'auto', 'Device of defocus rendering', choices=('auto', 'cpu', 'cuda')),
    _parameter('threads', 2, 'CPU threads of defocus rendering', 1, 64),
)
