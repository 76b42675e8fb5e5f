# SPDX-License-Identifier: Apache-2.0
"""Topics of the depth node: publishers, recorders, viewers and docs/topics.md derive from here."""

from __future__ import annotations

from dataclasses import dataclass

IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO_TYPE = 'sensor_msgs/msg/CameraInfo'
POINT_CLOUD = 'sensor_msgs/msg/PointCloud2'
DIAGNOSTIC_ARRAY = 'diagnostic_msgs/msg/DiagnosticArray'

DIAGNOSTICS = '/diagnostics'
GROUND_TRUTH_DEPTH = 'ground_truth/depth'
GROUND_TRUTH_CAMERA_INFO = 'ground_truth/camera_info'


@dataclass(frozen=True)
class InputTopic:
    """One subscription of the depth node.

    :param name: relative to the namespace of the node.
    :param message_type: such as ``sensor_msgs/msg/Image``.
    :param condition: the parameters with which the node subscribes, for the documentation.
    :param input: value of the parameter ``input`` that uses the topic; empty for every value.
    :param focus_source: value of the parameter ``focus_source`` that reads the focus from it.
    """

    name: str
    message_type: str
    condition: str
    input: str = ''
    focus_source: str = ''


@dataclass(frozen=True)
class OutputTopic:
    """One publisher of the depth node.

    :param name: relative to the namespace of the node.
    :param message_type: such as ``sensor_msgs/msg/Image``.
    :param description: the content, for the documentation.
    :param request: field of ``OutputRequest`` that makes the estimator compute it; empty where
        every estimate contains it.
    :param recorded: whether recordings of the outputs contain it.
    :param process_option: option of ``dualfocus process`` that writes it; empty where every run
        does.
    """

    name: str
    message_type: str
    description: str
    request: str = ''
    recorded: bool = True
    process_option: str = ''


def plane_image_name(plane: int) -> str:
    """Return the topic of a plane with ``input: planes``."""
    return f'plane_{plane}/image_raw'


IMAGE_RAW = InputTopic('image_raw', IMAGE, '`input: sweep`, `image_transport: raw`', input='sweep')
IMAGE_RAW_COMPRESSED = InputTopic(
    'image_raw/compressed',
    COMPRESSED_IMAGE,
    '`input: sweep`, `image_transport: compressed`',
    input='sweep',
)
CAMERA_INFO = InputTopic('camera_info', CAMERA_INFO_TYPE, 'always')
FOCUS_STATE = InputTopic(
    'focus_state',
    'dualfocus_ros/msg/FocusState',
    '`focus_source: focus_state`',
    input='sweep',
    focus_source='focus_state',
)
METADATA = InputTopic(
    'metadata',
    DIAGNOSTIC_ARRAY,
    '`focus_source: camera_ros`',
    input='sweep',
    focus_source='camera_ros',
)
FOCUS_COMMAND = InputTopic(
    'focus_command',
    'dualfocus_ros/msg/FocusCommand',
    '`focus_source: command`; `focus_state`, for comparison',
    input='sweep',
    focus_source='command',
)
PLANE_IMAGE = InputTopic(
    plane_image_name(0), IMAGE, '`input: planes`; likewise for each plane', input='planes'
)
FOCAL_STACK = InputTopic(
    'focal_stack', 'dualfocus_ros/msg/FocalStack', '`input: stack`', input='stack'
)

INPUTS = (
    IMAGE_RAW,
    IMAGE_RAW_COMPRESSED,
    CAMERA_INFO,
    FOCUS_STATE,
    METADATA,
    FOCUS_COMMAND,
    PLANE_IMAGE,
    FOCAL_STACK,
)
# Inputs of one camera whose focus moves; launch files remap them with the prefix of the camera.
SWEEP_INPUTS = tuple(topic for topic in INPUTS if topic.input in ('', 'sweep'))
# Topic of each focus source, in the order of preference.
FOCUS_SOURCES = {topic.focus_source: topic for topic in INPUTS if topic.focus_source}

DEPTH = OutputTopic(
    'depth/image_rect',
    IMAGE,
    'Metres along z, 32FC1: NaN invalid, -Inf nearer than `depth.min`, +Inf farther than '
    '`depth.max` (REP 117), or beyond the outermost plane of an incomplete sweep; or 16UC1 '
    'millimetres, 0 invalid (REP 118)',
)
DEPTH_CAMERA_INFO = OutputTopic(
    'depth/camera_info',
    CAMERA_INFO_TYPE,
    'K and P of the rectified reference plane, without distortion',
)
POINTS = OutputTopic(
    'depth/points',
    POINT_CLOUD,
    'Organised; x y z (rgb) FLOAT32, 16 bytes a point; invalid points NaN',
    request='points',
    process_option='points',
)
POINTS_DECIMATED = OutputTopic(
    'depth/points_decimated',
    POINT_CLOUD,
    'Decimated valid points, unorganised: `points.decimation`, `points.voxel_size`',
    request='points_decimated',
    recorded=False,
    process_option='points_decimated',
)
SIGMA = OutputTopic(
    'depth/sigma',
    IMAGE,
    '32FC1, one standard deviation in metres: 68 % of the errors are smaller; NaN where depth is '
    'not finite',
    request='sigma',
)
CONFIDENCE = OutputTopic(
    'depth/confidence',
    IMAGE,
    'mono8, 255 times the probability that the inverse depth is right to half the spacing of the '
    'planes; 0 where depth is NaN',
    request='confidence',
    process_option='confidence',
)
RGB = OutputTopic(
    'rgb/image_rect',
    IMAGE,
    'All-in-focus image, rgb8',
    request='all_in_focus',
)
RGB_CAMERA_INFO = OutputTopic('rgb/camera_info', CAMERA_INFO_TYPE, 'As `depth/camera_info`')
STACK_INFO = OutputTopic(
    'stack_info',
    'dualfocus_ros/msg/StackInfo',
    'Planes used, their stamps and focus, flags, timings',
)

OUTPUTS = (
    DEPTH,
    DEPTH_CAMERA_INFO,
    POINTS,
    POINTS_DECIMATED,
    SIGMA,
    CONFIDENCE,
    RGB,
    RGB_CAMERA_INFO,
    STACK_INFO,
)
RECORDED_OUTPUTS = tuple(topic for topic in OUTPUTS if topic.recorded)
