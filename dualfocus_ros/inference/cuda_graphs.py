# SPDX-License-Identifier: Apache-2.0
"""Functions of tensors of fixed shapes, replayed as CUDA graphs.

The network launches hundreds of small kernels, and at 640x480 a GPU is done with most of them
before the next is launched. A graph launches all of them at once. It reads from and writes to the
same memory each time, so that inputs are copied in and results out.
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
    """Results that are made of tensors."""

    @property
    def tensors(self) -> list[Tensor]:
        """All of them."""

    def with_tensors(self, tensors: Iterable[Tensor]) -> Any:
        """Return the same with other tensors."""


Results = TypeVar('Results', bound=TensorStruct)
Function = Callable[[Sequence[Tensor]], Results]
# Encoding and decoding, with and without sigma, for two numbers of planes.
_MOST_GRAPHS = 6
_WARM_UPS = 3
# A replay must give what the function gave: relative, and of the largest value.
_TOLERANCE = 1e-2
logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class CapturedGraph(Generic[Results]):
    """A function that was captured.

    :param inputs: what it reads.
    :param outputs: what it writes.
    :param replay: runs it again.
    """

    inputs: list[Tensor]
    outputs: Results
    replay: Callable[[], object]

    def __call__(self, inputs: Sequence[Tensor]) -> Results:
        """Return the results for other inputs, in memory that the next call leaves alone."""
        for place, given in zip(self.inputs, inputs, strict=True):
            place.copy_(given)
        self.replay()
        results: Results = self.outputs.with_tensors(
            [part.clone() for part in self.outputs.tensors]
        )
        return results


def capture(function: Function[Results], inputs: Sequence[Tensor]) -> CapturedGraph[Results]:
    """Capture a function in a CUDA graph.

    :raises RuntimeError: if it waits for the device or does what else a graph cannot hold.
    """
    places = [torch.empty_like(given).copy_(given) for given in inputs]
    aside = torch.cuda.Stream(places[0].device)
    aside.wait_stream(torch.cuda.current_stream(places[0].device))
    with torch.cuda.stream(aside):
        for _ in range(_WARM_UPS):
            function(places)
    torch.cuda.current_stream(places[0].device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    # Other threads may use the device meanwhile.
    with torch.cuda.graph(graph, capture_error_mode='thread_local'):
        outputs = function(places)
    return CapturedGraph(places, outputs, graph.replay)


class CudaGraphCache:
    """Calls functions; from a graph as soon as one is asked for the same shapes again.

    A graph is compared with the function itself once. Where capturing fails or the results
    differ, functions are called as they are from then on, and a warning says why.

    :param enabled: whether to capture at all; False on a CPU.
    """

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled
        self._graphs: OrderedDict[Hashable, CapturedGraph[Any]] = OrderedDict()
        self._once: set[Hashable] = set()

    def __len__(self) -> int:
        return len(self._graphs)

    def run(
        self, name: Hashable, function: Function[Results], inputs: Sequence[Tensor]
    ) -> Results:
        """Return ``function(inputs)``.

        :param name: tells functions apart that take tensors of the same shapes.
        """
        if not self.enabled:
            return function(inputs)
        key = (name, *((given.shape, given.dtype) for given in inputs))
        graph: CapturedGraph[Results] | None = self._graphs.get(key)
        if graph is not None:
            self._graphs.move_to_end(key)
            return graph(inputs)
        results = function(inputs)
        # Shapes that come once are not worth it.
        if key in self._once:
            self._once.discard(key)
            self._add(key, function, inputs, results)
        else:
            self._once.add(key)
        return results

    def clear(self) -> None:
        """Give the memory of all graphs back."""
        self._graphs.clear()
        self._once.clear()

    def _add(
        self,
        key: Hashable,
        function: Function[Results],
        inputs: Sequence[Tensor],
        results: Results,
    ) -> None:
        try:
            graph = capture(function, inputs)
            difference = _largest_difference(graph(inputs).tensors, results.tensors)
        except RuntimeError as error:
            self._give_up(f'a CUDA graph could not be captured ({error})')
            return
        if not difference <= _TOLERANCE:
            self._give_up(f'a CUDA graph gave other results (by {difference:.3g} of the largest)')
            return
        self._graphs[key] = graph
        while len(self._graphs) > _MOST_GRAPHS:
            self._graphs.popitem(last=False)

    def _give_up(self, why: str) -> None:
        logger.warning('%s: going on without graphs, more slowly', why)
        self.enabled = False
        self.clear()


def _largest_difference(some: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    """Return the largest difference over the largest value of a tensor; NaN equals NaN."""
    worst = 0.0
    for one, other in zip(some, others, strict=True):
        difference = (one.float() - other.float()).nan_to_num(0.0).abs().max()
        unequal = bool((one.isnan() != other.isnan()).any())
        scale = other.float().nan_to_num(0.0).abs().max().clamp_min(1e-6)
        worst = max(worst, float('inf') if unequal else float(difference / scale))
    return worst
