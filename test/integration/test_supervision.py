# SPDX-License-Identifier: Apache-2.0
"""What a failing device or a dying worker does to the depth node, over DDS.

The failures are exceptions as torch raises them, at the seam where the network would run.
"""

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
pytest.importorskip('dualfocus_ros.msg', reason='needs the built messages: make build')

from diagnostic_msgs.msg import DiagnosticStatus
from lifecycle_msgs.msg import Transition
import torch

from depth_rig import MS, START, DepthRig, FakeEstimator, stamps_of
from dualfocus_ros.inference.gpu_errors import GpuFault, classify_gpu_error

OUT_OF_MEMORY = 'CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total of 8 GiB'
ASSERT = 'CUDA error: device-side assert triggered\nCUDA kernel errors might be reported later'
GONE = 'CUDA error: the launch timed out and was terminated'


def memory_error():
    return torch.cuda.OutOfMemoryError(OUT_OF_MEMORY)


class Gpu:
    """Loads stand-ins; the one on a GPU can be poisoned, as a CUDA context is."""

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
        """Let everything fail from now on, on the estimators that there are as in a new one."""
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
def make(gpu):
    """Return a function that makes a connected rig; all are closed after the test."""
    rigs = []

    def make_rig(**parameters):
        rig = DepthRig(load=gpu.load, **parameters)
        rigs.append(rig)
        rig.use_camera()
        rig.listen('depth/image_rect')
        rig.ready()
        rig.sweeps = 0
        return rig

    yield make_rig
    for rig in rigs:
        rig.close()


def sweep(rig):
    """Publish the next sweep; return the stamp of its depth."""
    rig.sweeps += 1
    return rig.sweep(start=START + rig.sweeps * 200 * MS, sweep=rig.sweeps)[-1]


def depths(rig):
    return stamps_of(rig.received['depth/image_rect'])


def rejected(rig, reason):
    return rig.node._stage_counter.snapshot().rejected(reason)


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
    rig = make()
    estimator = gpu.loaded[0][-1]
    estimator.errors.append(memory_error())
    stamp = sweep(rig)
    rig.until(lambda: depths(rig) == [stamp])
    assert estimator.made_room == 1
    rig.until(lambda: rig.status('depth')[2].get('stacks short of memory') == '1')
    assert rig.status('depth')[0] == DiagnosticStatus.OK


@pytest.mark.fault(10)
def test_repeated_out_of_memory_drops_one_stack(make, gpu):
    rig = make()
    gpu.loaded[0][-1].errors += [memory_error(), memory_error()]
    sweep(rig)
    rig.until(lambda: rejected(rig, 'out_of_memory') == 1)
    rig.until(lambda: rig.status('depth')[0] == DiagnosticStatus.ERROR)
    assert 'fewer planes (stack.size)' in rig.status('depth')[1]
    rig.until(lambda: 'rejected out_of_memory' in rig.status('input')[2])
    stamp = sweep(rig)
    rig.until(lambda: depths(rig) == [stamp])
    assert len(gpu.loaded) == 1
    rig.until(lambda: rig.status('depth')[0] == DiagnosticStatus.OK)


@pytest.mark.fault(10)
@pytest.mark.parametrize('text', [ASSERT, GONE])
def test_device_auto_falls_back_to_cpu(make, gpu, text):
    rig = make(device='auto', precision='fp16')
    gpu.poison(text)
    sweep(rig)
    rig.until(lambda: rejected(rig, 'gpu_lost') == 1)
    rig.until(lambda: len(gpu.loaded) == 2 and rig.node._worker.state.value == 'ready')
    assert [(device, precision) for device, precision, _ in gpu.loaded] == [
        ('auto', 'fp16'),
        ('cpu', 'auto'),
    ]
    stamp = sweep(rig)
    rig.until(lambda: depths(rig) == [stamp])
    rig.until(lambda: rig.status('model')[0] == DiagnosticStatus.WARN)
    _, said, values = rig.status('model')
    assert 'on the CPU' in said and text.split('\n')[0] in said and 'restart' in said
    assert values['device'] == 'cpu (test)' and values['worker restarts'] == '0'
    assert rig.state == 'active'


@pytest.mark.fault(10)
def test_device_auto_with_a_gpu_that_never_works(make, gpu):
    gpu.error = RuntimeError('CUDA driver initialization failed, you might not have a CUDA gpu')
    rig = make(device='auto')
    stamp = sweep(rig)
    rig.until(lambda: depths(rig) == [stamp])
    rig.until(lambda: rig.status('model')[0] == DiagnosticStatus.WARN)
    assert 'CUDA driver initialization failed' in rig.status('model')[1]


@pytest.mark.fault(10)
def test_named_device_failure_enters_error_state(make, gpu):
    rig = make(device='cuda')
    gpu.poison(ASSERT)
    sweep(rig)
    rig.until(lambda: rig.state == 'unconfigured', 'for the lifecycle to take the node back')
    rig.until(lambda: rig.status('model')[0] == DiagnosticStatus.ERROR)
    said = rig.status('model')[1]
    assert 'device-side assert' in said and 'restart the process' in said and 'auto' in said
    assert rig.get_state() == 'unconfigured'
    # A new attempt in the same process fails as CUDA does, and is an answer, not the end.
    assert not rig.change_state(Transition.TRANSITION_CONFIGURE)
    rig.until(lambda: 'could not be loaded' in rig.status('model')[1])
    gpu.error = None
    assert rig.change_state(Transition.TRANSITION_CONFIGURE)
    assert rig.change_state(Transition.TRANSITION_ACTIVATE)
    rig.ready()
    stamp = sweep(rig)
    rig.until(lambda: depths(rig) == [stamp])


@pytest.mark.fault(10)
def test_worker_crashes_are_counted(make, gpu):
    rig = make()
    gpu.loaded[0][-1].errors.append(SystemExit('killed'))
    sweep(rig)
    rig.until(lambda: rejected(rig, 'worker_crashed') == 1)
    rig.until(lambda: 'crashed with SystemExit: killed' in rig.status('model')[1])
    rig.until(lambda: len(gpu.loaded) == 2)
    rig.until(lambda: rig.status('model')[2].get('worker restarts') == '1')
    assert rig.status('model')[2]['worker crash cause'] == 'SystemExit: killed'
    stamp = sweep(rig)
    rig.until(lambda: depths(rig) == [stamp])
