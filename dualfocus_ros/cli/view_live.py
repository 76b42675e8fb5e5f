# SPDX-License-Identifier: Apache-2.0
"""``dualfocus view --live``: what a running depth node publishes, in a browser.

The page asks for sweeps; topics are subscribed to only while one does, because a depth node
computes what is listened to.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
import logging
import time
from typing import Any

import numpy as np

from dualfocus_ros.bags.message_types import import_message_class, typestore
from dualfocus_ros.bags.recorder import TopicRecorder
from dualfocus_ros.cli.bag_arguments import parse_remaps
from dualfocus_ros.cli.parameter_arguments import parameters_from
from dualfocus_ros.cli.ros_environment import live_node, require_ros
from dualfocus_ros.cli.view import announce, start_server
from dualfocus_ros.exceptions import UsageError
from dualfocus_ros.nodes.parameter_reader import DepthNodeParameters
from dualfocus_ros.stamps import read_header_stamp
from dualfocus_ros.topics import CAMERA_INFO_TYPE, COMPRESSED_IMAGE, DEPTH, IMAGE
from dualfocus_ros.visualization.output_collector import (
    OUTPUTS,
    OutputCollector,
    OutputMessages,
    format_stamp,
)
from dualfocus_ros.visualization.page_server import PageServer
from dualfocus_ros.visualization.sweep_encoding import encode_scales, encode_sweep
from dualfocus_ros.visualization.sweep_page import build_page
from dualfocus_ros.visualization.sweep_view import SweepView

logger = logging.getLogger(__name__)

_DISCOVERY_TIMEOUT = 3.0  # seconds for others to be discovered
_COMPLETION_TIMEOUT = 1.0  # seconds after its depth that the rest of a sweep has to come
_MAX_IMAGE_BYTES = 256_000_000  # of the frames from which planes are taken
_SCALE_SWEEPS = 5  # sweeps that the colours follow


@dataclass(frozen=True)
class LiveTopics:
    """What is looked at.

    :param outputs: topics by the relative names of the depth node's outputs.
    :param image: the frames that sweeps are made of, as far as they come on one topic.
    :param camera: their calibration.
    """

    outputs: dict[str, str]
    image: str | None = None
    image_type: str = IMAGE
    camera: str | None = None


def show_live(arguments: argparse.Namespace, names: Sequence[str]) -> int:
    """Serve until Ctrl-C, which is no failure.

    :param names: namespaces or topics, absolute.
    """
    parameters = parameters_from(arguments)
    require_ros('dualfocus_ros.nodes.input_messages')
    with live_node('dualfocus_view', use_sim_time=arguments.use_sim_time) as node:
        try:
            outputs = _find(node, arguments, names)
            estimator = None
            if arguments.curves:
                from dualfocus_ros.nodes.stack_processor import load_estimator

                estimator = load_estimator(parameters.settings)
            page = build_page(arguments.title or f'live: {outputs[DEPTH.name]}', [], live=True)
            with start_server(arguments, page) as server:
                announce(arguments, server.url, {'url': server.url, 'topics': outputs})
                viewer = LiveViewer(node, arguments, outputs, names, estimator, parameters)
                try:
                    viewer.run(server)
                finally:
                    viewer.close()
        except KeyboardInterrupt:
            logger.info('ended by a signal')
    return 0


class LiveViewer:
    """Listens, puts sweeps together, and hands them to the server."""

    def __init__(
        self,
        node: Any,
        arguments: argparse.Namespace,
        outputs: dict[str, str],
        names: Sequence[str],
        estimator: Any,
        parameters: DepthNodeParameters,
    ) -> None:
        from rclpy.executors import SingleThreadedExecutor

        self._node = node
        self._range = None if arguments.range is None else tuple(arguments.range)
        self._outputs = outputs
        self._named = set(names)
        self._estimator = estimator
        self._settings = parameters.settings
        self._gatherer = OutputCollector(outputs, 16)
        self._recorder = TopicRecorder(
            node,
            {name: import_message_class(OUTPUTS[relative]) for relative, name in outputs.items()},
            None,
            self._take,
        )
        self._frames: OrderedDict[int, bytes] = OrderedDict()
        self._cameras: OrderedDict[int, bytes] = OrderedDict()
        self._topics: LiveTopics | None = None
        self._pending: dict[int, tuple[OutputMessages, float]] = {}
        self._recent: deque[SweepView] = deque(maxlen=_SCALE_SWEEPS)
        self._shown = 0
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)

    def close(self) -> None:
        """Stop listening."""
        self._recorder.close()
        self._executor.shutdown()

    def run(self, server: PageServer) -> None:
        """Go on until KeyboardInterrupt."""
        looked = -1e9
        while True:
            if time.monotonic() - looked > 0.3:
                looked = time.monotonic()
                self._listen(server)
            self._executor.spin_once(timeout_sec=0.1)
            ready = self._ready()
            if ready is not None:
                self._show(ready, server)

    def _listen(self, server: PageServer) -> None:
        """Subscribe while somebody looks."""
        if not server.has_viewers:
            self._recorder.close()
            self._pending.clear()
            return
        missing = self._recorder.discover()
        depth = self._outputs[DEPTH.name]
        if depth in missing:
            server.state(f'waiting: nobody publishes {depth}')
            return
        server.state(f'waiting for the next sweep on {depth}')
        if self._topics is None:
            self._topics = _planes_of(self._node, self._outputs, self._named)
            if self._topics is not None and self._topics.image is not None:
                self._recorder.add(
                    self._topics.image, import_message_class(self._topics.image_type)
                )
                if self._topics.camera is not None and self._estimator is not None:
                    self._recorder.add(self._topics.camera, import_message_class(CAMERA_INFO_TYPE))

    def _take(self, topic: str, data: bytes, receipt_ns: int) -> None:
        if self._topics is not None and topic in (self._topics.image, self._topics.camera):
            kept = self._frames if topic == self._topics.image else self._cameras
            kept[read_header_stamp(data)] = data
            while len(kept) > 2 and sum(map(len, kept.values())) > _MAX_IMAGE_BYTES:
                kept.popitem(last=False)
            while len(kept) > 128:
                kept.popitem(last=False)
            return
        relative = next(r for r, name in self._outputs.items() if name == topic)
        try:
            message = typestore().deserialize_cdr(data, OUTPUTS[relative])
        except Exception as error:  # damaged data fail in every way that parsing can
            logger.warning('a message on %s is left out: %s', topic, type(error).__name__)
            return
        outputs = self._gatherer.take(topic, message)
        if outputs.stamp_ns not in self._pending:
            self._pending[outputs.stamp_ns] = outputs, time.monotonic()

    def _ready(self) -> OutputMessages | None:
        """Return the newest sweep of which everything has come, or nothing more will."""
        now = time.monotonic()
        ready = [
            outputs
            for outputs, since in self._pending.values()
            if DEPTH.name in outputs.messages
            and (len(outputs.messages) == len(self._outputs) or now - since > _COMPLETION_TIMEOUT)
        ]
        if not ready:
            return None
        newest = max(ready, key=lambda outputs: outputs.stamp_ns)
        for stamp in [s for s in self._pending if s <= newest.stamp_ns]:
            del self._pending[stamp]
        return newest

    def _show(self, outputs: OutputMessages, server: PageServer) -> None:
        name = f'{self._shown}: depth at {format_stamp(outputs.stamp_ns)}'
        try:
            sweep = self._with_planes(outputs, outputs.sweep(name))
        except ValueError as error:
            logger.warning('%s is left out: %s', name, error)
            return
        self._shown += 1
        self._recent.append(replace(sweep, planes=None, probability=None, all_in_focus=None))
        server.show(encode_sweep(sweep, encode_scales(self._recent, self._range)))

    def _with_planes(self, outputs: OutputMessages, sweep: SweepView) -> SweepView:
        from dualfocus_ros.nodes.message_checks import MessageError

        stamps = outputs.plane_stamps_ns
        if not stamps or not all(stamp in self._frames for stamp in stamps):
            return sweep
        try:
            images = [self._image(stamp) for stamp in stamps]
            if self._estimator is not None and sweep.focus_dioptres is not None:
                return self._with_curves(sweep, stamps, images)
        except MessageError as error:
            logger.warning('planes are left out: %s', error)
            return sweep
        return replace(sweep, planes=tuple(images))

    def _image(self, stamp: int) -> np.ndarray:
        from rclpy.serialization import deserialize_message

        from dualfocus_ros.nodes.compressed_images import compressed_to_array
        from dualfocus_ros.nodes.raw_images import image_to_array

        assert self._topics is not None
        message = deserialize_message(
            self._frames[stamp], import_message_class(self._topics.image_type)
        )
        decode = (
            compressed_to_array if self._topics.image_type == COMPRESSED_IMAGE else image_to_array
        )
        return decode(message, self._settings.max_pixels)

    def _with_curves(
        self, sweep: SweepView, stamps: list[int], images: list[np.ndarray]
    ) -> SweepView:
        from rclpy.serialization import deserialize_message

        from dualfocus_ros.focal_stack import FocalStack, Plane
        from dualfocus_ros.nodes.input_messages import calibration_from_msg
        from dualfocus_ros.visualization.sweep_computation import (
            add_focus_curves,
            compute_sweep_view,
        )

        assert sweep.focus_dioptres is not None
        planes = []
        for stamp, image, focus in zip(stamps, images, sweep.focus_dioptres, strict=True):
            calibration = None
            if stamp in self._cameras:
                info = deserialize_message(
                    self._cameras[stamp], import_message_class(CAMERA_INFO_TYPE)
                )
                calibration = calibration_from_msg(info)
            rectify = calibration is not None and not calibration.is_rectified
            planes.append(
                Plane(
                    image,
                    float(focus),
                    stamp,
                    None if calibration is None else calibration.output,
                    calibration=calibration
                    if rectify and self._settings.rectify == 'auto'
                    else None,
                )
            )
        stack = FocalStack(tuple(planes))
        settings = self._settings.pipeline()
        return add_focus_curves(
            sweep, compute_sweep_view(stack, self._estimator, settings, sweep.name)
        )


def _find(node: Any, arguments: argparse.Namespace, names: Sequence[str]) -> dict[str, str]:
    """Return the topics of the depth node that is meant.

    :raises UsageError: if several are there to choose from, or names mean nothing.
    """
    remap = parse_remaps(arguments.remap)
    bases = {base for base in map(_base, names) if base is not None}
    until = time.monotonic() + _DISCOVERY_TIMEOUT
    namespaces: set[str] = set()
    while True:
        known = dict(node.get_topic_names_and_types())
        depths = sorted(
            n for n, types in known.items() if n.endswith(f'/{DEPTH.name}') and IMAGE in types
        )
        # A name that is neither an output nor a topic is a namespace.
        namespaces = {
            f'{name.rstrip("/")}/' for name in names if _base(name) is None and name not in known
        }
        if depths or time.monotonic() > until:
            break
        time.sleep(0.1)
    bases |= namespaces
    if len(bases) > 1:
        raise UsageError(f'one depth node at a time, not {", ".join(sorted(bases))}')
    if arguments.depth_topic is not None:
        remap[f'/{DEPTH.name}'] = arguments.depth_topic
    base = next(iter(bases), None)
    if base is None:
        if len(depths) > 1 and f'/{DEPTH.name}' not in remap:
            choices = ', '.join(depth.removesuffix(DEPTH.name) for depth in depths)
            raise UsageError(f'several depth nodes are running: name the namespace, of {choices}')
        base = depths[0].removesuffix(DEPTH.name) if depths else '/'
    if not arguments.live and not any(name.startswith(base) for name in depths):
        raise UsageError(
            f'{names[0]} is neither a bag nor where a depth node publishes '
            f'({", ".join(depths) or "none does"}); --live waits for one'
        )
    return {relative: remap.get(f'/{relative}', f'{base}{relative}') for relative in OUTPUTS}


def _base(name: str) -> str | None:
    """Return the namespace of an output of the depth node, with a slash; None for other names."""
    for relative in OUTPUTS:
        if name.endswith(f'/{relative}'):
            return name.removesuffix(relative)
    return name.removesuffix('depth') if name.endswith('/depth') else None


def _planes_of(node: Any, outputs: dict[str, str], named: set[str]) -> LiveTopics | None:
    """Return which frames the depth node takes, as the graph tells; None before it does."""
    publishers = node.get_publishers_info_by_topic(outputs[DEPTH.name])
    if not publishers:
        return None
    peer = publishers[0]
    try:
        taken = dict(
            node.get_subscriber_names_and_types_by_node(peer.node_name, peer.node_namespace)
        )
    except Exception:  # the node is known by its topics before it is by its name
        return None
    found = {
        name: types[0] for name, types in taken.items() if types[0] in (IMAGE, COMPRESSED_IMAGE)
    }
    found = {name: kind for name, kind in found.items() if name in named} or found
    cameras = [name for name, types in taken.items() if types[0] == CAMERA_INFO_TYPE]
    if not taken:
        return None
    if len(found) != 1:
        logger.info(
            'no planes are shown: the node takes images on %s',
            ', '.join(sorted(found)) or 'no topic',
        )
        return LiveTopics(outputs)
    image, kind = next(iter(found.items()))
    return LiveTopics(outputs, image, kind, cameras[0] if len(cameras) == 1 else None)
