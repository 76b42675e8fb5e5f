# SPDX-License-Identifier: Apache-2.0
"""``dualfocus view --live``: outputs of a running depth node in a browser.

Topics are subscribed to only while a page polls: the depth node computes outputs on demand.
"""

from __future__ import annotations

import argparse
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import replace
import logging
import time
from typing import Any

import numpy as np

from dualfocus_ros.bags.message_types import import_message_class, typestore
from dualfocus_ros.bags.recorder import TopicRecorder
from dualfocus_ros.cli.bag_arguments import parameters_from
from dualfocus_ros.cli.live_topics import InputTopics, find_inputs_of_publisher, find_outputs
from dualfocus_ros.cli.ros_environment import live_node, require_ros
from dualfocus_ros.cli.view import announce, start_server
from dualfocus_ros.nodes.parameters.derived_settings import estimator_settings
from dualfocus_ros.nodes.parameters.parameter_reader import DepthNodeParameters
from dualfocus_ros.stamps import read_header_stamp
from dualfocus_ros.topics import CAMERA_INFO_TYPE, COMPRESSED_IMAGE, DEPTH
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

_POLL_PERIOD = 0.3  # s, between checks for viewers and new topics
_COMPLETION_TIMEOUT = 1.0  # s, to wait for the other outputs after the depth
_MAX_IMAGE_BYTES = 256_000_000  # of kept camera images
_MAX_MESSAGES = 128  # kept per topic
_MAX_STAMPS = 16  # of outputs
_SCALE_SWEEPS = 5  # newest sweeps that the colour scales fit


def show_live(arguments: argparse.Namespace, names: Sequence[str]) -> int:
    """Serve until Ctrl-C, the normal end.

    :param names: absolute namespaces or topics that select the depth node.
    """
    parameters = parameters_from(arguments)
    require_ros('dualfocus_ros.nodes.messages.input_messages')
    with live_node('dualfocus_view', use_sim_time=arguments.use_sim_time) as node:
        try:
            outputs = find_outputs(node, arguments, names)
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
        from rclpy.executors import SingleThreadedExecutor

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
        self._inputs: InputTopics | None = None
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
            self._inputs = find_inputs_of_publisher(self._node, depth, self._selected)
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
        from dualfocus_ros.nodes.messages.message_checks import MessageError

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
        from rclpy.serialization import deserialize_message

        from dualfocus_ros.nodes.messages.compressed_images import compressed_to_array
        from dualfocus_ros.nodes.messages.raw_images import image_to_array

        assert self._inputs is not None
        image_type = self._inputs.image_type
        message = deserialize_message(self._images[stamp], import_message_class(image_type))
        decode = compressed_to_array if image_type == COMPRESSED_IMAGE else image_to_array
        return decode(message, self._settings.max_pixels)

    def _add_curves(
        self, sweep: SweepView, stamps: list[int], images: list[np.ndarray]
    ) -> SweepView:
        from rclpy.serialization import deserialize_message

        from dualfocus_ros.focal_stack import FocalStack, Plane
        from dualfocus_ros.nodes.messages.input_messages import calibration_from_msg

        assert sweep.focus_dioptres is not None
        planes = []
        for stamp, image, focus in zip(stamps, images, sweep.focus_dioptres, strict=True):
            calibration = None
            if stamp in self._cameras:
                info = deserialize_message(
                    self._cameras[stamp], import_message_class(CAMERA_INFO_TYPE)
                )
                calibration = calibration_from_msg(info)
            rectify = (
                calibration is not None
                and not calibration.is_rectified
                and self._settings.rectify == 'auto'
            )
            planes.append(
                Plane(
                    image,
                    float(focus),
                    stamp,
                    None if calibration is None else calibration.output,
                    calibration=calibration if rectify else None,
                )
            )
        settings = estimator_settings(self._settings)
        computed = compute_sweep_view(
            FocalStack(tuple(planes)), self._estimator, settings, sweep.name
        )
        return add_focus_curves(sweep, computed)
