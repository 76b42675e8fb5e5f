# SPDX-License-Identifier: Apache-2.0
"""What the depth node listens to: one camera whose focus moves, several cameras, or whole stacks.

Callbacks are short: check the message, hand its data to the assembler, pass a finished stack on.
What has to be decoded or converted goes through a thread of its own in between.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from functools import partial
from statistics import median
import time
from typing import Any, TypeVar

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from dualfocus_ros.camera.lens_state import LensReading
from dualfocus_ros.camera.rectification import CameraCalibration
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.msg import FocalStack as FocalStackMsg, FocusCommand, FocusState
from dualfocus_ros.nodes import image_decoding, input_messages
from dualfocus_ros.nodes.callback_times import CallbackTimer
from dualfocus_ros.nodes.depth_parameters import DepthNodeSettings
from dualfocus_ros.nodes.image_converter import ImageConverter
from dualfocus_ros.nodes.lens_messages import (
    frame_metadata,
    lens_position,
    lens_reading_from_msg,
    plane_target_from_msg,
)
from dualfocus_ros.nodes.message_checks import MessageError
from dualfocus_ros.nodes.qos import IMAGE_QUEUE, AdaptiveQosSubscription, input_queue, type_name
from dualfocus_ros.nodes.transport_monitor import TransportMonitor
from dualfocus_ros.stamps import to_ns
from dualfocus_ros.sweep.assembler import SweepAssembler, SweepProgress
from dualfocus_ros.sweep.focus_sources import (
    CommandFocusSource,
    PositionFocusSource,
)
from dualfocus_ros.sweep.frames import Frame
from dualfocus_ros.sweep.plane_synchronizer import PlaneSynchronizer
from dualfocus_ros.sweep.stage_counter import Stage, StageCounter

R = TypeVar('R')
# Times between images that tell how often they come.
ARRIVAL_WINDOW = 21


class ArrivalStatistics:
    """When images came last and how often they come, by the steady clock."""

    def __init__(self) -> None:
        self._last: float | None = None
        self._gaps: deque[float] = deque(maxlen=ARRIVAL_WINDOW)

    def note(self) -> None:
        """Note that an image has come."""
        now = time.monotonic()
        if self._last is not None:
            self._gaps.append(now - self._last)
        self._last = now

    @property
    def period(self) -> float | None:
        """Median time between the newest images: neither bursts nor pauses count."""
        return median(self._gaps) if self._gaps else None

    @property
    def age(self) -> float | None:
        """Seconds since the last image, None before the first."""
        return None if self._last is None else time.monotonic() - self._last


class StackSource(ABC):
    """A source of focal stacks.

    :param settings: returns the current values of the parameters.
    :param emit: takes each finished stack.
    :param foresee: told of each plane as it joins a stack that is not complete yet.
    :param times: of the callbacks.
    :param converter: does what takes long beside the executor; without, it is done at once.
    """

    # How many may wait to be converted.
    max_pending = IMAGE_QUEUE

    def __init__(
        self,
        node: Node,
        settings: Callable[[], DepthNodeSettings],
        stage_counter: StageCounter,
        emit: Callable[[FocalStack], None],
        foresee: Callable[[Plane], None],
        times: CallbackTimer | None = None,
        converter: ImageConverter[Any] | None = None,
    ) -> None:
        self._node = node
        self._times = times or CallbackTimer()
        self._settings = settings
        self._stage_counter = stage_counter
        self._emit = emit
        self._foresee = foresee
        self._wanted = False
        self._formats: dict[str, str] = {}
        self._converter = converter
        self.arrivals = ArrivalStatistics()
        self.transport = TransportMonitor()
        self.calibration_error: str | None = None
        # The newest report of the lens, and the time from the first to the last plane.
        self.lens: LensReading | None = None
        self.sweep_seconds: float | None = None
        self.subscriptions: list[AdaptiveQosSubscription] = []
        self.images: list[AdaptiveQosSubscription] = []

    @property
    def wanted(self) -> bool:
        """Whether anybody wants the stacks.

        Otherwise everything is checked, paired and counted as ever, so that /diagnostics tells
        what would come out, but images are not converted, and stacks of blank images go nowhere.
        """
        return self._wanted

    @wanted.setter
    def wanted(self, wanted: bool) -> None:
        if wanted and not self._wanted:
            self.reset()
        self._wanted = wanted

    @property
    def progress(self) -> SweepProgress | None:
        """How much of the next stack has arrived, where that is known."""
        return None

    @property
    def in_progress(self) -> bool:
        """Whether a sweep has begun and not ended."""
        return False

    def start(self) -> None:
        """Subscribe."""
        self._subscribe(CameraInfo, 'camera_info', self._on_camera_info)

    def stop(self) -> None:
        """Unsubscribe and forget what has come."""
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
        """Apply changed parameters and end what has waited too long; a few times a second."""

    def reset(self) -> None:
        """Forget the stack in progress and everything that waits."""
        if self._converter is not None:
            self._converter.clear()

    @abstractmethod
    def _on_calibration(self, stamp: int, calibration: CameraCalibration) -> None:
        """Take a calibration."""

    def _subscribe(
        self, kind: Any, topic: str, callback: Callable[[Any], None]
    ) -> AdaptiveQosSubscription:
        timed = self._times.timed(callback)
        depth = input_queue(type_name(kind))
        subscription = AdaptiveQosSubscription(self._node, kind, topic, timed, depth)
        self.subscriptions.append(subscription)
        return subscription

    def _subscribe_image(self, topic: str, take: Callable[[Frame], None]) -> None:
        """Have the images of a topic taken as frames, those that can be used."""
        kind: type[Image | CompressedImage] = Image
        name = topic
        if self._settings().image_transport == 'compressed':
            # As image_transport does: first the base topic is remapped, then the name appended.
            kind, name = CompressedImage, f'{self._node.resolve_topic_name(topic)}/compressed'
        on_image = partial(self._on_image, topic, take)
        self.images.append(self._subscribe(kind, name, on_image))

    def _on_image(
        self, topic: str, take: Callable[[Frame], None], msg: Image | CompressedImage
    ) -> None:
        self._stage_counter.count(Stage.RECEIVED)
        self.arrivals.note()
        self.transport.image(to_ns(msg.header.stamp))
        convert = image_decoding.decode_image if self._wanted else image_decoding.blank_image
        self._convert(
            not self._wanted or image_decoding.is_zero_copy(msg),
            partial(convert, msg, self._settings().max_pixels),
            partial(self._on_converted, topic, take, msg),
        )

    def _convert(self, quick: bool, work: Callable[[], R], take: Callable[[R], None]) -> None:
        """Have a message converted and the result taken, here or beside the executor."""

        def finish(result: Callable[[], R]) -> None:
            try:
                converted = result()
            except MessageError as error:
                self._stage_counter.reject(Stage.VALID, error.reason, str(error))
            else:
                take(converted)

        converter = self._converter
        if converter is None or (quick and converter.idle):
            finish(work)
        elif not converter.submit(work, finish, self.max_pending):
            self._stage_counter.reject(
                Stage.VALID,
                'conversion_too_slow',
                f'more than {self.max_pending} messages wait '
                'to be decoded or converted: send fewer or smaller images, JPEG instead of PNG, '
                'or rgb8',
            )

    def _on_converted(
        self,
        topic: str,
        take: Callable[[Frame], None],
        msg: Image | CompressedImage,
        image: np.ndarray,
    ) -> None:
        self._stage_counter.count(Stage.VALID)
        encoding = 'compressed' if isinstance(msg, CompressedImage) else msg.encoding
        self._notice_format(
            topic, (f'{image.shape[1]}x{image.shape[0]} {encoding} in {msg.header.frame_id!r}')
        )
        take(Frame(to_ns(msg.header.stamp), image, msg.header.frame_id, encoding))

    def _notice_format(self, topic: str, now: str) -> None:
        """Say once that images are of another size, encoding or frame than before."""
        before = self._formats.setdefault(topic, now)
        if now != before:
            self._formats[topic] = now
            self._node.get_logger().info(
                f'{topic} has changed from {before} to {now}: beginning anew'
            )

    def _on_camera_info(self, msg: CameraInfo) -> None:
        self.transport.info(to_ns(msg.header.stamp))
        try:
            calibration = input_messages.calibration_from_msg(msg)
        except MessageError as error:
            self.calibration_error = str(error)
            self._stage_counter.reject(Stage.MATCHED, error.reason, str(error))
            return
        self.calibration_error = None
        self._on_calibration(to_ns(msg.header.stamp), calibration)

    def _send(self, stacks: list[FocalStack]) -> None:
        for stack in stacks:
            self.sweep_seconds = stack.sweep_duration_ns * 1e-9
            if self._wanted:
                self._emit(stack)


class SweepInput(StackSource):
    """One camera whose focus moves; images, focus and calibrations of equal stamp."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        settings = self._settings()
        self._assembler = SweepAssembler(settings.assembler(), self._stage_counter, self._on_plane)
        self._applied: tuple[DepthNodeSettings, bool] | None = None
        self._commanded = CommandFocusSource(settings.settling())
        self._reported = PositionFocusSource(settings.settling())

    @property
    def progress(self) -> SweepProgress | None:
        return self._assembler.progress

    @property
    def in_progress(self) -> bool:
        return self._assembler.in_progress

    def start(self) -> None:
        super().start()
        source = self._settings().focus_source
        if source == 'focus_state':
            self._subscribe(FocusState, 'focus_state', self._on_focus_state)
            # Where the lens was sent, to compare with; nothing waits for it.
            self._subscribe(FocusCommand, 'focus_command', self._on_intention)
        elif source == 'camera_ros':
            self._subscribe(DiagnosticArray, 'metadata', self._on_metadata)
        else:
            self._subscribe(FocusCommand, 'focus_command', self._on_command)
        # Last, so that the small messages of the first image are not missed.
        self._subscribe_image('image_raw', self._on_frame)

    def tick(self, now_ns: int) -> None:
        self._apply()
        self._send(self._assembler.tick(now_ns))

    def _on_plane(self, plane: Plane) -> None:
        if self._wanted:
            self._foresee(plane)

    def reset(self) -> None:
        super().reset()
        self._assembler.reset()
        self._commanded.clear()
        self._reported.clear()

    def _apply(self) -> None:
        settings = self._settings()
        if self._applied is None or (settings, self._wanted) != self._applied:
            self._applied = (settings, self._wanted)
            assembler = settings.assembler()
            self._assembler.settings = assembler
            self._commanded.model = self._reported.model = settings.settling()

    def _on_frame(self, frame: Frame) -> None:
        self._apply()
        if self._settings().focus_source == 'command':
            reading = self._commanded.reading(frame.stamp_ns)
            if reading is None:
                self._stage_counter.reject(
                    Stage.MATCHED, 'no_focus', 'no focus_command from before this image'
                )
                return
            self._add_reading(reading)
        self._send(self._assembler.add_frame(frame))

    def _add_reading(self, reading: LensReading) -> None:
        self.lens = reading
        self._send(self._assembler.add_reading(reading))

    def _on_focus_state(self, msg: FocusState) -> None:
        self._add_reading(lens_reading_from_msg(msg))

    def _on_intention(self, msg: FocusCommand) -> None:
        now_ns = self._node.get_clock().now().nanoseconds
        self._assembler.add_command(plane_target_from_msg(msg, now_ns))

    def _on_metadata(self, msg: DiagnosticArray) -> None:
        metadata = frame_metadata(msg)
        if not metadata:
            return
        dioptres = lens_position(metadata)
        if dioptres is None:
            self._stage_counter.reject(
                Stage.MATCHED,
                'no_lens_position',
                'metadata without the key LensPosition: is the '
                'camera one with autofocus, and AfMode manual?',
            )
            return
        self._add_reading(self._reported.reading(to_ns(msg.header.stamp), dioptres))

    def _on_command(self, msg: FocusCommand) -> None:
        now_ns = self._node.get_clock().now().nanoseconds
        misled = self._commanded.add_command(plane_target_from_msg(msg, now_ns))
        if misled:
            self._assembler.drop_sweep(
                'late_command',
                f'the command to go to {msg.focus_dioptres:.3f} dioptres came '
                f'after {misled} images that were taken later: their focus is not known',
            )

    def _on_calibration(self, stamp: int, calibration: CameraCalibration) -> None:
        self._send(self._assembler.add_camera(stamp, calibration))


class _FixedFocusSource(StackSource):
    """Inputs that take the newest calibration: their cameras do not change with focus."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._calibration: CameraCalibration | None = None

    def _on_calibration(self, stamp: int, calibration: CameraCalibration) -> None:
        self._calibration = calibration


class PlanesInput(_FixedFocusSource):
    """Several cameras, or several sensors behind one lens, at fixed focus, taken together."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._synchroniser = PlaneSynchronizer(
            self._settings().synchroniser(), self._stage_counter
        )

    @property
    def progress(self) -> SweepProgress | None:
        settings = self._synchroniser.settings
        return SweepProgress(self._synchroniser.waiting, len(settings.focus_dioptres))

    @property
    def in_progress(self) -> bool:
        return self._synchroniser.waiting > 0

    def start(self) -> None:
        super().start()
        for plane in range(len(self._settings().planes_focus_dioptres)):
            self._subscribe_image(f'plane_{plane}/image_raw', self._take(plane))

    def tick(self, now_ns: int) -> None:
        self._synchroniser.settings = self._settings().synchroniser()
        self._send(self._synchroniser.tick(now_ns))

    def reset(self) -> None:
        super().reset()
        self._synchroniser.reset()

    def _take(self, plane: int) -> Callable[[Frame], None]:
        def on_frame(frame: Frame) -> None:
            camera, distorted = None, None
            calibration = self._calibration
            if calibration is not None:
                height, width = frame.image.shape[:2]
                if (calibration.camera.width, calibration.camera.height) != (width, height):
                    self._stage_counter.reject(
                        Stage.MATCHED, 'camera_size', f'camera_info is not for {width}x{height}'
                    )
                else:
                    camera = calibration.output
                    if self._settings().rectify == 'auto' and not calibration.is_rectified:
                        distorted = calibration
            self._send(self._synchroniser.add(plane, frame, camera, distorted))

        return on_frame


class StackInput(_FixedFocusSource):
    """Whole stacks in one message each."""

    max_pending = 4

    def start(self) -> None:
        super().start()
        self.images.append(self._subscribe(FocalStackMsg, 'focal_stack', self._on_stack))

    def tick(self, now_ns: int) -> None:
        """Do nothing: nothing waits here."""

    def _on_stack(self, msg: FocalStackMsg) -> None:
        self._stage_counter.count(Stage.RECEIVED)
        self.arrivals.note()
        settings = self._settings()
        self._convert(
            not self._wanted or all(image_decoding.is_zero_copy(image) for image in msg.images),
            partial(
                input_messages.focal_stack_from_msg,
                msg,
                settings.max_pixels,
                settings.rectify == 'auto',
                self._calibration,
                image_decoding.decode_image if self._wanted else image_decoding.blank_image,
            ),
            self._take_stack,
        )

    def _take_stack(self, stack: FocalStack) -> None:
        for stage in (Stage.VALID, Stage.MATCHED, Stage.STACKED):
            self._stage_counter.count(stage)
        self._send([stack])


INPUTS: dict[str, Callable[..., StackSource]] = {
    'sweep': SweepInput,
    'planes': PlanesInput,
    'stack': StackInput,
}
