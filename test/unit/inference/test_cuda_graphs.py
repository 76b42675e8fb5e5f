# SPDX-License-Identifier: Apache-2.0
"""CUDA graphs; without a GPU, with a stand-in for the capture."""

from dataclasses import dataclass
import logging

import pytest
import torch

from dualfocus_ros.inference import cuda_graphs
from dualfocus_ros.inference.cuda_graphs import CapturedGraph, CudaGraphCache

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA device')


@dataclass(frozen=True, eq=False)
class Sum:
    """Results with the interface of the network's."""

    total: torch.Tensor

    @property
    def tensors(self):
        return [self.total]

    def with_tensors(self, tensors):
        return Sum(*tensors)


class Recorder:
    """Stand-in for the capture: a replay reads and writes the memory of the capture."""

    def __init__(self, wrong=0.0, error=None):
        self.captured, self.replayed = [], 0
        self.wrong, self.error = wrong, error

    def __call__(self, function, inputs):
        if self.error is not None:
            raise self.error
        places = [given.clone() for given in inputs]
        outputs = function(places)
        self.captured.append([tuple(given.shape) for given in inputs])

        def replay():
            self.replayed += 1
            for place, result in zip(outputs.tensors, function(places).tensors, strict=True):
                place.copy_(result + self.wrong)

        return CapturedGraph(places, outputs, replay)


@pytest.fixture
def recorder(monkeypatch):
    made = Recorder()
    monkeypatch.setattr(cuda_graphs, 'capture', made)
    return made


def added(tensors):
    return Sum(tensors[0] + tensors[1])


def pair(size, value):
    return [torch.full((size,), value), torch.ones(size)]


def test_second_call_is_captured_and_later_calls_are_replayed(recorder):
    calls = CudaGraphCache(True)
    results = [calls.run('add', added, pair(3, float(n))) for n in range(5)]
    assert [result.total.tolist() for result in results] == [[n + 1.0] * 3 for n in range(5)]
    assert recorder.captured == [[(3,), (3,)]]
    # One replay is the comparison with the function.
    assert recorder.replayed == 1 + 3


def test_results_outlive_the_next_replay(recorder):
    calls = CudaGraphCache(True)
    for _ in range(2):
        calls.run('add', added, pair(2, 0.0))
    kept = calls.run('add', added, pair(2, 5.0)).total
    calls.run('add', added, pair(2, 7.0))
    assert kept.tolist() == [6.0, 6.0]


def test_each_shape_and_function_has_its_graph(recorder):
    calls = CudaGraphCache(True)
    for _ in range(2):
        calls.run('add', added, pair(2, 0.0))
        calls.run('add', added, pair(4, 0.0))
        calls.run('twice', lambda tensors: Sum(2.0 * tensors[0]), pair(4, 3.0))
    assert len(calls) == 3
    assert calls.run('twice', added, pair(4, 3.0)).total.tolist() == [6.0] * 4
    assert calls.run('add', added, pair(4, 3.0)).total.tolist() == [4.0] * 4


def test_oldest_graphs_are_dropped(recorder):
    calls = CudaGraphCache(True)
    for size in range(1, 20):
        for _ in range(2):
            calls.run('add', added, pair(size, 0.0))
    assert len(calls) == 6
    calls.clear()
    assert len(calls) == 0


@pytest.mark.parametrize(
    ('recorder', 'text'),
    [
        (Recorder(error=RuntimeError('operation not permitted')), 'operation not permitted'),
        (Recorder(wrong=0.5), 'other results'),
        (Recorder(wrong=float('nan')), 'other results'),
    ],
)
def test_failed_graph_falls_back_to_the_function(recorder, text, monkeypatch, caplog):
    monkeypatch.setattr(cuda_graphs, 'capture', recorder)
    calls = CudaGraphCache(True)
    with caplog.at_level(logging.WARNING):
        results = [calls.run('add', added, pair(2, float(n))).total.tolist() for n in range(4)]
    assert results == [[n + 1.0] * 2 for n in range(4)]
    assert not calls.enabled
    assert len(caplog.records) == 1
    assert text in caplog.text


def test_nothing_is_captured_on_a_cpu(recorder):
    calls = CudaGraphCache(False)
    for _ in range(3):
        assert calls.run('add', added, pair(2, 1.0)).total.tolist() == [2.0, 2.0]
    assert recorder.captured == []


@needs_cuda
def test_replay_on_a_gpu_equals_the_function():
    calls = CudaGraphCache(True)
    with torch.inference_mode():
        for n in range(5):
            tensors = [tensor.cuda() for tensor in pair(1000, float(n))]
            assert calls.run('add', added, tensors).total.tolist() == [n + 1.0] * 1000
    assert calls.enabled
    assert len(calls) == 1
