# SPDX-License-Identifier: Apache-2.0
"""Worker thread: newest job wins, exceptions, crashes, restart, stop."""

import threading
import time

import pytest

from dualfocus_ros.nodes import inference_worker as worker_module
from dualfocus_ros.nodes.inference_worker import InferenceWorker, WorkerState


class Estimator:
    """Records its jobs; waits for a permit to simulate slow jobs."""

    def __init__(self):
        self.done = []
        self.began = threading.Semaphore(0)
        self.permit = threading.Semaphore(0)
        self.thread = threading.current_thread()
        self.released = False

    def release(self):
        self.released = True


def handle(estimator, job):
    estimator.began.release()
    if isinstance(job, BaseException):
        raise job
    assert estimator.permit.acquire(timeout=10)
    estimator.done.append(job)


@pytest.fixture
def rig():
    errors = []
    made = []
    reported = threading.Semaphore(0)

    def load():
        made.append(Estimator())
        return made[-1]

    def report(error):
        errors.append(error)
        reported.release()

    worker = InferenceWorker(load, handle, report)
    worker.wait_until_loaded(10)
    worker.errors, worker.estimators, worker.reported = errors, made, reported
    yield worker
    made[-1].permit.release()
    assert worker.stop(10)


def finish(worker, count):
    for _ in range(count):
        worker.estimators[-1].permit.release()
    assert worker.stop(10)
    return worker.estimators[-1].done


def test_loads_and_releases_on_the_thread(rig):
    estimator = rig.estimators[0]
    assert rig.state is WorkerState.READY
    assert estimator.thread is not threading.current_thread()
    assert rig.stop(10)
    assert estimator.released
    assert rig.state is WorkerState.STOPPED


@pytest.mark.fault(20)
def test_newest_job_replaces_the_pending_one(rig):
    rig.submit('first')
    assert rig.estimators[0].began.acquire(timeout=10)
    assert rig.submit('second') is None
    assert rig.submit('third') == 'second'
    assert rig.submit('fourth') == 'third'
    rig.estimators[0].permit.release()
    assert rig.estimators[0].began.acquire(timeout=10)
    assert finish(rig, 2) == ['first', 'fourth']


def test_clear_removes_the_pending_job(rig):
    rig.submit('first')
    assert rig.estimators[0].began.acquire(timeout=10)
    rig.submit('second')
    assert rig.clear() == 'second'
    assert rig.clear() is None
    assert finish(rig, 2) == ['first']


@pytest.mark.fault(10)
@pytest.mark.parametrize('error', [RuntimeError('CUDA error'), MemoryError(), ValueError('x')])
def test_continues_after_an_exception(rig, error):
    rig.submit(error)
    assert rig.reported.acquire(timeout=10)
    assert rig.errors == [error]
    assert rig.state is WorkerState.READY
    rig.submit('next')
    assert rig.estimators[0].began.acquire(timeout=10)
    assert rig.estimators[0].began.acquire(timeout=10)
    assert finish(rig, 1) == ['next']


def test_stopped_worker_ignores_jobs(rig):
    rig.request_stop()
    rig.submit('late')
    assert finish(rig, 1) == []


def test_failed_load_sets_state_and_error():
    def load():
        raise ValueError('no such model')

    worker = InferenceWorker(load, handle, lambda error: None)
    worker.wait_until_loaded(10)
    assert worker.state is WorkerState.FAILED
    assert str(worker.load_error) == 'no such model'
    assert worker.stop(10)


@pytest.mark.fault(10)
def test_crashed_thread_is_restarted(rig, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(worker_module.time, 'monotonic', lambda: clock[0])
    rig.submit(SystemExit('killed'))
    rig._thread.join(10)
    assert rig.state is WorkerState.CRASHED
    assert not rig.restart()
    clock[0] += 0.9
    assert not rig.restart()
    clock[0] += 0.2
    assert rig.restart()
    rig.wait_until_loaded(10)
    assert rig.state is WorkerState.READY
    rig.submit('again')
    assert rig.estimators[1].began.acquire(timeout=10)
    assert (rig.restarts, str(rig.crash_cause)) == (1, 'killed')
    assert [str(error) for error in rig.errors] == ['killed']
    assert finish(rig, 1) == ['again']


def test_restart_delay_doubles_until_a_job_succeeds(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(worker_module.time, 'monotonic', lambda: clock[0])
    done = threading.Semaphore(0)

    def do(estimator, job):
        if job == 'die':
            raise SystemExit
        done.release()

    def pause_after_death():
        worker.submit('die')
        worker._thread.join(10)
        assert not worker.restart()
        began = clock[0]
        while not worker.restart():
            clock[0] += 0.5
        worker.wait_until_loaded(10)
        return clock[0] - began

    worker = InferenceWorker(Estimator, do, lambda error: None)
    assert [pause_after_death() for _ in range(7)] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    worker.submit('well')
    assert done.acquire(timeout=10)
    assert pause_after_death() == 1.0
    assert worker.restarts == 8
    assert worker.stop(10)


def test_failed_reload_is_retried(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(worker_module.time, 'monotonic', lambda: clock[0])
    made, trouble = [], []

    def load():
        if trouble:
            raise trouble.pop()
        made.append(Estimator())
        return made[-1]

    worker = InferenceWorker(load, handle, lambda error: None)
    worker.wait_until_loaded(10)
    trouble.append(OSError('for the moment'))
    worker.submit(SystemExit())
    for restarts in (1, 2):
        worker._thread.join(10)
        assert worker.state is WorkerState.CRASHED
        worker.restart()
        clock[0] += 31.0
        assert worker.restart() and worker.restarts == restarts
    worker.wait_until_loaded(10)
    assert str(worker.crash_cause) == 'for the moment'
    assert worker.state is WorkerState.READY and len(made) == 2
    assert worker.stop(10)


def test_crash_during_first_load_is_a_failed_load():
    def load():
        raise SystemExit('gone')

    worker = InferenceWorker(load, handle, lambda error: None)
    worker.wait_until_loaded(10)
    assert worker.state is WorkerState.FAILED and str(worker.load_error) == 'gone'


def test_reloads_although_release_fails(rig):
    rig._on_error = lambda error: True

    def cannot():
        raise RuntimeError('CUDA error')

    rig.estimators[0].release = cannot
    rig.submit(RuntimeError('CUDA error'))
    assert _soon(lambda: len(rig.estimators) == 2)
    rig.submit('next')
    assert rig.estimators[1].began.acquire(timeout=10)
    assert finish(rig, 1) == ['next'] and rig.restarts == 0


def test_prefetches_while_no_job_is_pending():
    worked, order = threading.Semaphore(0), []

    def ahead(estimator, part):
        order.append(part)
        worked.release()
        if part == 'broken':
            raise RuntimeError('suppressed')

    def do(estimator, job):
        order.append(job)
        worked.release()

    worker = InferenceWorker(Estimator, do, lambda error: order.append(error), ahead)
    for part in ('first', 'broken', 'last'):
        worker.submit_prefetch(part)
    for _ in range(3):
        assert worked.acquire(timeout=10)
    worker.submit('job')
    assert worked.acquire(timeout=10)
    assert worker.stop(10)
    assert order == ['first', 'broken', 'last', 'job']


def test_job_precedes_prefetch_and_clear_drops_both():
    gate, begun, order = threading.Event(), threading.Event(), []

    def ahead(estimator, part):
        order.append(part)
        begun.set()
        assert gate.wait(10)

    worker = InferenceWorker(
        Estimator, lambda estimator, job: order.append(job), order.append, ahead
    )
    worker.submit_prefetch('running')
    assert begun.wait(10)
    worker.submit_prefetch('waits')
    worker.submit('job')
    gate.set()
    assert _soon(lambda: order == ['running', 'job', 'waits'])
    gate.clear()
    begun.clear()
    worker.submit_prefetch('again')
    assert begun.wait(10)
    worker.submit_prefetch('dropped')
    worker.submit('dropped job')
    assert worker.clear() == 'dropped job'
    gate.set()
    assert worker.stop(10)
    assert order == ['running', 'job', 'waits', 'again']


def _soon(condition):
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()
