# SPDX-License-Identifier: Apache-2.0
"""Topics of a bag that the depth node subscribes to, found by type. Without ROS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.exceptions import UsageError
from dualfocus_ros.nodes.parameters.depth_parameters import DepthNodeSettings
from dualfocus_ros.nodes.parameters.parameter_reader import DepthNodeParameters
from dualfocus_ros.topics import (
    CAMERA_INFO_TYPE,
    COMPRESSED_IMAGE,
    FOCAL_STACK,
    FOCUS_COMMAND,
    FOCUS_SOURCES,
    FOCUS_STATE,
    GROUND_TRUTH_CAMERA_INFO,
    GROUND_TRUTH_DEPTH,
    IMAGE,
    OUTPUTS,
)

# Endings of the names of outputs, which are never inputs.
_OUTPUT_NAMES = tuple(
    f'/{name}'
    for name in (
        *(topic.name for topic in OUTPUTS),
        GROUND_TRUTH_DEPTH,
        GROUND_TRUTH_CAMERA_INFO,
    )
)


@dataclass(frozen=True)
class TopicOptions:
    """Topics named by the user.

    :param remap: absolute name in the bag by absolute name of the node.
    :param image: topic of the images; None to find it.
    :param camera_info: topic of the calibration; None to find it.
    :param focus: topic of the focus; None to find it.
    """

    remap: Mapping[str, str] = field(default_factory=dict)
    image: str | None = None
    camera_info: str | None = None
    focus: str | None = None

    def __bool__(self) -> bool:
        return bool(self.remap) or (self.image, self.camera_info, self.focus) != (None,) * 3


@dataclass(frozen=True)
class BagInputs:
    """Inputs of the depth node in a bag.

    :param settings: parameters of the node; input, image transport and focus source are set from
        the bag unless given.
    :param remap: absolute name in the bag by absolute name of the node.
    :param missing: inputs without which depth cannot be computed, as text.
    :param image: topic of the images; None if missing.
    :param camera_info: topic of their calibration; None if missing.
    """

    settings: DepthNodeSettings
    remap: dict[str, str]
    missing: list[str] = field(default_factory=list)
    image: str | None = None
    camera_info: str | None = None


def absolute_name(topic: str) -> str:
    """Return a topic name with a leading slash."""
    return '/' + topic.strip('/')


def is_output_topic(topic: str) -> bool:
    """Whether a topic has the name of an output of the depth node or the simulated camera."""
    return topic.endswith(_OUTPUT_NAMES)


def find_inputs(
    bag: BagReader, parameters: DepthNodeParameters, options: TopicOptions
) -> BagInputs:
    """Find images, calibration and focus; options and given parameters take precedence.

    :raises UsageError: if several topics fit, or a named topic is missing.
    """
    remap = dict(options.remap)
    for name, chosen in (('/image_raw', options.image), ('/camera_info', options.camera_info)):
        if chosen is not None:
            remap[name] = absolute_name(chosen)
    types = {name: topic.message_type for name, topic in bag.topics.items()}
    settings = parameters.settings
    if settings.input == 'planes':
        return _find_planes(types, settings, remap)
    if settings.input == 'stack' or _has_only_stacks(types, parameters, remap):
        return _find_stacks(types, replace(settings, input='stack'), remap)
    return _find_sweep(types, parameters, remap, options.focus)


def _find_sweep(
    types: Mapping[str, str],
    parameters: DepthNodeParameters,
    remap: dict[str, str],
    focus_topic: str | None,
) -> BagInputs:
    settings, missing = parameters.settings, []
    image = _find_image(
        types, remap, settings.image_transport if 'image_transport' in parameters.given else None
    )
    if image is None:
        return BagInputs(
            settings,
            remap,
            [
                f'no topic with images ({IMAGE}, {COMPRESSED_IMAGE}): the bag has '
                f'{", ".join(sorted(types)) or "no topics"}'
            ],
        )
    base = image.removesuffix('/compressed') if types[image] == COMPRESSED_IMAGE else image
    settings = replace(
        settings, image_transport='compressed' if types[image] == COMPRESSED_IMAGE else 'raw'
    )
    remap['/image_raw'] = base
    camera = _find_camera_info(types, remap, base)
    source, focus = _find_focus(types, remap, base, focus_topic, parameters)
    if source is None or focus is None:
        expected = ', '.join(
            f'{topic.name} ({topic.message_type})' for topic in FOCUS_SOURCES.values()
        )
        missing.append(f'no focus for {image}: no topic such as {expected}')
    else:
        settings = replace(settings, focus_source=source)
        remap[f'/{FOCUS_SOURCES[source].name}'] = focus
        commands = [n for n, kind in types.items() if kind == FOCUS_COMMAND.message_type]
        if len(commands) == 1:  # compared with the reported focus
            remap.setdefault(f'/{FOCUS_COMMAND.name}', commands[0])
    return BagInputs(settings, remap, missing, image, camera)


def _find_image(
    types: Mapping[str, str], remap: Mapping[str, str], transport: str | None
) -> str | None:
    """Return the topic of the images; a compressed one with its suffix."""
    given = remap.get('/image_raw')
    if given is not None:
        raw_first = [given, f'{given}/compressed']
        for name in raw_first if transport != 'compressed' else reversed(raw_first):
            if types.get(name) in (IMAGE, COMPRESSED_IMAGE):
                return name
        raise UsageError(
            f'the bag has no images on {given}; it has images on '
            f'{", ".join(_of_type(types, IMAGE, COMPRESSED_IMAGE)) or "no topic"}'
        )
    kinds = {'raw': (IMAGE,), 'compressed': (COMPRESSED_IMAGE,), None: (IMAGE, COMPRESSED_IMAGE)}[
        transport
    ]
    found = _of_type(types, *kinds)
    # Of a camera recorded both raw and compressed, use raw.
    found = [
        name
        for name in found
        if name.removesuffix('/compressed') not in found or not name.endswith('/compressed')
    ]
    if len(found) > 1:
        with_focus = {
            _namespace(name)
            for topic in FOCUS_SOURCES.values()
            for name in _of_type(types, topic.message_type)
        }
        found = [
            n for n in found if _namespace(n.removesuffix('/compressed')) in with_focus
        ] or found
    if len(found) > 1:
        named = [n for n in found if n.removesuffix('/compressed').endswith('/image_raw')]
        found = named if len(named) == 1 else found
    if len(found) > 1:
        raise UsageError(
            f'the bag has images of several cameras, {", ".join(found)}: choose one with '
            f'--image-topic {found[0]}'
        )
    return found[0] if found else None


def _find_camera_info(types: Mapping[str, str], remap: dict[str, str], base: str) -> str | None:
    """Return the topic of the calibration and add it to ``remap``."""
    if '/camera_info' in remap:
        chosen = remap['/camera_info']
        if types.get(chosen) != CAMERA_INFO_TYPE:
            raise UsageError(
                f'the bag has no {CAMERA_INFO_TYPE} on {chosen}; it has '
                f'{", ".join(_of_type(types, CAMERA_INFO_TYPE)) or "none"}'
            )
        return chosen
    found = _of_type(types, CAMERA_INFO_TYPE)
    neighbours = [name for name in found if _namespace(name) == _namespace(base)]
    # A single calibration may be in any namespace; of several, use that of the images.
    choice = neighbours[0] if neighbours else found[0] if len(found) == 1 else None
    # Otherwise map to a missing topic, so that the calibration of another camera is not used.
    remap['/camera_info'] = choice or f'{_namespace(base)}/camera_info'
    return choice


def _find_focus(
    types: Mapping[str, str],
    remap: Mapping[str, str],
    base: str,
    focus_topic: str | None,
    parameters: DepthNodeParameters,
) -> tuple[str | None, str | None]:
    """Return the focus source and its topic."""
    sources = list(FOCUS_SOURCES)
    if 'focus_source' in parameters.given:
        sources = [parameters.settings.focus_source]
    if focus_topic is not None:
        chosen = absolute_name(focus_topic)
        for source in sources:
            if types.get(chosen) == FOCUS_SOURCES[source].message_type:
                return source, chosen
        raise UsageError(
            f'the bag has no focus on {chosen}: expected '
            + ' or '.join(FOCUS_SOURCES[source].message_type for source in sources)
        )
    for source in sources:
        name = FOCUS_SOURCES[source].name
        if f'/{name}' in remap:
            return source, remap[f'/{name}']
        found = _of_type(types, FOCUS_SOURCES[source].message_type)
        if source == 'camera_ros':  # other diagnostics have this type too
            found = [n for n in found if n.endswith(f'/{name}')]
        neighbours = [n for n in found if _namespace(n) == _namespace(base)]
        if neighbours:
            return source, neighbours[0]
        if len(found) == 1:
            return source, found[0]
        if found:
            raise UsageError(
                f'the bag has several focus topics, {", ".join(found)}: choose one with '
                f'--focus-topic {found[0]}'
            )
    return None, None


def _has_only_stacks(
    types: Mapping[str, str], parameters: DepthNodeParameters, remap: Mapping[str, str]
) -> bool:
    """Whether the bag has focal stacks and no focus of single images."""
    if (
        'input' in parameters.given
        or '/image_raw' in remap
        or not _of_type(types, FOCAL_STACK.message_type)
    ):
        return False
    return not _of_type(types, FOCUS_STATE.message_type, FOCUS_COMMAND.message_type)


def _find_stacks(
    types: Mapping[str, str], settings: DepthNodeSettings, remap: dict[str, str]
) -> BagInputs:
    found = (
        [remap['/focal_stack']]
        if '/focal_stack' in remap
        else _of_type(types, FOCAL_STACK.message_type)
    )
    if len(found) > 1:
        raise UsageError(
            f'the bag has several topics of stacks, {", ".join(found)}: choose one with '
            f'--remap focal_stack:={found[0]}'
        )
    if not found or types.get(found[0]) != FOCAL_STACK.message_type:
        return BagInputs(settings, remap, [f'no topic of type {FOCAL_STACK.message_type}'])
    remap['/focal_stack'] = found[0]
    camera = _find_camera_info(types, remap, found[0])
    return BagInputs(settings, remap, [], found[0], camera)


def _find_planes(
    types: Mapping[str, str], settings: DepthNodeSettings, remap: dict[str, str]
) -> BagInputs:
    missing = []
    kind, suffix = IMAGE, ''
    if settings.image_transport == 'compressed':
        kind, suffix = COMPRESSED_IMAGE, '/compressed'
    for plane in range(len(settings.planes_focus_dioptres)):
        name = f'/plane_{plane}/image_raw'
        if name not in remap:
            found = [n for n in _of_type(types, kind) if n.endswith(name + suffix)]
            if len(found) == 1:
                remap[name] = found[0].removesuffix(suffix)
        if types.get(remap.get(name, name) + suffix) != kind:
            missing.append(f'no {kind} for {name}: give --remap {name[1:]}:=TOPIC')
    first = remap.get('/plane_0/image_raw', '/plane_0/image_raw')
    camera = _find_camera_info(types, remap, first)
    return BagInputs(settings, remap, missing, first + suffix, camera)


def _of_type(types: Mapping[str, str], *kinds: str) -> list[str]:
    """Return the sorted topics of some message types, without outputs."""
    return sorted(
        name for name, kind in types.items() if kind in kinds and not is_output_topic(name)
    )


def _namespace(topic: str) -> str:
    return topic.rpartition('/')[0]
