# SPDX-License-Identifier: Apache-2.0
"""Worker thread that owns the estimator, with a queue of one job: the newest job wins.

The executor never waits for the network, and the network never computes an outdated stack. While
no job is pending, the thread prefetches planes of the next stack. The thread loads the estimator
itself, because a CUDA context belongs to the thread that created it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
import enum
import threading
import time
from typing import Any, Generic, TypeVar

_Job = TypeVar('_Job')

# Pending prefetch items; the oldest are dropped first.
_MAX_PREFETCH = 32
_MIN_RESTART_DELAY = 1.0
_MAX_RESTART_DELAY = 30.0


class WorkerState(enum.Enum):
    LOADING = 'loading'
    READY = 'ready'
    FAILED = 'failed'  # the first load failed
    CRASHED = 'crashed'  # the thread ended without a request
    STOPPED = 'stopped'


class InferenceWorker(Generic[_Job]):
    """Runs jobs one at a time on its thread.

    A crash of the thread shows in :attr:`state`; :meth:`restart` starts a new thread.

    :param load: makes the estimator, on the thread; may raise.
    :param process: runs one job with the estimator, on the thread. An ``Exception`` is passed to
        ``on_error`` and the thread continues with the next job; other exceptions end the thread.
    :param on_error: called with each exception of ``process``, on the thread; returns whether to
        load the estimator again.
    :param prefetch: processes a part of a future job, on the thread, while no job is pending.
        Exceptions are suppressed; the full job will raise them again.
    """

    def __init__(
        self,
        load: Callable[[], Any],
        process: Callable[[Any, _Job], None],
        on_error: Callable[[BaseException], object],
        prefetch: Callable[[Any, Any], object] = lambda estimator, part: None,
    ) -> None:
        self._load = load
        self._process = process
        self._on_error = on_error
        self._prefetch = prefetch
        self._prefetch_queue: deque[Any] = deque(maxlen=_MAX_PREFETCH)
        self._condition = threading.Condition()
        self._pending: _Job | None = None
        self._stopping = False
        self._loaded = False
        # After one successful load, a failed reload counts as a crash.
        self._loaded_once = False
        self._crashed_at: float | None = None
        self._restart_delay = _MIN_RESTART_DELAY
        self.restarts = 0
        # Error of the first load.
        self.load_error: BaseException | None = None
        self.crash_cause: BaseException | None = None
        self._thread = self._start_thread()

    @property
    def state(self) -> WorkerState:
        if self._stopping:
            return WorkerState.STOPPED
        if self.load_error is not None:
            return WorkerState.FAILED
        if not self._thread.is_alive():
            return WorkerState.CRASHED
        return WorkerState.READY if self._loaded else WorkerState.LOADING

    @property
    def has_pending(self) -> bool:
        return self._pending is not None

    def submit(self, job: _Job) -> _Job | None:
        """Set the pending job; return the job that it replaces, which will not run."""
        with self._condition:
            replaced, self._pending = self._pending, job
            self._condition.notify()
            return replaced

    def submit_prefetch(self, part: Any) -> None:
        """Queue a part of a future job for ``prefetch``."""
        with self._condition:
            self._prefetch_queue.append(part)
            self._condition.notify()

    def clear(self) -> _Job | None:
        """Remove and return the pending job, if any; clear the prefetch queue."""
        with self._condition:
            self._prefetch_queue.clear()
            pending, self._pending = self._pending, None
            return pending

    def wait_until_loaded(self, timeout: float | None = None) -> None:
        """Block until the estimator is loaded or failed to load."""
        with self._condition:
            self._condition.wait_for(
                lambda: self._loaded or self.load_error is not None or self._stopping, timeout
            )

    def request_stop(self) -> None:
        """Ask the thread to stop after the current job, without waiting."""
        with self._condition:
            self._stopping = True
            self._pending = None
            self._prefetch_queue.clear()
            self._condition.notify_all()

    @property
    def stopped(self) -> bool:
        return not self._thread.is_alive()

    def stop(self, timeout: float | None = None) -> bool:
        """Stop the thread; return whether it has ended within ``timeout`` seconds."""
        self.request_stop()
        self._thread.join(timeout)
        return self.stopped

    def restart(self) -> bool:
        """Start a new thread after a crash, once the restart delay has passed.

        The delay is 1 s, doubles with each crash up to 30 s, and is reset by a successful job.

        :returns: whether the thread was started by this call; call this periodically.
        """
        if self.state is not WorkerState.CRASHED:
            return False
        now = time.monotonic()
        if self._crashed_at is None:
            self._crashed_at = now
        if now - self._crashed_at < self._restart_delay:
            return False
        self._crashed_at = None
        self._restart_delay = min(2.0 * self._restart_delay, _MAX_RESTART_DELAY)
        self._loaded = False
        self.restarts += 1
        self._thread = self._start_thread()
        return True

    def _start_thread(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name='estimator', daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        try:
            while self._load_and_work():
                pass
        except BaseException as error:
            # Reported by the owner, which polls the state.
            self.crash_cause = error

    def _load_and_work(self) -> bool:
        """Load the estimator and run jobs; return whether to load again."""
        try:
            estimator = self._load()
        except BaseException as error:
            if self._loaded_once:
                raise
            with self._condition:
                self.load_error = error
                self._condition.notify_all()
            return False
        with self._condition:
            self._loaded = self._loaded_once = True
            self._condition.notify_all()
        try:
            while self._work(estimator):
                pass
        finally:
            self._loaded = False
            # Releasing a broken estimator may fail.
            with suppress(Exception):
                estimator.release()
        return not self._stopping

    def _work(self, estimator: Any) -> bool:
        """Run the pending job or prefetch; return whether to continue with this estimator."""
        with self._condition:
            self._condition.wait_for(
                lambda: self._pending is not None or self._prefetch_queue or self._stopping
            )
            if self._stopping:
                return False
            job, self._pending = self._pending, None
            part = self._prefetch_queue.popleft() if job is None else None
        if job is None:
            with suppress(Exception):
                self._prefetch(estimator, part)
            return True
        try:
            self._process(estimator, job)
            self._restart_delay = _MIN_RESTART_DELAY
        except Exception as error:
            return not self._on_error(error)
        except BaseException as error:
            self._on_error(error)
            raise
        return True
