# SPDX-License-Identifier: Apache-2.0
"""``dualfocus view --live``: outputs of a running depth node in a browser.

Topics are subscribed to only while a page polls: the depth node computes outputs on demand.
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
from rclpy.executors import SingleThreadedExecutor
from rclpy.serialization import deserialize_message

from dualfocus_ros.bags.message_types import import_message_class, typestore
from dualfocus_ros.bags.recorder import TopicRecorder
from dualfocus_ros.cli.bag_arguments import parameters_from, parse_remaps
from dualfocus_ros.cli.ros_environment import live_node
from dualfocus_ros.cli.view_server import announce, start_server
from dualfocus_ros.exceptions import UsageError
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.nodes.messages.image_decoding import MessageError, decode_image
from dualfocus_ros.nodes.messages.input_messages import calibration_from_msg, cameras_of
from dualfocus_ros.nodes.parameters.derived_settings import estimator_settings
from dualfocus_ros.nodes.parameters.parameter_reader import DepthNodeParameters
from dualfocus_ros.nodes.stack_processor import load_estimator
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
from dualfocus_ros.visualization.sweep_view import SweepView, add_focus_curves, compute_sweep_view

logger = logging.getLogger(__name__)

_DISCOVERY_TIMEOUT = 3.0  # s
_POLL_PERIOD = 0.3  # s, between checks for viewers and new topics
_COMPLETION_TIMEOUT = 1.0  # s, to wait for the other outputs after the depth
_MAX_IMAGE_BYTES = 256_000_000  # of kept camera images
_MAX_MESSAGES = 128  # kept per topic
_MAX_STAMPS = 16  # of outputs
_SCALE_SWEEPS = 5  # newest sweeps that the colour scales fit


@dataclass(frozen=True)
class _InputTopics:
    """Inputs of a depth node.

    :param image: topic of the planes; None if they come on several topics.
    :param camera_info: topic of their calibration; None if absent or ambiguous.
    """

    image: str | None = None
    image_type: str = IMAGE
    camera_info: str | None = None


def show_live(arguments: argparse.Namespace, names: Sequence[str]) -> int:
    """Serve until Ctrl-C, the normal end.

    :param names: absolute namespaces or topics that select the depth node.
    """
    parameters = parameters_from(arguments)
    with live_node('dualfocus_view', use_sim_time=arguments.use_sim_time) as node:
        try:
            outputs = _find_outputs(node, arguments, names)
            estimator = load_estimator(parameters.settings) if arguments.curves else None
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
    """Collects the outputs of a depth node and publishes complete sweeps to a page server."""

    def __init__(
        self,
        node: Any,
        arguments: argparse.Namespace,
        outputs: dict[str, str],
        names: Sequence[str],
        estimator: Any,
        parameters: DepthNodeParameters,
    ) -> None:
        self._node = node
        self._range = None if arguments.range is None else tuple(arguments.range)
        self._outputs = outputs
        self._relative = {name: relative for relative, name in outputs.items()}
        self._selected = set(names)
        self._estimator = estimator
        self._settings = parameters.settings
        self._collector = OutputCollector(outputs, _MAX_STAMPS)
        self._recorder = TopicRecorder(
            node,
            {name: import_message_class(OUTPUTS[relative]) for relative, name in outputs.items()},
            None,
            self._on_message,
        )
        self._images: OrderedDict[int, bytes] = OrderedDict()
        self._cameras: OrderedDict[int, bytes] = OrderedDict()
        self._inputs: _InputTopics | None = None
        self._pending: dict[int, tuple[OutputMessages, float]] = {}
        self._recent: deque[SweepView] = deque(maxlen=_SCALE_SWEEPS)
        self._shown = 0
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(node)

    def close(self) -> None:
        """Unsubscribe."""
        self._recorder.close()
        self._executor.shutdown()

    def run(self, server: PageServer) -> None:
        """Publish sweeps until KeyboardInterrupt."""
        last_poll = -1e9
        while True:
            if time.monotonic() - last_poll > _POLL_PERIOD:
                last_poll = time.monotonic()
                self._update_subscriptions(server)
            self._executor.spin_once(timeout_sec=0.1)
            complete = self._pop_complete()
            if complete is not None:
                self._publish(complete, server)

    def _update_subscriptions(self, server: PageServer) -> None:
        """Subscribe while the page has viewers, unsubscribe otherwise."""
        if not server.has_viewers:
            self._recorder.close()
            self._pending.clear()
            return
        missing = self._recorder.discover()
        depth = self._outputs[DEPTH.name]
        if depth in missing:
            server.status = f'waiting: {depth} has no publisher'
            return
        server.status = f'waiting for the next sweep on {depth}'
        if self._inputs is None:
            self._inputs = _find_inputs_of_publisher(self._node, depth, self._selected)
            if self._inputs is not None and self._inputs.image is not None:
                self._recorder.add(
                    self._inputs.image, import_message_class(self._inputs.image_type)
                )
                if self._inputs.camera_info is not None and self._estimator is not None:
                    self._recorder.add(
                        self._inputs.camera_info, import_message_class(CAMERA_INFO_TYPE)
                    )

    def _on_message(self, topic: str, data: bytes, receipt_ns: int) -> None:
        if self._inputs is not None and topic in (self._inputs.image, self._inputs.camera_info):
            kept = self._images if topic == self._inputs.image else self._cameras
            kept[read_header_stamp(data)] = data
            while len(kept) > 2 and sum(map(len, kept.values())) > _MAX_IMAGE_BYTES:
                kept.popitem(last=False)
            while len(kept) > _MAX_MESSAGES:
                kept.popitem(last=False)
            return
        try:
            message = typestore().deserialize_cdr(data, OUTPUTS[self._relative[topic]])
        except Exception as error:  # damaged data raise exceptions of any type
            logger.warning('a message on %s is left out: %s', topic, type(error).__name__)
            return
        outputs = self._collector.add(topic, message)
        if outputs.stamp_ns not in self._pending:
            self._pending[outputs.stamp_ns] = outputs, time.monotonic()

    def _pop_complete(self) -> OutputMessages | None:
        """Return the newest sweep that is complete or timed out; drop it and older ones."""
        now = time.monotonic()
        complete = [
            outputs
            for outputs, since in self._pending.values()
            if DEPTH.name in outputs.messages
            and (len(outputs.messages) == len(self._outputs) or now - since > _COMPLETION_TIMEOUT)
        ]
        if not complete:
            return None
        newest = max(complete, key=lambda outputs: outputs.stamp_ns)
        for stamp in [s for s in self._pending if s <= newest.stamp_ns]:
            del self._pending[stamp]
        return newest

    def _publish(self, outputs: OutputMessages, server: PageServer) -> None:
        name = f'{self._shown}: depth at {format_stamp(outputs.stamp_ns)}'
        try:
            sweep = self._add_planes(outputs, outputs.sweep(name))
        except ValueError as error:
            logger.warning('%s is left out: %s', name, error)
            return
        self._shown += 1
        self._recent.append(replace(sweep, planes=None, probability=None, all_in_focus=None))
        server.publish(encode_sweep(sweep, encode_scales(self._recent, self._range)))

    def _add_planes(self, outputs: OutputMessages, sweep: SweepView) -> SweepView:
        """Return the sweep with its planes, and with focus curves if ``--curves`` is set."""
        stamps = outputs.plane_stamps_ns
        if not stamps or not all(stamp in self._images for stamp in stamps):
            return sweep
        try:
            images = [self._decode_image(stamp) for stamp in stamps]
            if self._estimator is not None and sweep.focus_dioptres is not None:
                return self._add_curves(sweep, stamps, images)
        except MessageError as error:
            logger.warning('planes are left out: %s', error)
            return sweep
        return replace(sweep, planes=tuple(images))

    def _decode_image(self, stamp: int) -> np.ndarray:
        assert self._inputs is not None
        image = _deserialize(self._images[stamp], self._inputs.image_type)
        return decode_image(image, self._settings.max_pixels)

    def _add_curves(
        self, sweep: SweepView, stamps: list[int], images: list[np.ndarray]
    ) -> SweepView:
        assert sweep.focus_dioptres is not None
        planes = []
        for stamp, image, focus in zip(stamps, images, sweep.focus_dioptres, strict=True):
            calibration = None
            if stamp in self._cameras:
                info = _deserialize(self._cameras[stamp], CAMERA_INFO_TYPE)
                calibration = calibration_from_msg(info)
            camera, distorted = cameras_of(image, calibration, self._settings.rectify == 'auto')
            planes.append(Plane(image, float(focus), stamp, camera, calibration=distorted))
        settings = estimator_settings(self._settings)
        stack = FocalStack(tuple(planes))
        computed = compute_sweep_view(stack, self._estimator, settings, sweep.name)
        return add_focus_curves(sweep, computed)


def _deserialize(data: bytes, message_type: str) -> Any:
    return deserialize_message(data, import_message_class(message_type))


def _find_outputs(
    node: Any, arguments: argparse.Namespace, names: Sequence[str]
) -> dict[str, str]:
    """Return absolute names by relative name of the outputs of the depth node."""
    remap = parse_remaps(arguments.remap)
    bases = {base for base in map(_output_namespace, names) if base is not None}
    deadline = time.monotonic() + _DISCOVERY_TIMEOUT
    while True:
        known = dict(node.get_topic_names_and_types())
        depths = sorted(
            n for n, types in known.items() if n.endswith(f'/{DEPTH.name}') and IMAGE in types
        )
        if depths or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    # A name that is neither an output nor a topic is a namespace.
    bases |= {
        f'{name.rstrip("/")}/'
        for name in names
        if _output_namespace(name) is None and name not in known
    }
    if len(bases) > 1:
        raise UsageError(f'{", ".join(sorted(bases))} are several depth nodes; give one')
    if arguments.depth_topic is not None:
        remap[f'/{DEPTH.name}'] = arguments.depth_topic
    base = next(iter(bases), None)
    if base is None:
        if len(depths) > 1 and f'/{DEPTH.name}' not in remap:
            choices = ', '.join(depth.removesuffix(DEPTH.name) for depth in depths)
            raise UsageError(f'several depth nodes are running; give a namespace: {choices}')
        base = depths[0].removesuffix(DEPTH.name) if depths else '/'
    if not arguments.live and not any(name.startswith(base) for name in depths):
        raise UsageError(
            f'{names[0]} is neither a bag nor the namespace of a running depth node '
            f'({", ".join(depths) or "none is running"}); --live waits for one'
        )
    return {relative: remap.get(f'/{relative}', f'{base}{relative}') for relative in OUTPUTS}


def _output_namespace(name: str) -> str | None:
    """Return the namespace of a depth node's output, with a slash; None for other names."""
    for relative in OUTPUTS:
        if name.endswith(f'/{relative}'):
            return name.removesuffix(relative)
    return name.removesuffix('depth') if name.endswith('/depth') else None


def _find_inputs_of_publisher(node: Any, depth: str, selected: set[str]) -> _InputTopics | None:
    """Return the inputs of the node that publishes ``depth``; None until it is discovered."""
    publishers = node.get_publishers_info_by_topic(depth)
    if not publishers:
        return None
    peer = publishers[0]
    try:
        subscribed = dict(
            node.get_subscriber_names_and_types_by_node(peer.node_name, peer.node_namespace)
        )
    except Exception:  # topics of a node are discovered before its name
        return None
    if not subscribed:
        return None
    types = {name: kinds[0] for name, kinds in subscribed.items()}
    images = {name: kind for name, kind in types.items() if kind in (IMAGE, COMPRESSED_IMAGE)}
    images = {name: kind for name, kind in images.items() if name in selected} or images
    cameras = [name for name, kind in types.items() if kind == CAMERA_INFO_TYPE]
    if len(images) != 1:
        logger.info(
            'no planes are shown: the depth node subscribes to images on %s',
            ', '.join(sorted(images)) or 'no topic',
        )
        return _InputTopics()
    image, kind = next(iter(images.items()))
    return _InputTopics(image, kind, cameras[0] if len(cameras) == 1 else None)
