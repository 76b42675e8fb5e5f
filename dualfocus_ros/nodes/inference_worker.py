# SPDX-License-Identifier: Apache-2.0
"""One thread that owns the estimator, and a slot of one stack: the newest wins.

While no stack waits, the thread works ahead on the planes of the next one.

The executor never waits for the network and the network never works on what is out of date.
The thread loads the estimator itself, because a CUDA context belongs to who made it.
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

# Planes that wait to be worked on ahead; of more the oldest are left to their stack.
_MAX_PREFETCH = 32
_MIN_RESTART_DELAY = 1.0
_MAX_RESTART_DELAY = 30.0


class WorkerState(enum.Enum):
    """What the thread is doing."""

    LOADING = 'loading'
    READY = 'ready'
    FAILED = 'failed'  # the estimator could not be loaded in the first place
    CRASHED = 'dead'  # the thread has ended although nobody asked for it
    STOPPED = 'stopped'


class InferenceWorker(Generic[_Job]):
    """Runs jobs one at a time on a thread of its own.

    A thread that dies is noticed by :attr:`state` and started anew by :meth:`revive`.

    :param load: makes what the jobs need, on the thread; may raise.
    :param handle: does one job with it, on the thread. An exception is passed to ``report`` and
        the thread goes on with the next job; what is no ``Exception`` ends the thread.
    :param report: told about the exceptions of ``handle``, on the thread; returns whether what
        was loaded is of no use any more and is to be loaded anew.
    :param ahead: does a piece of work on a part of a job to come, on the thread, while no job
        waits. Its exceptions are nobody's business: the job itself will tell.
    """

    def __init__(
        self,
        load: Callable[[], Any],
        handle: Callable[[Any, _Job], None],
        report: Callable[[BaseException], object],
        ahead: Callable[[Any, Any], object] | None = None,
    ) -> None:
        self._load = load
        self._handle = handle
        self._report = report
        self._ahead = ahead
        self._parts: deque[Any] = deque(maxlen=_MAX_PREFETCH)
        self._condition = threading.Condition()
        self._slot: _Job | None = None
        self._stopping = False
        self._loaded = False
        # Once it could be loaded, a failure to load is a death like any other.
        self._loaded_once = False
        self._failure: BaseException | None = None
        self._crashed_at: float | None = None
        self._pause = _MIN_RESTART_DELAY
        self.restarts = 0
        self.cause: BaseException | None = None
        self._thread = self._started()

    @property
    def state(self) -> WorkerState:
        """What the thread is doing."""
        if self._stopping:
            return WorkerState.STOPPED
        if self._failure is not None:
            return WorkerState.FAILED
        if not self._thread.is_alive():
            return WorkerState.CRASHED
        return WorkerState.READY if self._loaded else WorkerState.LOADING

    @property
    def failure(self) -> BaseException | None:
        """Why the estimator could not be loaded in the first place, or None."""
        return self._failure

    def submit(self, job: _Job) -> _Job | None:
        """Leave a job for the thread; return the one that waited and will not be done."""
        with self._condition:
            replaced, self._slot = self._slot, job
            self._condition.notify()
            return replaced

    def offer(self, part: Any) -> None:
        """Leave a part of a job to come, to be worked on while no job waits."""
        if self._ahead is None:
            return
        with self._condition:
            self._parts.append(part)
            self._condition.notify()

    def clear(self) -> _Job | None:
        """Take back the job that waits, if there is one, and the parts of the next."""
        with self._condition:
            self._parts.clear()
            waiting, self._slot = self._slot, None
            return waiting

    def wait_until_loaded(self, timeout: float | None = None) -> None:
        """Block until the estimator is loaded or could not be."""
        with self._condition:
            self._condition.wait_for(
                lambda: self._loaded or self._failure is not None or self._stopping, timeout
            )

    def request_stop(self) -> None:
        """Ask the thread to end after the job at hand, without waiting."""
        with self._condition:
            self._stopping = True
            self._slot = None
            self._parts.clear()
            self._condition.notify_all()

    @property
    def ended(self) -> bool:
        """Whether the thread has ended."""
        return not self._thread.is_alive()

    def stop(self, timeout: float | None = None) -> bool:
        """End the thread; return whether it has ended within ``timeout`` seconds."""
        self.request_stop()
        self._thread.join(timeout)
        return self.ended

    def restart(self) -> bool:
        """Start a thread that died anew, after a pause.

        The pause is 1 s at first, doubles each time up to 30 s, and is 1 s again after a job that
        was done.

        :returns: whether it was started now; call this from time to time.
        """
        if self.state is not WorkerState.CRASHED:
            return False
        now = time.monotonic()
        if self._crashed_at is None:
            self._crashed_at = now
        if now - self._crashed_at < self._pause:
            return False
        self._crashed_at = None
        self._pause = min(2.0 * self._pause, _MAX_RESTART_DELAY)
        self._loaded = False
        self.restarts += 1
        self._thread = self._started()
        return True

    def _started(self) -> threading.Thread:
        thread = threading.Thread(target=self._run, name='estimator', daemon=True)
        thread.start()
        return thread

    def _run(self) -> None:
        try:
            while self._serve():
                pass
        except BaseException as error:
            # Said by those who see that the thread is dead.
            self.cause = error

    def _serve(self) -> bool:
        """Load, and work; return whether to load anew, False when it is time to stop."""
        try:
            estimator = self._load()
        except BaseException as error:
            if self._loaded_once:
                raise
            with self._condition:
                self._failure = error
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
            # What is no use any more may not even be able to give its memory back.
            with suppress(Exception):
                release = getattr(estimator, 'release', None)
                if release is not None:
                    release()
        return not self._stopping

    def _work(self, estimator: Any) -> bool:
        """Do the job that waits, or else work ahead; return whether to go on with the same."""
        with self._condition:
            self._condition.wait_for(
                lambda: self._slot is not None or self._parts or self._stopping
            )
            if self._stopping:
                return False
            job, self._slot = self._slot, None
            part = self._parts.popleft() if job is None else None
        if job is None:
            self._work_ahead(estimator, part)
            return True
        try:
            self._handle(estimator, job)
            self._pause = _MIN_RESTART_DELAY
        except Exception as error:
            return not self._report(error)
        except BaseException as error:
            self._report(error)
            raise
        return True

    def _work_ahead(self, estimator: Any, part: Any) -> None:
        assert self._ahead is not None
        with suppress(Exception):
            self._ahead(estimator, part)
