# SPDX-License-Identifier: Apache-2.0
"""What is timed: our networks through the estimator, DFV and the classical methods as they are."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
import itertools
from pathlib import Path
import tempfile
import time
from typing import Protocol

import cv2
import numpy as np
import torch

from dualfocus_ros.benchmark.benchmark_stacks import FRAME
from dualfocus_ros.benchmark.message_cost import MessageTimer
from dualfocus_ros.benchmark.timing import TimingSample
from dualfocus_ros.evaluation.classical import FOCUS_MEASURES, classical_inverse_depth
from dualfocus_ros.evaluation.methods import images_to_tensor
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.inference.device import default_threads, resolve_device, resolve_precision
from dualfocus_ros.inference.estimator import DepthEstimator
from dualfocus_ros.inference.result import OutputRequest
from dualfocus_ros.models.dfv import DFV
from dualfocus_ros.models.dualfocus import DualFocus
from dualfocus_ros.models.dualfocus_config import CONFIGURATIONS
from dualfocus_ros.models.resnet import normalize_imagenet
from dualfocus_ros.models.weights import load_model, save_model, shipped_models

DFV_NAME = 'dfv'
ALL_OUTPUTS = OutputRequest(
    sigma=True, confidence=True, all_in_focus=True, points=True, points_decimated=True
)
# Of the estimator's stages, what is the network's.
NETWORK_STAGES = ('encode', 'decode')
_FORMATS = {torch.float32: 'fp32', torch.float16: 'fp16', torch.bfloat16: 'bf16'}


@dataclass(frozen=True)
class ComputeConfig:
    """Where and how to compute.

    :param device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    :param precision: ``auto``, ``fp32``, ``fp16`` or ``bf16``.
    :param threads: of a CPU; 0 for all processors but one.
    """

    device: str = 'auto'
    precision: str = 'auto'
    threads: int = 0

    @property
    def torch_device(self) -> torch.device:
        """The device.

        :raises DeviceError: if it is not there.
        """
        return resolve_device(self.device)

    @property
    def format(self) -> str:
        """The number format that the precision comes to."""
        return _FORMATS[resolve_precision(self.precision, self.torch_device)]


class BenchmarkMethod(Protocol):
    """A method that can be timed.

    :param weights: ``shipped``, ``random`` or ``none``.
    :param precision: number format, such as ``fp32``.
    """

    name: str
    weights: str
    about: str
    precision: str
    parameters: int

    def run(self, stack: FocalStack) -> TimingSample:
        """Compute the depth of a stack once."""


def set_threads(place: ComputeConfig) -> None:
    """Have PyTorch and OpenCV take as many threads as the place says."""
    threads = place.threads or default_threads()
    torch.set_num_threads(threads)
    cv2.setNumThreads(threads)


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has nothing left to do."""
    if device.type == 'cuda':
        torch.cuda.synchronize(device)


def method_names() -> list[str]:
    """Return every method: shipped models, the other configurations, DFV and the classical."""
    return [*shipped_models(), *unshipped_configurations(), DFV_NAME, *FOCUS_MEASURES]


def open_timed_method(name: str, place: ComputeConfig) -> BenchmarkMethod:
    """Return a method by its name, ``auto``, or the path of a ``.safetensors`` file.

    :raises ValueError: for a name that there is not, or weights that cannot be used.
    """
    if name == DFV_NAME:
        return TimedDFV(place)
    if name in FOCUS_MEASURES:
        return TimedClassical(name)
    return TimedDualFocus(name, place)


def is_dualfocus(name: str) -> bool:
    """Return whether a method runs through the estimator."""
    return name != DFV_NAME and name not in FOCUS_MEASURES


class TimedDualFocus:
    """A DualFocus network through the estimator, with everything that the node can publish.

    :param model: a shipped name, ``auto``, the path of a ``.safetensors`` file, or a
        configuration, which gets random weights: no time depends on them.
    """

    def __init__(self, model: str, place: ComputeConfig) -> None:
        self.precision = place.format
        self.weights = 'random' if model in unshipped_configurations() else 'shipped'
        with _file_of(model) as file:
            self.estimator = DepthEstimator(file, place.device, place.precision, place.threads)
            self.name = self.estimator.model_name
            network = load_model(self.name if self.name in shipped_models() else file).network
        self.parameters = sum(p.numel() for p in network.parameters())
        self.about = 'whole estimate: depth, sigma, confidence, colour and points'
        self._packer = MessageTimer()
        self._device = place.torch_device

    def run(self, stack: FocalStack) -> TimingSample:
        """Estimate a stack of images that the estimator has not seen."""
        return self._timed(stack, lambda: None)

    def last_plane(self, stack: FocalStack) -> TimingSample:
        """Estimate a stack of which all planes but the last are encoded already.

        Planes arrive one by one and are encoded on arrival; only what is left to do after the
        last one is timed.
        """
        for plane in stack.planes[:-1]:
            self.estimator.prefetch(plane)
        return self._timed(stack, lambda: None)

    def next_frame(self, stack: FocalStack) -> TimingSample:
        """Estimate a stack that differs from the one before in its newest plane.

        Encoding that plane is part of the time.

        :param stack: with the newest plane last.
        """
        return self._timed(stack, lambda: self.estimator.prefetch(stack.planes[-1]))

    def _timed(self, stack: FocalStack, before: Callable[[], object]) -> TimingSample:
        # On a GPU the planes encoded ahead may still be in the works.
        synchronize(self._device)
        began = time.perf_counter()
        before()
        ahead = time.perf_counter()
        result = self.estimator.estimate(stack, ALL_OUTPUTS)
        total_ms = (time.perf_counter() - began) * 1e3
        stages = dict(result.stage_ms)
        if ahead - began > 1e-5:
            stages['encode'] = stages.get('encode', 0.0) + (ahead - began) * 1e3
        return TimingSample(total_ms, {**stages, **self._packer.pack(stack, result)})


class SlidingWindowTask:
    """A stream of frames for a model: each renews one plane of its stack, and gets a depth.

    :param fresh: makes a stack of new images.
    """

    def __init__(self, ours: TimedDualFocus, fresh: Callable[[], FocalStack]) -> None:
        self._ours = ours
        first = fresh()
        self._window = deque(first.planes, maxlen=len(first.planes))
        self._planes = self._frames(fresh)
        # The estimator takes a stream for one once two stacks have shared planes.
        for _ in range(2):
            self()

    def __call__(self) -> TimingSample:
        """Estimate with the next frame."""
        self._window.append(next(self._planes))
        return self._ours.next_frame(FocalStack(tuple(self._window), FRAME))

    @staticmethod
    def _frames(fresh: Callable[[], FocalStack]) -> Iterator[Plane]:
        for sweep in itertools.count(1):
            stack = fresh()
            for plane in stack.planes:
                yield replace(plane, stamp_ns=plane.stamp_ns + sweep * 10**10)


class TimedDFV:
    """DFV as PyTorch runs it, with random weights: only the network's call, up to the depth."""

    def __init__(self, place: ComputeConfig) -> None:
        self.name = DFV_NAME
        self.weights = 'random'
        self.about = 'network call alone, as PyTorch runs it'
        self._device = place.torch_device
        # On a CPU it is taken as published unless somebody asks for something else.
        self._dtype = resolve_precision(place.precision, self._device)
        if self._device.type == 'cpu' and place.precision == 'auto':
            self._dtype = torch.float32
        self.precision = _FORMATS[self._dtype]
        torch.manual_seed(0)
        self._network = DFV().eval().to(self._device)
        self.parameters = sum(p.numel() for p in self._network.parameters())

    def run(self, stack: FocalStack) -> TimingSample:
        """Normalise the images, run the network and fetch the depth."""
        images = np.stack([plane.image for plane in stack.planes])
        stages: dict[str, float] = {}
        synchronize(self._device)
        with torch.inference_mode():
            began = time.perf_counter()
            tensor = images_to_tensor(images, self._device)
            height, width = tensor.shape[-2:]
            padded = torch.nn.functional.pad(
                normalize_imagenet(tensor), (0, -width % 32, 0, -height % 32), mode='reflect'
            )
            focus = torch.from_numpy(stack.focus_dioptres).float().to(self._device)
            synchronize(self._device)
            prepared = time.perf_counter()
            with torch.autocast(
                self._device.type, self._dtype, enabled=self._dtype != torch.float32
            ):
                depth = self._network(padded[None], focus[None])[0]
            depth.float().cpu()
            ended = time.perf_counter()
        stages['prepare'] = (prepared - began) * 1e3
        stages['network'] = (ended - prepared) * 1e3
        return TimingSample((ended - began) * 1e3, stages)


class TimedClassical:
    """A focus measure and its refined peak, always on the CPU."""

    weights = 'none'
    precision = 'fp32'
    parameters = 0

    def __init__(self, measure: str) -> None:
        self.name = measure
        self.about = 'focus measure and peak, on the CPU'

    def run(self, stack: FocalStack) -> TimingSample:
        """Measure the focus of each plane and find the peak."""
        images = np.stack([plane.image for plane in stack.planes])
        began = time.perf_counter()
        classical_inverse_depth(images, stack.focus_dioptres, self.name)
        return TimingSample((time.perf_counter() - began) * 1e3, {})


def unshipped_configurations() -> list[str]:
    """Return the configurations that no shipped model has."""
    shipped = shipped_models()
    trained = [load_model(name).network.config for name in shipped]
    return [
        name
        for name, config in CONFIGURATIONS.items()
        if name not in shipped and config not in trained
    ]


@contextmanager
def _file_of(model: str) -> Iterator[str]:
    """Return what the estimator is to load: weights made up for a configuration, or the name."""
    if model not in unshipped_configurations():
        yield model
        return
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory(prefix='dualfocus-benchmark-') as folder:
        path = Path(folder) / f'{model}.safetensors'
        save_model(path, DualFocus(CONFIGURATIONS[model]).eval())
        yield str(path)
