# SPDX-License-Identifier: Apache-2.0
"""A focal stack in; depth, sigma, confidence, all-in-focus image and points out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import math
import time

import numpy as np
import torch
from torch import Tensor

from dualfocus_ros.network.fuse import fuse
from dualfocus_ros.network.model import Prediction
from dualfocus_ros.network.weights import load_model
from dualfocus_ros.optics.camera import PinholeCamera
from dualfocus_ros.pipeline.device import (
    default_threads,
    describe,
    resolve_device,
    resolve_precision,
)
from dualfocus_ros.pipeline.filters import flying_pixels, seen_by_all
from dualfocus_ros.pipeline.geometry import breathing_positions, resample_planes, to_tensor
from dualfocus_ros.pipeline.points import back_project, decimate_stride, decimate_voxel
from dualfocus_ros.pipeline.result import DepthResult, Outputs
from dualfocus_ros.pipeline.settings import PipelineSettings
from dualfocus_ros.stacks.types import FocalStack, Plane

# A stack is called saturated when this share of a plane's pixels is clipped to white.
SATURATED_SHARE = 0.02
SATURATED_LEVEL = 254
_LEAST_DIOPTRES = 1e-6


class DepthEstimator:
    """Owns the network and its device. Not thread-safe: one thread calls it.

    :param model: a shipped name, ``auto`` or the path of a ``.safetensors`` file.
    :param device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    :param precision: ``auto``, ``fp32``, ``fp16`` or ``bf16``; the projection and the
        expectation always run in fp32.
    :param threads: CPU threads; 0 takes all processors but one.
    :raises WeightsError, DeviceError: both ValueError, with a text that says what to do.
    """

    def __init__(
        self,
        model: str = 'auto',
        device: str = 'auto',
        precision: str = 'auto',
        threads: int = 0,
        settings: PipelineSettings | None = None,
    ) -> None:
        self.settings = settings or PipelineSettings()
        self._device = resolve_device(device)
        self._dtype = resolve_precision(precision, self._device)
        if self._device.type == 'cpu':
            torch.set_num_threads(threads or default_threads())
        loaded = load_model(model)
        self.model_name = loaded.name
        self.sha256 = loaded.sha256
        network = fuse(loaded.network)
        self._network = network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def device_name(self) -> str:
        """The device, in words."""
        return describe(self._device)

    @property
    def device_memory(self) -> int:
        """Bytes of device memory held by this process; 0 on a CPU."""
        if self._device.type == 'cuda':
            return int(torch.cuda.memory_reserved(self._device))
        return 0

    def warm_up(self, planes: int = 5, height: int = 480, width: int = 640) -> float:
        """Run once on blank images so that the first stack is not the slow one; return seconds."""
        began = time.monotonic()
        rng = np.random.default_rng(0)
        blank = tuple(
            Plane(rng.integers(0, 255, (height, width, 3), dtype=np.uint8), 0.2 + 0.2 * n)
            for n in range(planes)
        )
        self.estimate(FocalStack(blank), Outputs(sigma=True, confidence=True, all_in_focus=True))
        return time.monotonic() - began

    def release(self) -> None:
        """Give the network's memory back; the estimator cannot be used afterwards."""
        del self._network
        if self._device.type == 'cuda':
            torch.cuda.empty_cache()

    def estimate(self, stack: FocalStack, outputs: Outputs = Outputs()) -> DepthResult:
        """Estimate metric depth in the geometry of the stack's reference plane.

        Invalid pixels follow REP 117: NaN where nothing is known, -inf nearer than
        ``depth_min``, +inf farther than ``depth_max``.
        """
        settings = self.settings
        stages: dict[str, float] = {}
        focus = stack.focus_dioptres
        reference = stack.reference
        camera = self._reference_camera(stack)
        with torch.inference_mode():
            with _timed(stages, 'upload', self._device):
                images = to_tensor([plane.image for plane in stack.planes], self._device)
            with _timed(stages, 'align', self._device):
                scales = [settings.image_scale(float(q)) for q in focus]
                positions = breathing_positions(
                    stack.size, scales, reference, camera, self._device
                )
                images = resample_planes(images, positions)
                seen = seen_by_all([p.valid for p in stack.planes], positions, self._device)
            wants_sigma = outputs.sigma or outputs.confidence or settings.max_sigma > 0.0
            with _timed(stages, 'network', self._device):
                prediction = self._predict(images, focus, wants_sigma)
            with _timed(stages, 'depth', self._device):
                depth = _metric(prediction, settings, seen, wants_sigma)
            sigma = confidence = all_in_focus = points = decimated = None
            if outputs.sigma:
                with _timed(stages, 'sigma', self._device):
                    sigma = _metric_sigma(prediction).masked_fill(~depth.isfinite(), math.nan)
            if outputs.confidence:
                with _timed(stages, 'confidence', self._device):
                    confidence = _confidence(prediction, focus).masked_fill(depth.isnan(), 0)
            clouds = (outputs.points or outputs.points_decimated) and camera is not None
            if outputs.all_in_focus or (clouds and settings.points_color):
                with _timed(stages, 'colour', self._device):
                    all_in_focus = _all_in_focus(images, prediction.probability[0])
            if clouds and camera is not None:
                with _timed(stages, 'points', self._device):
                    colour = all_in_focus if settings.points_color else None
                    points = back_project(depth, camera, colour)
                    if outputs.points_decimated:
                        decimated = _decimated(points, settings)
            with _timed(stages, 'download', self._device):
                return DepthResult(
                    depth=depth.cpu().numpy(),
                    focus_dioptres=focus,
                    reference=reference,
                    sigma=_host(sigma),
                    confidence=_host(confidence),
                    all_in_focus=_host(all_in_focus) if outputs.all_in_focus else None,
                    points=_host(points) if outputs.points else None,
                    points_decimated=_host(decimated),
                    camera=camera,
                    saturated=_saturated(stack),
                    stage_ms=stages,
                )

    def _reference_camera(self, stack: FocalStack) -> PinholeCamera | None:
        plane = stack.planes[stack.reference]
        if plane.camera is not None:
            return plane.camera
        # Another plane's intrinsics, scaled to the reference focus, are the next best thing.
        scale = self.settings.image_scale
        for other in stack.planes:
            if other.camera is not None:
                ratio = scale(plane.focus_dioptres) / scale(other.focus_dioptres)
                return other.camera.magnified(ratio)
        return None

    def _predict(self, images: Tensor, focus: np.ndarray, with_sigma: bool) -> Prediction:
        dioptres = torch.from_numpy(focus).float().to(self._device)
        with torch.autocast(
            self._device.type, dtype=self._dtype, enabled=self._dtype != torch.float32
        ):
            prediction: Prediction = self._network(images[None], dioptres[None], with_sigma)
        return prediction


def _metric(
    prediction: Prediction, settings: PipelineSettings, seen: Tensor | None, with_sigma: bool
) -> Tensor:
    """Return depth in metres, (H, W), with REP 117's special values.

    :param seen: the pixels that all cameras saw; None for all pixels.
    """
    # Planes beyond infinity (a lens driven past its stop) make inverse depths below zero.
    dioptres = prediction.dioptres[0].clamp_min(_LEAST_DIOPTRES)
    depth = 1.0 / dioptres
    invalid = ~torch.isfinite(dioptres)
    nearer, farther = depth < settings.depth_min, depth > settings.depth_max
    if with_sigma:
        sigma = _metric_sigma(prediction)
        invalid |= ~torch.isfinite(sigma)
        if settings.max_sigma > 0.0:
            invalid |= (sigma > settings.max_sigma) & ~nearer & ~farther
    if settings.edge_filter > 0.0:
        invalid |= flying_pixels(dioptres, settings.edge_filter)
    if seen is not None:
        invalid |= ~seen
    depth = depth.masked_fill(nearer, -math.inf).masked_fill(farther, math.inf)
    return depth.masked_fill(invalid, math.nan)


def _metric_sigma(prediction: Prediction) -> Tensor:
    """Return sigma_z = z^2 sigma_q in metres, the first-order propagation through z = 1 / q."""
    return prediction.sigma[0] / prediction.dioptres[0].clamp_min(_LEAST_DIOPTRES).square()


def _decimated(points: Tensor, settings: PipelineSettings) -> Tensor:
    if settings.points_voxel_size > 0.0:
        return decimate_voxel(points, settings.points_voxel_size)
    return decimate_stride(points, settings.points_decimation)


def _host(values: Tensor | None) -> np.ndarray | None:
    return None if values is None else values.cpu().numpy()


def _confidence(prediction: Prediction, focus: np.ndarray) -> Tensor:
    """Return uint8 (H, W): 255 times the probability of an error below half a plane spacing."""
    half_spacing = 0.5 * float(focus.max() - focus.min()) / (len(focus) - 1)
    probability = torch.erf(half_spacing / (math.sqrt(2.0) * prediction.sigma[0]))
    return (probability.nan_to_num(0.0) * 255.0).round().to(torch.uint8)


def _all_in_focus(images: Tensor, probability: Tensor) -> Tensor:
    """Return uint8 (H, W, 3): planes weighted by their focus probability, sum p_n I_n."""
    blended = (images * probability[:, None].to(images.dtype)).sum(dim=0)
    return (blended.permute(1, 2, 0) * 255.0 + 0.5).clamp(0.0, 255.0).to(torch.uint8)


def _saturated(stack: FocalStack) -> bool:
    """Tell from a sparse grid of pixels whether a plane has too much clipped white."""
    return any(
        float((plane.image[::8, ::8] >= SATURATED_LEVEL).mean()) > SATURATED_SHARE
        for plane in stack.planes
    )


@contextmanager
def _timed(stages: dict[str, float], name: str, device: torch.device) -> Iterator[None]:
    """Record the milliseconds of a stage; on a GPU of its launch, except where it waits."""
    began = time.monotonic()
    yield
    stages[name] = (time.monotonic() - began) * 1e3
