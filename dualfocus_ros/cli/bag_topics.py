# SPDX-License-Identifier: Apache-2.0
"""Which topics of a bag the depth node would have to listen to, found by their types."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from dualfocus_ros import topics
from dualfocus_ros.bags.reader import BagReader
from dualfocus_ros.cli.node_parameters import DepthNodeParameters
from dualfocus_ros.exceptions import UsageError
from dualfocus_ros.nodes.depth_parameters import DepthNodeSettings

COMPRESSED, CAMERA_INFO = topics.COMPRESSED_IMAGE, topics.CAMERA_INFO_TYPE
IMAGE, STACK = topics.IMAGE, topics.FOCAL_STACK.message_type
# Sources of focus: type and name, in the order of preference.
FOCUS = {
    source: (topic.message_type, topic.name) for source, topic in topics.FOCUS_SOURCES.items()
}
# Endings of the names of outputs; depth is never computed from these.
_OUTPUTS = tuple(
    f'/{name}'
    for name in (
        *(topic.name for topic in topics.OUTPUTS),
        topics.GROUND_TRUTH_DEPTH,
        topics.GROUND_TRUTH_CAMERA_INFO,
    )
)


@dataclass(frozen=True)
class BagInputs:
    """What is read of a bag.

    :param settings: the parameters, with what was found out where the user gave nothing.
    :param remap: absolute names in the bag by absolute names of the node.
    :param missing: what the bag lacks, in words; depth cannot be computed without it.
    :param image: the topic of the images, None where there is none.
    :param camera_info: the topic of their calibration, None where there is none.
    """

    settings: DepthNodeSettings
    remap: dict[str, str]
    missing: list[str] = field(default_factory=list)
    image: str | None = None
    camera_info: str | None = None


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    group = parser.add_argument_group('topics (by default found by their types)')
    group.add_argument(
        '-r',
        '--remap',
        action='append',
        default=[],
        metavar='FROM:=TO',
        help='name of the node := name in the bag; for outputs, the name to write',
    )
    group.add_argument('--image-topic', metavar='TOPIC', help='images, where there are several')
    group.add_argument('--camera-info-topic', metavar='TOPIC', help='calibration of the images')
    group.add_argument('--focus-topic', metavar='TOPIC', help='FocusState, metadata or command')


def parse_remaps(arguments: argparse.Namespace) -> dict[str, str]:
    """Return what ``--remap`` says, with absolute names.

    :raises UsageError: for what is not ``FROM:=TO``.
    """
    remap = {}
    for text in arguments.remap:
        source, separator, target = text.partition(':=')
        if not separator or not source or not target:
            raise UsageError(f'--remap takes FROM:=TO, got {text!r}')
        remap[absolute_name(source)] = absolute_name(target)
    return remap


def absolute_name(topic: str) -> str:
    """Return a topic name with a leading slash."""
    return '/' + topic.strip('/')


def find_inputs(
    bag: BagReader, parameters: DepthNodeParameters, arguments: argparse.Namespace
) -> BagInputs:
    """Find images, calibration and focus; what the user says goes first.

    :raises UsageError: if there are several to choose from, or a named topic is not there.
    """
    remap = parse_remaps(arguments)
    for name, chosen in (
        ('/image_raw', arguments.image_topic),
        ('/camera_info', arguments.camera_info_topic),
    ):
        if chosen is not None:
            remap[name] = absolute_name(chosen)
    types = {name: topic.message_type for name, topic in bag.topics.items()}
    settings = parameters.settings
    if settings.input == 'planes':
        return _planes(types, settings, remap)
    if settings.input == 'stack' or _only_stacks(types, parameters, remap):
        return _stacks(types, replace(settings, input='stack'), remap)
    return _sweep(types, parameters, remap, arguments.focus_topic)


def _sweep(
    types: Mapping[str, str],
    parameters: DepthNodeParameters,
    remap: dict[str, str],
    focus_topic: str | None,
) -> BagInputs:
    settings, missing = parameters.settings, []
    image = _image(
        types, remap, settings.image_transport if 'image_transport' in parameters.given else None
    )
    if image is None:
        return BagInputs(
            settings,
            remap,
            [
                f'no topic with images ({IMAGE}, {COMPRESSED}): the bag has '
                f'{", ".join(sorted(types)) or "no topics"}'
            ],
        )
    base = image.removesuffix('/compressed') if types[image] == COMPRESSED else image
    settings = replace(
        settings, image_transport='compressed' if types[image] == COMPRESSED else 'raw'
    )
    remap['/image_raw'] = base
    camera = _camera(types, remap, base)
    source, focus = _focus(types, remap, base, focus_topic, parameters)
    if source is None or focus is None:
        wanted = ', '.join(f'{name} ({kind})' for kind, name in FOCUS.values())
        missing.append(f'nothing that tells the focus of {image}: no topic such as {wanted}')
    else:
        settings = replace(settings, focus_source=source)
        remap[f'/{FOCUS[source][1]}'] = focus
        commands = [name for name, kind in types.items() if kind == FOCUS['command'][0]]
        if len(commands) == 1:  # to compare with what is reported
            remap.setdefault(f'/{FOCUS["command"][1]}', commands[0])
    return BagInputs(settings, remap, missing, image, camera)


def _image(
    types: Mapping[str, str], remap: Mapping[str, str], transport: str | None
) -> str | None:
    """Return the topic of the images, the compressed one under its full name."""
    given = remap.get('/image_raw')
    if given is not None:
        raw_first = [given, f'{given}/compressed']
        for name in raw_first if transport != 'compressed' else reversed(raw_first):
            if types.get(name) in (IMAGE, COMPRESSED):
                return name
        raise UsageError(
            f'the bag has no images on {given}; it has images on '
            f'{", ".join(_of_type(types, IMAGE, COMPRESSED)) or "no topic"}'
        )
    kinds = {'raw': (IMAGE,), 'compressed': (COMPRESSED,), None: (IMAGE, COMPRESSED)}[transport]
    found = _of_type(types, *kinds)
    # One camera may be there both raw and compressed.
    found = [
        name
        for name in found
        if name.removesuffix('/compressed') not in found or not name.endswith('/compressed')
    ]
    if len(found) > 1:
        focused = {_folder(n) for kind, _ in FOCUS.values() for n in _of_type(types, kind)}
        beside = [n for n in found if _folder(n.removesuffix('/compressed')) in focused]
        found = beside or found
    if len(found) > 1:
        named = [n for n in found if n.removesuffix('/compressed').endswith('/image_raw')]
        found = named if len(named) == 1 else found
    if len(found) > 1:
        raise UsageError(
            f'the bag has images of several cameras, {", ".join(found)}: choose one with '
            f'--image-topic {found[0]}'
        )
    return found[0] if found else None


def _camera(types: Mapping[str, str], remap: dict[str, str], base: str) -> str | None:
    """Return the topic of the calibration, and note it in the remaps."""
    if '/camera_info' in remap:
        chosen = remap['/camera_info']
        if types.get(chosen) != CAMERA_INFO:
            raise UsageError(
                f'the bag has no {CAMERA_INFO} on {chosen}; it has '
                f'{", ".join(_of_type(types, CAMERA_INFO)) or "none"}'
            )
        return chosen
    found = _of_type(types, CAMERA_INFO)
    beside = [name for name in found if _folder(name) == _folder(base)]
    # With one camera its calibration may lie anywhere; with several only beside the images.
    choice = beside[0] if beside else found[0] if len(found) == 1 else None
    # A topic of which the bag has nothing, rather than that of another camera.
    remap['/camera_info'] = choice or f'{_folder(base)}/camera_info'
    return choice


def _focus(
    types: Mapping[str, str],
    remap: Mapping[str, str],
    base: str,
    focus_topic: str | None,
    parameters: DepthNodeParameters,
) -> tuple[str | None, str | None]:
    """Return the focus source and its topic."""
    sources = list(FOCUS)
    if 'focus_source' in parameters.given:
        sources = [parameters.settings.focus_source]
    if focus_topic is not None:
        chosen = absolute_name(focus_topic)
        for source in sources:
            if types.get(chosen) == FOCUS[source][0]:
                return source, chosen
        raise UsageError(
            f'the bag has no focus on {chosen}: expected '
            + ' or '.join(FOCUS[source][0] for source in sources)
        )
    for source in sources:
        kind, name = FOCUS[source]
        if f'/{name}' in remap:
            return source, remap[f'/{name}']
        found = _of_type(types, kind)
        if source == 'camera_ros':  # diagnostics of all kinds have this type
            found = [n for n in found if n.endswith(f'/{name}')]
        beside = [n for n in found if _folder(n) == _folder(base)]
        if beside:
            return source, beside[0]
        if len(found) == 1:
            return source, found[0]
        if found:
            raise UsageError(
                f'the bag has several topics that tell a focus, {", ".join(found)}: choose one '
                f'with --focus-topic {found[0]}'
            )
    return None, None


def _only_stacks(
    types: Mapping[str, str], parameters: DepthNodeParameters, remap: Mapping[str, str]
) -> bool:
    """Whether the bag has whole stacks and no focus of single images."""
    if 'input' in parameters.given or '/image_raw' in remap or not _of_type(types, STACK):
        return False
    return not any(_of_type(types, FOCUS[name][0]) for name in ('focus_state', 'command'))


def _stacks(
    types: Mapping[str, str], settings: DepthNodeSettings, remap: dict[str, str]
) -> BagInputs:
    found = [remap['/focal_stack']] if '/focal_stack' in remap else _of_type(types, STACK)
    if len(found) > 1:
        raise UsageError(
            f'the bag has several topics of stacks, {", ".join(found)}: choose one with '
            f'--remap focal_stack:={found[0]}'
        )
    if not found or types.get(found[0]) != STACK:
        return BagInputs(settings, remap, [f'no topic of type {STACK}'])
    remap['/focal_stack'] = found[0]
    camera = _camera(types, remap, found[0])
    return BagInputs(settings, remap, [], found[0], camera)


def _planes(
    types: Mapping[str, str], settings: DepthNodeSettings, remap: dict[str, str]
) -> BagInputs:
    missing = []
    kind, ending = IMAGE, ''
    if settings.image_transport == 'compressed':
        kind, ending = COMPRESSED, '/compressed'
    for plane in range(len(settings.planes_focus_dioptres)):
        name = f'/plane_{plane}/image_raw'
        if name not in remap:
            found = [n for n in _of_type(types, kind) if n.endswith(name + ending)]
            if len(found) == 1:
                remap[name] = found[0].removesuffix(ending)
        if types.get(remap.get(name, name) + ending) != kind:
            missing.append(f'no {kind} for {name}: give --remap {name[1:]}:=TOPIC')
    first = remap.get('/plane_0/image_raw', '/plane_0/image_raw')
    camera = _camera(types, remap, first)
    return BagInputs(settings, remap, missing, first + ending, camera)


def _of_type(types: Mapping[str, str], *kinds: str) -> list[str]:
    return _not_made(name for name, kind in types.items() if kind in kinds)


def is_output_topic(topic: str) -> bool:
    """Whether a topic is named as an output of this package."""
    return topic.endswith(_OUTPUTS)


def _not_made(names: Iterable[str]) -> list[str]:
    return sorted(name for name in names if not is_output_topic(name))


def _folder(topic: str) -> str:
    return topic.rpartition('/')[0]
