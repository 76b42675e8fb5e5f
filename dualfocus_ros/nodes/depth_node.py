# SPDX-License-Identifier: Apache-2.0
"""The depth node: metric depth and points from a camera whose focus moves.

Callbacks run on the executor's thread and are short; the network runs on a worker's thread.
"""

from __future__ import annotations

from collections.abc import Callable
import gc
import time
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from std_srvs.srv import Trigger

from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.nodes.inference_worker import InferenceWorker, WorkerState
from dualfocus_ros.nodes.inputs import INPUTS
from dualfocus_ros.nodes.lifecycle import ResponsiveLifecycleNode
from dualfocus_ros.nodes.monitoring import diagnostics
from dualfocus_ros.nodes.monitoring.monitors import ClockMonitor, RangeMonitor, RejectionLog
from dualfocus_ros.nodes.monitoring.node_statistics import CallbackTimer, OutputStatistics
from dualfocus_ros.nodes.node_runner import run_node
from dualfocus_ros.nodes.parameters.depth_parameters import DepthNodeSettings
from dualfocus_ros.nodes.parameters.derived_settings import estimator_settings
from dualfocus_ros.nodes.parameters.parameter_declaration import DynamicParameters
from dualfocus_ros.nodes.publishers import OutputPublishers, StackJob
from dualfocus_ros.nodes.qos import DIAGNOSTICS_QUEUE, create_publisher
from dualfocus_ros.nodes.stack_processor import (
    EstimatorLoader,
    StackProcessor,
    describe_error,
    load_estimator,
)
from dualfocus_ros.nodes.stack_source import ImageConverter, StackSource
from dualfocus_ros.sweep.stage_counter import Stage, StageCounter
from dualfocus_ros.topics import DIAGNOSTICS

if TYPE_CHECKING:
    from dualfocus_ros.inference.estimator import DepthEstimator

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
ERROR = TransitionCallbackReturn.ERROR

# Timer periods in seconds; slower without subscribers to save CPU.
_TICK_PERIOD, _IDLE_TICK_PERIOD = 0.1, 0.25
_REFRESH_PERIOD = 0.5
_DIAGNOSE_PERIOD = 1.0


class DepthNode(ResponsiveLifecycleNode):
    """The managed node ``dualfocus``; docs/topics.md and docs/parameters.md are its interface.

    :param load: makes the estimator from the parameters, on the worker's thread.
    """

    def __init__(
        self,
        *,
        load: Callable[[DepthNodeSettings], DepthEstimator] = load_estimator,
        **arguments: Any,
    ) -> None:
        super().__init__('dualfocus', **arguments)
        self._load = load
        self._params = DynamicParameters(self)
        self._stage_counter = StageCounter()
        self._statistics = OutputStatistics()
        self._input: StackSource | None = None
        self._outputs: OutputPublishers | None = None
        self._processor: StackProcessor | None = None
        self._loader: EstimatorLoader | None = None
        self._worker: InferenceWorker[StackJob] | None = None
        self._failure: str | None = None
        self._active_since: float | None = None
        self._superseded = 0
        # Results of an older epoch are not published.
        self._epoch = 0
        self._range = RangeMonitor()
        self._times = CallbackTimer()
        self.converter = ImageConverter(self, self._times)
        self._clock_monitor = ClockMonitor(self, self.reset)
        self._rejections = RejectionLog(self.get_logger(), self._stage_counter)
        # First half of the diagnostics, until the next tick completes and publishes them.
        self._statuses: list[DiagnosticStatus] = []
        self._diagnostics = create_publisher(
            self.create_publisher, DiagnosticArray, DIAGNOSTICS, DIAGNOSTICS_QUEUE, None
        )
        self.create_service(Trigger, '~/reset', self._on_reset)
        # By the steady clock, which runs when simulated time does not.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._ticker = self.create_timer(_TICK_PERIOD, self._times.timed(self._tick), clock=steady)
        self._next_refresh = self._next_diagnosis = time.monotonic()
        if self._params.current().autostart:
            self._starter = self.create_timer(
                0.01, self._autostart, callback_group=self.lifecycle_group, clock=steady
            )

    def close(self) -> None:
        """Stop the worker; nothing is published after this."""
        self._active_since = None
        self._epoch += 1
        self.converter.close()
        if self._worker is not None:
            self._worker.stop(timeout=5.0)

    # Transitions

    async def prepare(self, transition: str) -> None:
        """Load the model before `configure`, stop the worker before `cleanup` and `shutdown`."""
        if transition == 'configure' and self.state_label == 'unconfigured':
            if self._params.problems:
                return
            if self._worker is None:
                self._start_worker()
            await self.wait_until(
                lambda: self._worker is None or self._worker.state is not WorkerState.LOADING
            )
        elif (transition, self.state_label) == ('cleanup', 'inactive') or transition == 'shutdown':
            worker = self._worker
            if worker is not None:
                worker.request_stop()
                await self.wait_until(lambda: worker.stopped)

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load the model and create the publishers; FAILURE with a reason on an error."""
        problems = self._params.problems
        if problems:
            return self._fail('wrong parameters: ' + '; '.join(problems))
        if self._worker is None:
            self._start_worker()
        worker = self._worker
        assert worker is not None
        worker.wait_until_loaded()
        if worker.state is not WorkerState.READY:
            reason = 'stopped' if worker.load_error is None else describe_error(worker.load_error)
            return self._fail(f'the model could not be loaded: {reason}')
        try:
            self._outputs = OutputPublishers(self)
            self._processor = StackProcessor(
                self._outputs, self._stage_counter, self._statistics, lambda: self._epoch
            )
            self._input = INPUTS[self._params.current().input](
                self,
                self._params.current,
                self._stage_counter,
                self._on_stack,
                self._on_plane,
                self._times,
                self.converter,
            )
        except Exception as error:
            return self._fail(describe_error(error))
        self._failure = None
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
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
        """Unsubscribe and drop the stack in progress; ERROR if the GPU is lost."""
        self._deactivate()
        if self._gpu_loss is not None:
            self._failure = self._gpu_loss
            return ERROR
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._deactivate()
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
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
            self.get_logger().error('the worker thread does not stop')
        if self._loader is not None:
            self._loader.estimator = None
        self._worker = self._processor = self._input = None
        if self._outputs is not None:
            self._outputs.destroy()
            self._outputs = None

    # Worker

    @property
    def _gpu_loss(self) -> str | None:
        return None if self._loader is None else self._loader.gpu_loss

    def _start_worker(self) -> None:
        settings = self._params.current()
        self.get_logger().info(f'loading model {settings.model!r} for device {settings.device!r}')
        self._loader = EstimatorLoader(self._load, settings, self.get_logger())
        self._worker = InferenceWorker(
            self._loader.load,
            self._process,
            self._on_error,
            lambda estimator, plane: estimator.prefetch(plane),
        )

    def _process(self, estimator: DepthEstimator, job: StackJob) -> None:
        if (processor := self._processor) is not None:
            processor.process(estimator, job)

    def _on_error(self, error: BaseException) -> bool:
        """Count a failed stack; return whether the worker must reload the estimator."""
        if (processor := self._processor) is not None:
            processor.report(error)
        return self._loader is not None and self._loader.should_reload(error)

    def _on_plane(self, plane: Plane) -> None:
        if self._worker is not None and self._active_since is not None:
            self._worker.submit_prefetch(plane)

    def _on_stack(self, stack: FocalStack) -> None:
        if self._worker is None or self._active_since is None:
            return
        settings = self._params.current()
        warning = self._range.check(
            estimator_settings(settings), float(stack.focus_dioptres.min())
        )
        if warning is not None:
            self.get_logger().warning(warning)
        job = StackJob(stack, settings, self._epoch, time.monotonic())
        if self._worker.submit(job) is not None:
            self._superseded += 1
            self._stage_counter.reject(
                Stage.INFERRED, 'superseded', 'a newer stack came before the network was free'
            )

    # Services and timers

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = True, 'no stack was in progress'
        source = self._input
        if source is not None and source.in_progress and source.progress is not None:
            planes = diagnostics.format_plane_count(source.progress)
            response.message = f'dropped a stack with {planes}'
        self.reset()
        return response

    def reset(self) -> None:
        self._epoch += 1
        if self._worker is not None:
            self._worker.clear()
        if self._input is not None:
            self._input.reset()

    def _tick(self) -> None:
        self.resume_waiting()
        worker = self._worker
        if worker is not None and worker.state is WorkerState.CRASHED and worker.restart():
            cause = diagnostics.describe_crash(worker)
            self.get_logger().error(
                f'restarted the worker thread, which crashed with {cause} '
                f'({worker.restarts} restarts so far)'
            )
        if self._gpu_loss is not None and self.state_label == 'active':
            self.get_logger().error(self._gpu_loss)
            # Through the error state to unconfigured, which a lifecycle manager sees.
            self.trigger_deactivate()
        idle = False
        if self._input is not None and self._outputs and self._active_since is not None:
            self._input.enabled = bool(self._outputs.subscribed_topics())
            self._input.tick(self.get_clock().now().nanoseconds)
            idle = not self._input.enabled
        self._run_periodic_task(time.monotonic())
        period_ns = round((_IDLE_TICK_PERIOD if idle else _TICK_PERIOD) * 1e9)
        if self._ticker.timer_period_ns != period_ns:
            self._ticker.timer_period_ns = period_ns

    def _run_periodic_task(self, now: float) -> None:
        """Run at most one periodic task in a tick: all at once would delay images."""
        if self._statuses:
            self._publish_diagnostics()
        elif now >= self._next_refresh:
            self._next_refresh = now + _REFRESH_PERIOD - 0.5 * _TICK_PERIOD
            for subscription in self._input.subscriptions if self._input is not None else ():
                if subscription.refresh():
                    self.get_logger().info(f'the publishers have changed: now {subscription}')
        elif now >= self._next_diagnosis:
            self._next_diagnosis = max(
                self._next_diagnosis + _DIAGNOSE_PERIOD, now + 0.5 * _DIAGNOSE_PERIOD
            )
            self._collect_diagnostics()

    # Log and diagnostics

    def _log_topics(self) -> None:
        assert self._input is not None and self._outputs is not None
        lines = [f'  subscribes {subscription}' for subscription in self._input.subscriptions]
        lines += [f'  publishes  {text}' for text in self._outputs.descriptions()]
        self.get_logger().info('active\n' + '\n'.join(lines))

    def _collect_diagnostics(self) -> None:
        self._rejections.update()
        counts = self._stage_counter.snapshot()
        since = self._active_since
        waiting = None if since is None else time.monotonic() - since
        self._statuses = [
            diagnostics.input_status(self._input, counts, self._times, waiting),
            diagnostics.depth_status(
                self._statistics, self._input, counts, waiting, self._superseded
            ),
            diagnostics.model_status(self.state_label, self._failure, self._worker, self._loader),
            diagnostics.optics_status(self._range.last),
        ]

    def _publish_diagnostics(self) -> None:
        statuses = [
            *self._statuses,
            diagnostics.clock_status(self._clock_monitor),
            diagnostics.connection_status(self, self._input, self._outputs, self._diagnostics),
        ]
        name = self.get_fully_qualified_name().lstrip('/')
        stamp = self.get_clock().now().to_msg()
        self._diagnostics.publish(diagnostics.diagnostic_array(stamp, name, statuses))
        self._statuses = []


def create_node() -> DepthNode:
    """Return the node of the executable ``depth_node``."""

    def load(settings: DepthNodeSettings) -> DepthEstimator:
        estimator = load_estimator(settings)
        # Freeze the objects that exist now: collecting them repeatedly would stop every thread
        # for 0.1 s. Done here and not in the node, because it affects the whole process. Objects
        # frozen for a previous model are garbage by now: unfreeze and collect them first.
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        return estimator

    return DepthNode(load=load)


def main(args: list[str] | None = None) -> int:
    """Run the node until a signal; return the exit code."""
    return run_node('depth_node', args)
