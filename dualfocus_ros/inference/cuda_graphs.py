# SPDX-License-Identifier: Apache-2.0
"""Replay of functions of fixed shapes as CUDA graphs.

The network launches hundreds of small kernels, and at 640 x 480 a GPU finishes most of them before
the next one is launched. A graph launches all of them at once. It uses the same memory each time:
inputs are copied in and results out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
import logging
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor


class TensorStruct(Protocol):
    """Structure of tensors, which can be rebuilt with others."""

    @property
    def tensors(self) -> list[Tensor]: ...

    def with_tensors(self, tensors: Iterable[Tensor]) -> Any: ...


Results = TypeVar('Results', bound=TensorStruct)
Function = Callable[[Sequence[Tensor]], Results]
# Encoding, and decoding with and without sigma, for two stack sizes.
_MAX_GRAPHS = 6
_WARM_UPS = 3
# Largest difference between replay and function, relative to the largest value.
_TOLERANCE = 1e-2
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class CapturedGraph(Generic[Results]):
    """Captured function."""

    inputs: list[Tensor]  # memory that it reads
    outputs: Results  # memory that it writes
    replay: Callable[[], object]

    def __call__(self, inputs: Sequence[Tensor]) -> Results:
        """Return the results for other inputs, in new memory."""
        for place, given in zip(self.inputs, inputs, strict=True):
            place.copy_(given)
        self.replay()
        results: Results = self.outputs.with_tensors(t.clone() for t in self.outputs.tensors)
        return results


def capture(function: Function[Results], inputs: Sequence[Tensor]) -> CapturedGraph[Results]:
    """Capture a function in a CUDA graph.

    :raises RuntimeError: if the function waits for the device or is not capturable otherwise.
    """
    places = [torch.empty_like(given).copy_(given) for given in inputs]
    side = torch.cuda.Stream(places[0].device)
    side.wait_stream(torch.cuda.current_stream(places[0].device))
    with torch.cuda.stream(side):
        for _ in range(_WARM_UPS):
            function(places)
    torch.cuda.current_stream(places[0].device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    # Other threads may use the device during the capture.
    with torch.cuda.graph(graph, capture_error_mode='thread_local'):
        outputs = function(places)
    return CapturedGraph(places, outputs, graph.replay)


class CudaGraphCache:
    """Cache of CUDA graphs by function and shapes; a function is captured on its second call.

    Each graph is compared once with the function. If capturing fails or the results differ, all
    later calls run without graphs, with a warning.

    :param enabled: whether to capture at all; False on a CPU.
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self._graphs: OrderedDict[Hashable, CapturedGraph[Any]] = OrderedDict()
        self._called_once: set[Hashable] = set()

    def __len__(self) -> int:
        return len(self._graphs)

    def run(
        self, name: Hashable, function: Function[Results], inputs: Sequence[Tensor]
    ) -> Results:
        """Return ``function(inputs)``.

        :param name: key that distinguishes functions of tensors of the same shapes.
        """
        if not self.enabled:
            return function(inputs)
        key = (name, *((given.shape, given.dtype) for given in inputs))
        graph: CapturedGraph[Results] | None = self._graphs.get(key)
        if graph is not None:
            self._graphs.move_to_end(key)
            return graph(inputs)
        results = function(inputs)
        # Capturing costs more than it saves for shapes that come once.
        if key in self._called_once:
            self._called_once.discard(key)
            self._add(key, function, inputs, results)
        else:
            self._called_once.add(key)
        return results

    def clear(self) -> None:
        """Free the memory of all graphs."""
        self._graphs.clear()
        self._called_once.clear()

    def _add(
        self, key: Hashable, function: Function[Any], inputs: Sequence[Tensor], results: Any
    ) -> None:
        try:
            graph = capture(function, inputs)
            difference = _largest_difference(graph(inputs).tensors, results.tensors)
            fault = f'gave other results (by {difference:.3g} of the largest)'
        except RuntimeError as error:
            difference, fault = float('inf'), f'could not be captured ({error})'
        if difference <= _TOLERANCE:
            self._graphs[key] = graph
            while len(self._graphs) > _MAX_GRAPHS:
                self._graphs.popitem(last=False)
            return
        logger.warning('a CUDA graph %s: continuing without graphs, which is slower', fault)
        self.enabled = False
        self.clear()


def _largest_difference(some: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """Return the largest difference relative to the largest value of a tensor; NaN equals NaN."""
    worst = 0.0
    for one, other in zip(some, others, strict=True):
        difference = (one.float() - other.float()).nan_to_num(0.0).abs().max()
        unequal = bool((one.isnan() != other.isnan()).any())
        scale = other.float().nan_to_num(0.0).abs().max().clamp_min(1e-6)
        worst = max(worst, float('inf') if unequal else float(difference / scale))
    return worst
