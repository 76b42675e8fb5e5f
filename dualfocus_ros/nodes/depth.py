# SPDX-License-Identifier: Apache-2.0
"""The depth node: listens to a camera whose focus moves, publishes metric depth and points.

Everything here runs on the executor's thread and is short; the network runs on a worker.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import math
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType, JumpThreshold, TimeJump
from rclpy.duration import Duration
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from std_srvs.srv import Trigger

from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.inference.gpu_errors import GpuFault, classify_gpu_error
from dualfocus_ros.nodes import diagnostics
from dualfocus_ros.nodes.callback_times import CallbackTimer
from dualfocus_ros.nodes.depth_parameters import DepthNodeSettings
from dualfocus_ros.nodes.dynamic_parameters import DynamicParameters
from dualfocus_ros.nodes.image_converter import ImageConverter
from dualfocus_ros.nodes.inference_worker import InferenceWorker, WorkerState
from dualfocus_ros.nodes.inputs import INPUTS
from dualfocus_ros.nodes.lifecycle import ResponsiveLifecycleNode
from dualfocus_ros.nodes.outputs import OutputPublishers
from dualfocus_ros.nodes.qos import create_publisher, incompatible_endpoints
from dualfocus_ros.nodes.range_monitor import RangeMonitor
from dualfocus_ros.nodes.stack_processor import (
    Estimator,
    StackJob,
    StackProcessor,
    describe_error,
    load_estimator,
)
from dualfocus_ros.nodes.stack_source import StackSource
from dualfocus_ros.sweep.stage_counter import Stage, StageCounter

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
ERROR = TransitionCallbackReturn.ERROR

# How often to look after things; seldom while nobody listens, for each look costs.
_TICK_PERIOD, _IDLE_TICK_PERIOD = 0.1, 0.25
_REFRESH_PERIOD = 0.5
_DIAGNOSE_PERIOD = 1.0
# Steps of the ROS clock that mean another time, not a slow one (a bag that loops, a seek).
_JUMP_FORWARD = Duration(seconds=10)
_JUMP_BACKWARD = Duration(nanoseconds=-100_000_000)
_LOG_PERIOD = 10.0
# What is part of every sweep, or said by other means, is not worth a line in the log.
_EXPECTED_REJECTIONS = frozenset(
    {
        'moving',
        'superseded',
        'reset',
        'reconfigured',
        'joined_midway',
        'format_changed',
    }
)


class DepthNode(ResponsiveLifecycleNode):
    """The managed node ``dualfocus``; see the documentation of topics and parameters.

    :param load: makes the estimator from the parameters, on the worker's thread.
    """

    def __init__(
        self, *, load: Callable[[DepthNodeSettings], Estimator] = load_estimator, **arguments: Any
    ) -> None:
        super().__init__('dualfocus', **arguments)
        self._load = load
        self._params = DynamicParameters(self)
        self._stage_counter = StageCounter()
        self._statistics = diagnostics.OutputStatistics()
        self._input: StackSource | None = None
        self._outputs: OutputPublishers | None = None
        self._processor: StackProcessor | None = None
        self._worker: InferenceWorker[StackJob] | None = None
        self._estimator: Estimator | None = None
        self._failure: str | None = None
        # Why there is no GPU any more, and whether the node goes on without.
        self._gpu_loss: str | None = None
        self._fallback: str | None = None
        self._active_since: float | None = None
        self._superseded = 0
        self._range = RangeMonitor()
        self._times = CallbackTimer()
        self._converter: ImageConverter[Any] = ImageConverter(self, self._times)
        # Those of a diagnosis that is not published yet.
        self._statuses: list[DiagnosticStatus] = []
        # Whatever was begun in an older epoch is not published any more.
        self._epoch = 0
        self._clock_health = diagnostics.ClockHealth(simulated=False, silent=False)
        self._clock_seen = (0, 0.0)
        self._logged: dict[str, tuple[int, float]] = {}
        self._diagnostics = create_publisher(
            self.create_publisher, DiagnosticArray, '/diagnostics', 10, None
        )
        self.create_service(Trigger, '~/reset', self._on_reset)
        threshold = JumpThreshold(min_forward=_JUMP_FORWARD, min_backward=_JUMP_BACKWARD)
        self._jump_handle = self.get_clock().create_jump_callback(
            threshold, post_callback=self._on_jump
        )
        # By the steady clock: it must run when simulated time does not.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._ticker = self.create_timer(_TICK_PERIOD, self._times.timed(self._tick), clock=steady)
        self._next_refresh = self._next_diagnosis = time.monotonic()
        if self._params.current().autostart:
            self._starter = self.create_timer(
                0.01, self._autostart, callback_group=self.lifecycle_group, clock=steady
            )

    def close(self) -> None:
        """Stop the worker; after this nothing is published."""
        self._active_since = None
        self._epoch += 1
        self._converter.close()
        if self._worker is not None:
            self._worker.stop(timeout=5.0)

    # Transitions

    async def prepare(self, transition: str) -> None:
        """Load the model before configuring, end the worker before cleaning up."""
        if transition == 'configure' and self.state_label == 'unconfigured':
            if self._params.problems:
                return
            if self._worker is None:
                self._start_worker()
            await self.until(lambda: self._worker is None or not _loading(self._worker))
        elif (transition, self.state_label) == ('cleanup', 'inactive') or transition == 'shutdown':
            worker = self._worker
            if worker is not None:
                worker.request_stop()
                await self.until(lambda: worker.ended)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and offer the outputs; FAILURE with a reason when that cannot be."""
        problems = self._params.problems
        if problems:
            return self._fail('wrong parameters: ' + '; '.join(problems))
        if self._worker is None:
            self._start_worker()
        worker = self._worker
        assert worker is not None
        worker.wait_until_loaded()
        if worker.state is not WorkerState.READY:
            reason = 'stopped' if worker.failure is None else describe_error(worker.failure)
            return self._fail(f'the model could not be loaded: {reason}')
        try:
            self._outputs = OutputPublishers(self)
            self._processor = StackProcessor(
                self._outputs, self._stage_counter, self._statistics, lambda: self._epoch
            )
            kind = INPUTS[self._params.current().input]
            self._input = kind(
                self,
                self._params.current,
                self._stage_counter,
                self._on_stack,
                self._on_plane,
                self._times,
                self._converter,
            )
        except Exception as error:
            return self._fail(describe_error(error))
        self._failure = None
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Subscribe and begin to publish."""
        assert self._input is not None
        try:
            self._input.start()
        except Exception as error:
            self._input.stop()
            self._failure = describe_error(error)
            self.get_logger().error(self._failure)
            return FAILURE
        self._active_since = time.monotonic()
        self._log_topics()
        return super().on_activate(state)

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Unsubscribe and drop what is in progress; an ERROR where the GPU is lost."""
        self._deactivate()
        if self._gpu_loss is not None:
            self._failure = self._gpu_loss
            return ERROR
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give back the model and its memory."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Give everything back, from any state."""
        self._deactivate()
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Return to unconfigured after an error in a transition."""
        self._failure = self._failure or 'a transition ended with an error'
        self._deactivate()
        self._release()
        return SUCCESS

    async def _autostart(self) -> None:
        self._starter.cancel()
        await self.configure_and_activate()

    def _fail(self, reason: str) -> TransitionCallbackReturn:
        self._failure = reason
        self.get_logger().error(f'cannot be configured: {reason}')
        self._release()
        return FAILURE

    def _deactivate(self) -> None:
        self._active_since = None
        self._epoch += 1
        if self._worker is not None:
            self._worker.clear()
        if self._input is not None:
            self._input.stop()

    def _release(self) -> None:
        if self._worker is not None and not self._worker.stop(timeout=10.0):
            self.get_logger().error('the worker thread does not end')
        self._worker = self._estimator = self._processor = self._input = None
        if self._outputs is not None:
            self._outputs.destroy()
            self._outputs = None

    # The worker

    def _start_worker(self) -> None:
        settings = self._params.current()
        self.get_logger().info(f'loading model {settings.model!r} for device {settings.device!r}')

        def load() -> Estimator:
            self._estimator = self._load_with_fallback(settings)
            return self._estimator

        self._gpu_loss = self._fallback = None
        self._worker = InferenceWorker(load, self._process, self._report, self._foresee)

    def _load_with_fallback(self, settings: DepthNodeSettings) -> Estimator:
        """Load for the device asked for; for the CPU where ``auto`` has found a GPU that fails."""
        self._estimator = None
        if self._fallback is None:
            try:
                return self._load(settings)
            except RuntimeError as error:
                if settings.device != 'auto' or classify_gpu_error(error) is None:
                    raise
                self._fall_back_to_cpu(error)
        precision = 'auto' if settings.precision == 'fp16' else settings.precision
        return self._load(replace(settings, device='cpu', precision=precision))

    def _fall_back_to_cpu(self, error: BaseException) -> None:
        self._fallback = (
            f'on the CPU, because the GPU cannot be used: {describe_error(error)}; restart this '
            'process to use the GPU again'
        )
        self.get_logger().error(self._fallback)

    def _process(self, estimator: Estimator, job: StackJob) -> None:
        processor = self._processor
        if processor is not None:
            processor.process(estimator, job)

    def _foresee(self, estimator: Estimator, plane: Plane) -> None:
        processor = self._processor
        if processor is not None:
            processor.foresee(estimator, plane)

    def _report(self, error: BaseException) -> bool:
        """Count what failed; return whether the estimator is to be loaded anew."""
        processor = self._processor
        if processor is not None:
            processor.report(error)
        if classify_gpu_error(error) is not GpuFault.LOST or self._gpu_loss is not None:
            return False
        if self._params.current().device == 'auto' and self._fallback is None:
            self._fall_back_to_cpu(error)
            return True
        self._gpu_loss = (
            f'the GPU cannot be used any more in this process: {describe_error(error)}; restart the '
            'process, or set device to auto, which goes on with the CPU'
        )
        return False

    def _on_plane(self, plane: Plane) -> None:
        if self._worker is not None and self._active_since is not None:
            self._worker.offer(plane)

    def _on_stack(self, stack: FocalStack) -> None:
        if self._worker is None or self._active_since is None:
            return
        settings = self._params.current()
        warning = self._range.look(settings.pipeline(), float(stack.focus_dioptres.min()))
        if warning is not None:
            self.get_logger().warning(warning)
        job = StackJob(stack, settings, self._epoch, time.monotonic())
        if self._worker.submit(job) is not None:
            self._superseded += 1
            self._stage_counter.reject(
                Stage.INFERRED, 'superseded', 'a newer stack came before the network was free'
            )

    # Services, clock and timers

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        progress = None
        if self._input is not None and self._input.in_progress:
            progress = self._input.progress
        self._reset()
        response.success = True
        response.message = (
            'no stack was in progress'
            if progress is None
            else f'dropped a stack with {diagnostics.format_plane_count(progress)}'
        )
        return response

    def _reset(self) -> None:
        self._epoch += 1
        if self._worker is not None:
            self._worker.clear()
        if self._input is not None:
            self._input.reset()

    def _on_jump(self, jump: TimeJump) -> None:
        self._reset()
        step = jump.delta.nanoseconds
        if step == self.get_clock().now().nanoseconds:
            return  # simulated time has begun
        text = f'{step * 1e-9:+.3f} s'
        self._clock_health.jumps += 1
        self._clock_health.last_jump = text
        self.get_logger().info(f'the clock jumped by {text}: beginning anew')

    def _tick(self) -> None:
        self.resume()
        worker = self._worker
        if worker is not None and worker.state is WorkerState.CRASHED and worker.restart():
            self.get_logger().error(
                f'the worker thread had died of {_cause(worker)} and was started anew '
                f'({worker.restarts} times so far)'
            )
        if self._gpu_loss is not None and self.state_label == 'active':
            self.get_logger().error(self._gpu_loss)
            # By way of the error state to unconfigured, for a lifecycle manager to see.
            self.trigger_deactivate()
        idle = False
        if self._input is not None and self._outputs and self._active_since is not None:
            self._input.enabled = bool(self._outputs.subscribed_topics())
            self._input.tick(self.get_clock().now().nanoseconds)
            idle = not self._input.enabled
        self._run_periodic_tasks(time.monotonic())
        period_ns = round((_IDLE_TICK_PERIOD if idle else _TICK_PERIOD) * 1e9)
        if self._ticker.timer_period_ns != period_ns:
            self._ticker.timer_period_ns = period_ns

    def _run_periodic_tasks(self, now: float) -> None:
        """Do one of what is due now and then: all at once would let images wait."""
        if self._statuses:
            self._end_diagnosis()
        elif now >= self._next_refresh:
            self._next_refresh = now + _REFRESH_PERIOD - 0.5 * _TICK_PERIOD
            self._refresh()
        elif now >= self._next_diagnosis:
            self._next_diagnosis = max(
                self._next_diagnosis + _DIAGNOSE_PERIOD, now + 0.5 * _DIAGNOSE_PERIOD
            )
            self._begin_diagnosis()

    def _refresh(self) -> None:
        """Follow the publishers' quality of service."""
        for subscription in self._input.subscriptions if self._input is not None else ():
            if subscription.refresh():
                self.get_logger().info(f'the publishers have changed: now {subscription}')

    # What is said about it all

    def _log_topics(self) -> None:
        assert self._input is not None and self._outputs is not None
        lines = [f'  subscribes {subscription}' for subscription in self._input.subscriptions]
        lines += [f'  publishes  {text}' for text in self._outputs.descriptions()]
        self.get_logger().info('active\n' + '\n'.join(lines))

    def _begin_diagnosis(self) -> None:
        self._log_rejections()
        health = self._input_health()
        self._statuses = [
            diagnostics.input_status(health),
            diagnostics.depth_status(self._statistics, health, self._superseded),
            diagnostics.model_status(self._model_health()),
            diagnostics.optics_status(self._range.check),
        ]

    def _end_diagnosis(self) -> None:
        name = self.get_fully_qualified_name().lstrip('/')
        self._diagnostics.publish(
            diagnostics.diagnostic_array(
                self.get_clock().now().to_msg(),
                name,
                [
                    *self._statuses,
                    diagnostics.clock_status(self._check_clock()),
                    diagnostics.connection_status(self._connections()),
                ],
            )
        )
        self._statuses = []

    def _log_rejections(self) -> None:
        """Log each reason for a rejection, but not more than once in a while."""
        now = time.monotonic()
        for rejection in self._stage_counter.snapshot().rejections:
            reason, count = rejection.reason, rejection.count
            logged, when = self._logged.get(reason, (0, -math.inf))
            if count > logged and now - when > _LOG_PERIOD and reason not in _EXPECTED_REJECTIONS:
                self._logged[reason] = (count, now)
                self.get_logger().warning(
                    f'not {rejection.stage.value}: {rejection.text} ({reason}, {count} so far)'
                )

    def _input_health(self) -> diagnostics.InputHealth:
        source, since = self._input, self._active_since
        images = [] if source is None else source.images
        return diagnostics.InputHealth(
            stage_counter=self._stage_counter.snapshot(),
            topics=', '.join(subscription.topic for subscription in images),
            publishers=sum(subscription.publishers for subscription in images),
            age=None if source is None else source.arrivals.age,
            waiting=0.0 if since is None else time.monotonic() - since,
            period=None if source is None else source.arrivals.period,
            progress=None if source is None else source.progress,
            in_progress=source is not None and source.in_progress,
            has_subscribers=source is not None and source.enabled,
            active=since is not None,
            calibration_error=None if source is None else source.calibration_error,
            lens=None if source is None else source.lens,
            sweep_seconds=None if source is None else source.sweep_seconds,
            callbacks=self._times.summary(),
        )

    def _model_health(self) -> diagnostics.ModelHealth:
        worker, estimator = self._worker, self._estimator
        return diagnostics.ModelHealth(
            lifecycle=self.state_label,
            worker='not loaded' if worker is None else worker.state.value,
            name='' if estimator is None else estimator.model_name,
            sha256='' if estimator is None else estimator.sha256,
            device='' if estimator is None else estimator.device_name,
            device_memory=0 if estimator is None else estimator.device_memory,
            host_memory=diagnostics.resident_memory(),
            failure=self._failure,
            fallback=self._fallback,
            restarts=0 if worker is None else worker.restarts,
            cause='' if worker is None else _cause(worker),
        )

    def _check_clock(self) -> diagnostics.ClockHealth:
        health = self._clock_health
        health.simulated = bool(self.get_parameter('use_sim_time').value)
        now_ns, steady = self.get_clock().now().nanoseconds, time.monotonic()
        if now_ns != self._clock_seen[0]:
            self._clock_seen = (now_ns, steady)
        health.silent = health.simulated and (now_ns == 0 or steady - self._clock_seen[1] > 2.5)
        return health

    def _connections(self) -> diagnostics.ConnectionHealth:
        inputs = [] if self._input is None else self._input.subscriptions
        problems = [s.incompatible for s in inputs if s.incompatible is not None]
        problems += incompatible_endpoints(self, self._diagnostics)
        outputs: list[str] = []
        if self._outputs is not None:
            problems += self._outputs.incompatible_endpoints()
            outputs = self._outputs.descriptions()
        texts = [f'{s}, publishers: {s.publishers}' for s in inputs]
        transport = None if self._input is None else self._input.transport.summary
        return diagnostics.ConnectionHealth(texts, outputs, problems, transport)


def _cause(worker: InferenceWorker[StackJob]) -> str:
    return '' if worker.cause is None else describe_error(worker.cause)


def _loading(worker: InferenceWorker[StackJob]) -> bool:
    return worker.state is WorkerState.LOADING
