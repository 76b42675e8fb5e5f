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
_OUTPUT_NAMES = (
    *(f'/{topic.name}' for topic in OUTPUTS),
    f'/{GROUND_TRUTH_DEPTH}',
    f'/{GROUND_TRUTH_CAMERA_INFO}',
)
_COMPRESSED = '/compressed'  # suffix of image_transport


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
        return self != TopicOptions()


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
    return _InputFinder(bag, parameters, options).find()


class _InputFinder:
    """Search for the topics of one bag."""

    def __init__(
        self, bag: BagReader, parameters: DepthNodeParameters, options: TopicOptions
    ) -> None:
        self._types = {name: topic.message_type for name, topic in bag.topics.items()}
        self._settings, self._given = parameters.settings, parameters.given
        self._focus_topic = options.focus
        self._remap = dict(options.remap)
        for name, topic in (('/image_raw', options.image), ('/camera_info', options.camera_info)):
            if topic is not None:
                self._remap[name] = absolute_name(topic)

    def find(self) -> BagInputs:
        if self._settings.input == 'planes':
            return self._find_planes()
        only_stacks = (
            'input' not in self._given
            and '/image_raw' not in self._remap
            and self._of_type(FOCAL_STACK.message_type)
            and not self._of_type(FOCUS_STATE.message_type, FOCUS_COMMAND.message_type)
        )
        if self._settings.input == 'stack' or only_stacks:
            return self._find_stacks()
        return self._find_sweep()

    def _find_sweep(self) -> BagInputs:
        image = self._find_image()
        if image is None:
            topics = ', '.join(sorted(self._types)) or 'no topics'
            return self._result(
                f'no topic with images ({IMAGE}, {COMPRESSED_IMAGE}): the bag has {topics}'
            )
        compressed = self._types[image] == COMPRESSED_IMAGE
        base = image.removesuffix(_COMPRESSED) if compressed else image
        self._settings = replace(
            self._settings, image_transport='compressed' if compressed else 'raw'
        )
        self._remap['/image_raw'] = base
        camera = self._find_camera_info(base)
        found = self._find_focus(base)
        if found is None:
            expected = ', '.join(f'{t.name} ({t.message_type})' for t in FOCUS_SOURCES.values())
            return self._result(
                f'no focus for {image}: no topic such as {expected}', image=image, camera=camera
            )
        source, focus = found
        self._settings = replace(self._settings, focus_source=source)
        self._remap[f'/{FOCUS_SOURCES[source].name}'] = focus
        commands = [n for n, kind in self._types.items() if kind == FOCUS_COMMAND.message_type]
        if len(commands) == 1:  # compared with the reported focus
            self._remap.setdefault(f'/{FOCUS_COMMAND.name}', commands[0])
        return self._result(image=image, camera=camera)

    def _find_image(self) -> str | None:
        """Return the topic of the images; a compressed one with its suffix."""
        transport = self._settings.image_transport if 'image_transport' in self._given else None
        given = self._remap.get('/image_raw')
        if given is not None:
            raw_first = [given, given + _COMPRESSED]
            for name in raw_first if transport != 'compressed' else reversed(raw_first):
                if self._types.get(name) in (IMAGE, COMPRESSED_IMAGE):
                    return name
            known = ', '.join(self._of_type(IMAGE, COMPRESSED_IMAGE)) or 'no topic'
            raise UsageError(f'the bag has no images on {given}; it has images on {known}')
        kinds = {'raw': [IMAGE], 'compressed': [COMPRESSED_IMAGE], None: [IMAGE, COMPRESSED_IMAGE]}
        found = self._of_type(*kinds[transport])
        # Of a camera recorded both raw and compressed, use raw.
        bases = {name: name.removesuffix(_COMPRESSED) for name in found}
        found = [name for name in found if bases[name] == name or bases[name] not in found]
        focus_topics = self._of_type(*(topic.message_type for topic in FOCUS_SOURCES.values()))
        with_focus = {_namespace(name) for name in focus_topics}
        found = [name for name in found if _namespace(bases[name]) in with_focus] or found
        named = [name for name in found if bases[name].endswith('/image_raw')]
        found = named if len(named) == 1 else found
        if len(found) > 1:
            raise _ambiguous('images of several cameras', found, '--image-topic ')
        return found[0] if found else None

    def _find_camera_info(self, base: str) -> str | None:
        """Return the topic of the calibration and add it to the names."""
        found = self._of_type(CAMERA_INFO_TYPE)
        chosen = self._remap.get('/camera_info')
        if chosen is not None:
            if self._types.get(chosen) != CAMERA_INFO_TYPE:
                raise UsageError(
                    f'the bag has no {CAMERA_INFO_TYPE} on {chosen}; it has '
                    f'{", ".join(found) or "none"}'
                )
            return chosen
        choice = _nearest(found, base)
        # Otherwise map to a missing topic, so that the calibration of another camera is not used.
        self._remap['/camera_info'] = choice or f'{_namespace(base)}/camera_info'
        return choice

    def _find_focus(self, base: str) -> tuple[str, str] | None:
        """Return the focus source and its topic."""
        sources = dict(FOCUS_SOURCES)
        if 'focus_source' in self._given:
            sources = {self._settings.focus_source: FOCUS_SOURCES[self._settings.focus_source]}
        if self._focus_topic is not None:
            chosen = absolute_name(self._focus_topic)
            for source, topic in sources.items():
                if self._types.get(chosen) == topic.message_type:
                    return source, chosen
            expected = ' or '.join(topic.message_type for topic in sources.values())
            raise UsageError(f'the bag has no focus on {chosen}: expected {expected}')
        for source, topic in sources.items():
            if f'/{topic.name}' in self._remap:
                return source, self._remap[f'/{topic.name}']
            found = self._of_type(topic.message_type)
            if source == 'camera_ros':  # other diagnostics have this type too
                found = [name for name in found if name.endswith(f'/{topic.name}')]
            choice = _nearest(found, base)
            if choice is not None:
                return source, choice
            if found:
                raise _ambiguous('several focus topics', found, '--focus-topic ')
        return None

    def _find_stacks(self) -> BagInputs:
        self._settings = replace(self._settings, input='stack')
        chosen = self._remap.get('/focal_stack')
        found = [chosen] if chosen is not None else self._of_type(FOCAL_STACK.message_type)
        if len(found) > 1:
            raise _ambiguous('several topics of stacks', found, '--remap focal_stack:=')
        if not found or self._types.get(found[0]) != FOCAL_STACK.message_type:
            return self._result(f'no topic of type {FOCAL_STACK.message_type}')
        self._remap['/focal_stack'] = found[0]
        camera = self._find_camera_info(found[0])
        return self._result(image=found[0], camera=camera)

    def _find_planes(self) -> BagInputs:
        compressed = self._settings.image_transport == 'compressed'
        kind, suffix = (COMPRESSED_IMAGE, _COMPRESSED) if compressed else (IMAGE, '')
        missing = []
        for plane in range(len(self._settings.planes_focus_dioptres)):
            name = f'/plane_{plane}/image_raw'
            found = [n for n in self._of_type(kind) if n.endswith(name + suffix)]
            if name not in self._remap and len(found) == 1:
                self._remap[name] = found[0].removesuffix(suffix)
            if self._types.get(self._remap.get(name, name) + suffix) != kind:
                missing.append(f'no {kind} for {name}: give --remap {name[1:]}:=TOPIC')
        first = self._remap.get('/plane_0/image_raw', '/plane_0/image_raw')
        camera = self._find_camera_info(first)
        return self._result(*missing, image=first + suffix, camera=camera)

    def _result(
        self, *missing: str, image: str | None = None, camera: str | None = None
    ) -> BagInputs:
        return BagInputs(self._settings, self._remap, [*missing], image, camera)

    def _of_type(self, *kinds: str) -> list[str]:
        """Return the sorted topics of some message types, without outputs."""
        return sorted(
            name
            for name, kind in self._types.items()
            if kind in kinds and not is_output_topic(name)
        )


def _nearest(found: list[str], base: str) -> str | None:
    """Return the first topic in the namespace of ``base``, else the only topic, else None."""
    neighbours = [name for name in found if _namespace(name) == _namespace(base)]
    if neighbours:
        return neighbours[0]
    return found[0] if len(found) == 1 else None


def _ambiguous(what: str, found: list[str], option: str) -> UsageError:
    return UsageError(
        f'the bag has {what}, {", ".join(found)}: choose one with {option}{found[0]}'
    )


def _namespace(topic: str) -> str:
    return topic.rpartition('/')[0]
