# SPDX-License-Identifier: Apache-2.0
"""Depth node over DDS with a failing device or a crashing worker.

The failures are exceptions as torch raises them, in place of the network.
"""

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
import pytest
import torch

from depth_node_harness import MS, START, FakeEstimator, stamps_of
from dualfocus_ros.inference.gpu_errors import GpuFault, classify_gpu_error

OUT_OF_MEMORY = 'CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total of 8 GiB'
ASSERT = 'CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later'
GONE = 'CUDA error: the launch timed out and was terminated'


def memory_error():
    return torch.cuda.OutOfMemoryError(OUT_OF_MEMORY)


class Gpu:
    """Loads fake estimators; those on a GPU can fail like a lost CUDA context."""

    def __init__(self):
        self.error = None
        self.loaded = []

    def load(self, settings):
        if settings.device != 'cpu' and self.error is not None:
            raise self.error
        estimator = FakeEstimator()
        estimator.device_name = f'{settings.device} (test)'
        self.loaded.append((settings.device, settings.precision, estimator))
        return estimator

    def poison(self, text):
        """Let all calls fail from now on, of present and new estimators."""
        self.error = RuntimeError(text)
        for _, _, estimator in self.loaded:
            estimator.errors += [self.error] * 100
            estimator.clear_caches = estimator.release = self._fail

    def _fail(self):
        raise self.error


@pytest.fixture
def gpu():
    return Gpu()


@pytest.fixture
def make(gpu, connect):
    """Return a function that makes a connected harness."""

    def make_connected(**parameters):
        harness = connect('depth/image_rect', load=gpu.load, **parameters)
        harness.sweeps = 0
        return harness

    return make_connected


def sweep(harness):
    """Publish the next sweep; return the stamp of its depth."""
    harness.sweeps += 1
    return harness.sweep(start=START + harness.sweeps * 200 * MS, sweep=harness.sweeps)[-1]


def depths(harness):
    return stamps_of(harness.depths)


def rejected(harness, reason):
    return harness.counts().rejected(reason)


@pytest.mark.parametrize(
    ('text', 'fault'),
    [
        (OUT_OF_MEMORY, GpuFault.OUT_OF_MEMORY),
        ('CUDA error: out of memory', GpuFault.OUT_OF_MEMORY),
        (
            'CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`',
            GpuFault.OUT_OF_MEMORY,
        ),
        (
            "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory",
            GpuFault.OUT_OF_MEMORY,
        ),
        (ASSERT, GpuFault.LOST),
        (GONE, GpuFault.LOST),
        ('cuDNN error: CUDNN_STATUS_EXECUTION_FAILED', GpuFault.LOST),
        ('Expected a tensor of 4 dimensions', None),
    ],
)
def test_classifies_torch_errors(text, fault):
    assert classify_gpu_error(RuntimeError(text)) is fault
    assert classify_gpu_error(ValueError(text)) is None


@pytest.mark.fault(10)
def test_single_out_of_memory_costs_no_depth(make, gpu):
    harness = make()
    estimator = gpu.loaded[0][-1]
    estimator.errors.append(memory_error())
    stamp = sweep(harness)
    harness.until(lambda: depths(harness) == [stamp])
    assert estimator.made_room == 1
    harness.until(lambda: harness.status('depth')[2].get('stacks short of memory') == '1')
    assert harness.status('depth')[0] == DiagnosticStatus.OK


@pytest.mark.fault(10)
def test_repeated_out_of_memory_drops_one_stack(make, gpu):
    harness = make()
    gpu.loaded[0][-1].errors += [memory_error(), memory_error()]
    sweep(harness)
    harness.until(lambda: rejected(harness, 'out_of_memory') == 1)
    harness.until(lambda: harness.status('depth')[0] == DiagnosticStatus.ERROR)
    assert 'fewer planes (stack.size)' in harness.status('depth')[1]
    harness.until(lambda: 'rejected out_of_memory' in harness.status('input')[2])
    stamp = sweep(harness)
    harness.until(lambda: depths(harness) == [stamp])
    assert len(gpu.loaded) == 1
    harness.until(lambda: harness.status('depth')[0] == DiagnosticStatus.OK)


@pytest.mark.fault(10)
@pytest.mark.parametrize('text', [ASSERT, GONE])
def test_device_auto_falls_back_to_cpu(make, gpu, text):
    harness = make(device='auto', precision='fp16')
    gpu.poison(text)
    sweep(harness)
    harness.until(lambda: rejected(harness, 'gpu_lost') == 1)
    harness.until(lambda: len(gpu.loaded) == 2 and harness.worker.state.value == 'ready')
    assert [(device, precision) for device, precision, _ in gpu.loaded] == [
        ('auto', 'fp16'),
        ('cpu', 'auto'),
    ]
    stamp = sweep(harness)
    harness.until(lambda: depths(harness) == [stamp])
    harness.until(lambda: harness.status('model')[0] == DiagnosticStatus.WARN)
    _, said, values = harness.status('model')
    assert 'on the CPU' in said and text.split('\n')[0] in said and 'restart' in said
    assert values['device'] == 'cpu (test)' and values['worker restarts'] == '0'
    assert harness.state == 'active'


@pytest.mark.fault(10)
def test_device_auto_with_a_gpu_that_never_works(make, gpu):
    gpu.error = RuntimeError('CUDA driver initialization failed, you might not have a CUDA gpu')
    harness = make(device='auto')
    stamp = sweep(harness)
    harness.until(lambda: depths(harness) == [stamp])
    harness.until(lambda: harness.status('model')[0] == DiagnosticStatus.WARN)
    assert 'CUDA driver initialization failed' in harness.status('model')[1]


@pytest.mark.fault(10)
def test_named_device_failure_enters_error_state(make, gpu):
    harness = make(device='cuda')
    gpu.poison(ASSERT)
    sweep(harness)
    harness.until(
        lambda: harness.state == 'unconfigured', 'for the lifecycle to take the node back'
    )
    harness.until(lambda: harness.status('model')[0] == DiagnosticStatus.ERROR)
    said = harness.status('model')[1]
    assert 'device-side assert' in said and 'restart the process' in said and 'auto' in said
    assert harness.get_state() == 'unconfigured'
    # A new attempt in the same process fails as CUDA does, and is an answer, not the end.
    assert not harness.change_state(Transition.TRANSITION_CONFIGURE)
    harness.until(lambda: 'could not be loaded' in harness.status('model')[1])
    gpu.error = None
    assert harness.change_state(Transition.TRANSITION_CONFIGURE)
    assert harness.change_state(Transition.TRANSITION_ACTIVATE)
    harness.ready()
    stamp = sweep(harness)
    harness.until(lambda: depths(harness) == [stamp])


@pytest.mark.fault(10)
def test_worker_crashes_are_counted(make, gpu):
    harness = make()
    gpu.loaded[0][-1].errors.append(SystemExit('killed'))
    sweep(harness)
    harness.until(lambda: rejected(harness, 'worker_crashed') == 1)
    harness.until(lambda: 'crashed with SystemExit: killed' in harness.status('model')[1])
    harness.until(lambda: len(gpu.loaded) == 2)
    harness.until(lambda: harness.status('model')[2].get('worker restarts') == '1')
    assert harness.status('model')[2]['worker crash cause'] == 'SystemExit: killed'
    stamp = sweep(harness)
    harness.until(lambda: depths(harness) == [stamp])
