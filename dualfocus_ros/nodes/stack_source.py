# SPDX-License-Identifier: Apache-2.0
"""Base of the inputs of the depth node: subscriptions, decoding and counting of messages."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from dualfocus_ros.camera.lens_state import LensReading
from dualfocus_ros.camera.rectification import CameraCalibration
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.nodes.messages.image_decoding import (
    MessageError,
    blank_image,
    decode_image,
    is_zero_copy,
)
from dualfocus_ros.nodes.messages.input_messages import calibration_from_msg
from dualfocus_ros.nodes.monitoring.node_statistics import (
    ArrivalStatistics,
    CallbackTimer,
    TransportMonitor,
)
from dualfocus_ros.nodes.parameters.depth_parameters import DepthNodeSettings
from dualfocus_ros.nodes.qos import IMAGE_QUEUE, AdaptiveQosSubscription, input_queue, type_name
from dualfocus_ros.stamps import to_ns
from dualfocus_ros.sweep.assembler import SweepProgress
from dualfocus_ros.sweep.frames import Frame
from dualfocus_ros.sweep.stage_counter import Stage, StageCounter
from dualfocus_ros.topics import CAMERA_INFO

R = TypeVar('R')
# Called with a function that returns the result of a conversion or raises its exception.
_OnResult = Callable[[Callable[[], Any]], None]


class ImageConverter:
    """Runs conversions one after the other on its thread and returns the results in order.

    All methods are called on the executor's thread, and so are the result callbacks.

    :param times: timer of the callbacks.
    """

    def __init__(self, node: Node, times: CallbackTimer) -> None:
        self._node = node
        self._pool = ThreadPoolExecutor(1, thread_name_prefix='converter')
        self._pending: deque[tuple[Future[Any], _OnResult]] = deque()
        self._ready = node.create_guard_condition(times.timed(self.deliver))

    @property
    def idle(self) -> bool:
        return not self._pending

    def submit(self, work: Callable[[], Any], on_result: _OnResult, limit: int) -> bool:
        """Queue a conversion; return False if an older one was dropped for it.

        :param limit: maximum number of pending conversions with this one; beyond it the oldest is
            dropped.
        """
        has_room = len(self._pending) < limit
        if not has_room:
            self._pending.popleft()[0].cancel()
        future = self._pool.submit(work)
        self._pending.append((future, on_result))
        future.add_done_callback(lambda _: self._ready.trigger())
        return has_room

    def clear(self) -> None:
        for future, _ in self._pending:
            future.cancel()
        self._pending.clear()

    def close(self) -> None:
        self.clear()
        self._pool.shutdown()
        self._node.destroy_guard_condition(self._ready)

    def deliver(self) -> None:
        """Call the result callbacks of the finished conversions."""
        while self._pending and self._pending[0][0].done():
            future, on_result = self._pending.popleft()
            on_result(future.result)


class StackSource(ABC):
    """A source of focal stacks.

    Callbacks are short: they check the message, pass its data to the assembler and emit finished
    stacks. Decoding and conversion run on the thread of the converter.

    :param settings: returns the current values of the parameters.
    :param on_stack: called with each finished stack.
    :param on_plane: called with each plane of a stack that is not complete yet.
    :param times: timer of the callbacks.
    :param converter: runs slow conversions on its thread; without one they run in the callback.
    """

    # Images that may wait for conversion.
    max_pending = IMAGE_QUEUE

    def __init__(
        self,
        node: Node,
        settings: Callable[[], DepthNodeSettings],
        stage_counter: StageCounter,
        on_stack: Callable[[FocalStack], None],
        on_plane: Callable[[Plane], None],
        times: CallbackTimer | None = None,
        converter: ImageConverter | None = None,
    ) -> None:
        self._node = node
        self._times = times or CallbackTimer()
        self._settings = settings
        self._stage_counter = stage_counter
        self.emit_stack = on_stack
        self._emit_plane = on_plane
        self._enabled = False
        self._formats: dict[str, str] = {}
        self.converter = converter
        self.arrivals = ArrivalStatistics()
        self.transport = TransportMonitor()
        self.calibration_error: str | None = None
        # Newest lens reading; time from the first to the last plane of the last stack.
        self.lens: LensReading | None = None
        self.sweep_seconds: float | None = None
        self.subscriptions: list[AdaptiveQosSubscription] = []
        self.images: list[AdaptiveQosSubscription] = []

    @property
    def enabled(self) -> bool:
        """Whether stacks are emitted.

        A disabled input still checks, matches and counts messages, so that /diagnostics shows the
        expected result, but decodes no image and emits no stack.
        """
        return self._enabled

    @enabled.setter
    def enabled(self, enabled: bool) -> None:
        if enabled and not self._enabled:
            self.reset()
        self._enabled = enabled

    @property
    def progress(self) -> SweepProgress | None:
        """Planes of the next stack that have arrived; None if unknown."""
        return None

    @property
    def in_progress(self) -> bool:
        """Whether a sweep has begun and not ended."""
        return False

    def start(self) -> None:
        self._subscribe(CameraInfo, CAMERA_INFO.name, self.on_camera_info)

    def stop(self) -> None:
        for subscription in self.subscriptions:
            subscription.destroy()
        self.subscriptions.clear()
        self.images.clear()
        self.arrivals = ArrivalStatistics()
        self.transport = TransportMonitor()
        self.lens = self.sweep_seconds = None
        self.reset()

    @abstractmethod
    def tick(self, now_ns: int) -> None:
        """Apply changed parameters and close overdue stacks; called a few times a second."""

    def reset(self) -> None:
        """Drop the stack in progress and all pending messages."""
        if self.converter is not None:
            self.converter.clear()

    @abstractmethod
    def _on_calibration(self, stamp: int, calibration: CameraCalibration) -> None:
        """Add a calibration."""

    def _subscribe(
        self, kind: Any, topic: str, callback: Callable[[Any], None]
    ) -> AdaptiveQosSubscription:
        timed = self._times.timed(callback)
        depth = input_queue(type_name(kind))
        subscription = AdaptiveQosSubscription(self._node, kind, topic, timed, depth)
        self.subscriptions.append(subscription)
        return subscription

    def _subscribe_image(self, topic: str, on_frame: Callable[[Frame], None]) -> None:
        """Subscribe to images; call ``on_frame`` with each valid one."""
        kind: type[Image | CompressedImage] = Image
        name = topic
        if self._settings().image_transport == 'compressed':
            # As image_transport does: remap the base topic first, then append the suffix.
            kind, name = CompressedImage, f'{self._node.resolve_topic_name(topic)}/compressed'
        on_image = partial(self.on_image, topic, on_frame)
        self.images.append(self._subscribe(kind, name, on_image))

    def on_image(
        self, topic: str, on_frame: Callable[[Frame], None], msg: Image | CompressedImage
    ) -> None:
        self._stage_counter.count(Stage.RECEIVED)
        self.arrivals.record()
        self.transport.image(to_ns(msg.header.stamp))
        convert = decode_image if self._enabled else blank_image
        self._convert(
            not self._enabled or is_zero_copy(msg),
            partial(convert, msg, self._settings().max_pixels),
            partial(self._on_converted, topic, on_frame, msg),
        )

    def _convert(self, quick: bool, work: Callable[[], R], on_result: Callable[[R], None]) -> None:
        """Convert a message, in this callback if ``quick`` and nothing else is pending."""

        def finish(result: Callable[[], R]) -> None:
            try:
                converted = result()
            except MessageError as error:
                self._stage_counter.reject(Stage.VALID, error.reason, str(error))
            else:
                on_result(converted)

        converter = self.converter
        if converter is None or (quick and converter.idle):
            finish(work)
        elif not converter.submit(work, finish, self.max_pending):
            self._stage_counter.reject(
                Stage.VALID,
                'conversion_too_slow',
                f'more than {self.max_pending} messages are waiting for decoding or conversion: '
                'send fewer or smaller images, JPEG instead of PNG, or rgb8',
            )

    def _on_converted(
        self,
        topic: str,
        on_frame: Callable[[Frame], None],
        msg: Image | CompressedImage,
        image: np.ndarray,
    ) -> None:
        self._stage_counter.count(Stage.VALID)
        encoding = 'compressed' if isinstance(msg, CompressedImage) else msg.encoding
        now = f'{image.shape[1]}x{image.shape[0]} {encoding} in {msg.header.frame_id!r}'
        before = self._formats.setdefault(topic, now)
        if now != before:
            self._formats[topic] = now
            self._node.get_logger().info(
                f'{topic} has changed from {before} to {now}: restarting the stack'
            )
        on_frame(Frame(to_ns(msg.header.stamp), image, msg.header.frame_id, encoding))

    def on_camera_info(self, msg: CameraInfo) -> None:
        self.transport.info(to_ns(msg.header.stamp))
        try:
            calibration = calibration_from_msg(msg)
        except MessageError as error:
            self.calibration_error = str(error)
            self._stage_counter.reject(Stage.MATCHED, error.reason, str(error))
            return
        self.calibration_error = None
        self._on_calibration(to_ns(msg.header.stamp), calibration)

    def _emit(self, stacks: list[FocalStack]) -> None:
        for stack in stacks:
            self.sweep_seconds = stack.sweep_duration_ns * 1e-9
            if self._enabled:
                self.emit_stack(stack)
