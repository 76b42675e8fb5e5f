# SPDX-License-Identifier: Apache-2.0
"""Estimation of metric depth from a focal stack."""

from __future__ import annotations

from functools import partial
import time

import numpy as np
import torch

from dualfocus_ros.camera.rectification import source_coordinates
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.inference.device import (
    DeviceTransfer,
    default_threads,
    describe_device,
    disable_malloc_trim,
    resolve_device,
    resolve_precision,
    trim_malloc,
)
from dualfocus_ros.inference.estimator_cache import EstimatorCache
from dualfocus_ros.inference.exposure import is_saturated
from dualfocus_ros.inference.network_runner import EncodedPlane, NetworkRunner
from dualfocus_ros.inference.postprocessing import needs_sigma, postprocess, timed
from dualfocus_ros.inference.result import DepthResult, OutputRequest
from dualfocus_ros.inference.settings import EstimatorSettings
from dualfocus_ros.inference.stack_analysis import StackAnalysis, analyze_stack
from dualfocus_ros.models.weights import load_model


class DepthEstimator:
    """Depth estimator: network, device and caches.

    The result for a stack depends on this stack and on ``settings`` only, not on earlier stacks
    or prefetched planes. Not thread-safe.

    :param model: a shipped name, ``auto`` or the path of a ``.safetensors`` file.
    :param device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    :param precision: ``auto``, ``fp32``, ``fp16`` or ``bf16``; the projection and the
        expectation always run in fp32.
    :param threads: CPU threads; 0 takes all processors but one.
    :param settings: may be replaced between two stacks.
    :param cuda_graphs: whether a GPU launches the network as one graph, see
        :mod:`dualfocus_ros.inference.cuda_graphs`.
    :raises WeightsError, DeviceError: both ValueError, with a text that says what to do.
    """

    def __init__(
        self,
        model: str = 'auto',
        device: str = 'auto',
        precision: str = 'auto',
        threads: int = 0,
        settings: EstimatorSettings | None = None,
        cuda_graphs: bool = True,
    ) -> None:
        self.settings = settings or EstimatorSettings()
        self._device = resolve_device(device)
        dtype = resolve_precision(precision, self._device)
        on_cpu = self._device.type == 'cpu'
        if on_cpu:
            torch.set_num_threads(threads or default_threads())
            disable_malloc_trim()
        # Stored, because a lost GPU may fail to answer.
        self._device_name = describe_device(self._device)
        loaded = load_model(model)
        self.model_name = loaded.name
        self.sha256 = loaded.sha256
        self._transfer = DeviceTransfer(self._device)
        self.network = NetworkRunner(
            loaded.network, self._transfer, dtype, cuda_graphs and not on_cpu
        )
        self._cache = EstimatorCache()

    @property
    def device_name(self) -> str:
        """Readable name of the device."""
        return self._device_name

    @property
    def device_memory(self) -> int:
        """Bytes of device memory held by this process; 0 on a CPU."""
        if self._device.type == 'cuda':
            return int(torch.cuda.memory_reserved(self._device))
        return 0

    @property
    def uses_graphs(self) -> bool:
        """Whether the network is captured in CUDA graphs."""
        return len(self.network.graphs) > 0

    @property
    def cached_planes(self) -> int:
        """Number of encoded planes in the cache."""
        return len(self._cache.encoded)

    def estimate(self, stack: FocalStack, request: OutputRequest = OutputRequest()) -> DepthResult:
        """Estimate metric depth in the geometry of the stack's reference plane.

        With ``decimation``, all outputs are in pixels of the downsampled reference plane.

        Invalid pixels follow REP 117: NaN where depth is unknown, -inf nearer than
        ``depth_min``, +inf farther than ``depth_max``, and likewise beyond the planes on a side
        where the sweep lost its last ones.
        """
        settings, cache, full_size = self.settings, self._cache, stack
        stages: dict[str, float] = {}
        with torch.inference_mode():
            if settings.decimation > 1:
                with timed(stages, 'decimate'):
                    stack = cache.decimate_stack(full_size, settings.decimation)
            with timed(stages, 'analyze'):
                analysis = analyze_stack(stack, settings, cache)
            with timed(stages, 'encode'):
                planes = self._encode(stack, analysis)
                cache.finish(stack, full_size, analysis.reference, analysis.gains)
            with timed(stages, 'decode'):
                with_sigma = needs_sigma(request, settings)
                decoded = self.network.decode(planes, stack.focus_dioptres, with_sigma)
                del planes  # their features are no longer needed
            curvature = cache.field_curvature_map(
                analysis.size, analysis.camera, settings, self._device
            )
            outputs = postprocess(decoded, stack, analysis, curvature, settings, request, stages)
            with timed(stages, 'download'):
                arrays = self._transfer.download(outputs)
        alignment = analysis.alignment
        return DepthResult(
            **arrays,
            focus_dioptres=stack.focus_dioptres,
            reference=stack.reference,
            camera=analysis.camera,
            saturated=is_saturated(analysis.clipped),
            alignment=alignment and alignment.at_full_size(1.0 / settings.decimation),
            gains=analysis.gains,
            stage_ms=stages,
        )

    def prefetch(self, plane: Plane) -> bool:
        """Analyze and encode a plane before its stack is complete.

        Geometry and exposure are predicted from the last stack. The stack encodes the plane again
        if it turns out to need others.

        :returns: whether the plane is encoded; False before the first stack, for a plane of
            another size and in a full cache.
        """
        settings, cache = self.settings, self._cache
        plane = cache.decimate(plane, settings.decimation)
        prediction = cache.predict(plane, settings)
        if prediction is None:
            return False
        mapping, gain = prediction
        if cache.encoded.get(plane.image, prediction) is not None:
            return True
        with torch.inference_mode():
            positions = source_coordinates(mapping.view, mapping.output)
            encode = partial(self.network.encode, plane.image, positions, gain)
            cache.encoded.get_or_compute(plane.image, prediction, encode)
        # On the CPU, while a GPU still computes.
        cache.analyze(plane, mapping, settings)
        cache.register_ahead()
        return cache.encoded.get(plane.image, prediction) is not None

    def warm_up(self, planes: int = 5, height: int = 480, width: int = 640) -> float:
        """Estimate a stack of noise so that the first real one is not slower; return seconds."""
        began = time.monotonic()
        rng = np.random.default_rng(0)
        noise = tuple(
            Plane(rng.integers(0, 255, (height, width, 3), dtype=np.uint8), 0.2 + 0.2 * n)
            for n in range(planes)
        )
        self.estimate(
            FocalStack(noise), OutputRequest(sigma=True, confidence=True, all_in_focus=True)
        )
        self._cache.clear()
        return time.monotonic() - began

    def clear_caches(self) -> None:
        """Free all memory except that of the network."""
        self._cache.clear()
        self.network.graphs.clear()
        if self._device.type == 'cuda':
            torch.cuda.empty_cache()
        trim_malloc()

    def release(self) -> None:
        """Free all memory; the estimator cannot be used afterwards."""
        self.network.release()
        self.clear_caches()

    def _encode(self, stack: FocalStack, analysis: StackAnalysis) -> list[EncodedPlane]:
        """Align and encode the planes that are not in the cache."""
        planes = []
        for index, plane in enumerate(stack.planes):
            gain = float(analysis.gains[index])
            encode = partial(self.network.encode, plane.image, analysis.positions[index], gain)
            if analysis.motion[index] is None:
                key = analysis.mappings[index], gain
                planes.append(self._cache.encoded.get_or_compute(plane.image, key, encode))
            else:
                # Motion is relative to this stack's reference plane: no other stack can share it.
                planes.append(encode())
        return planes
