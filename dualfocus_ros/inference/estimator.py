# SPDX-License-Identifier: Apache-2.0
"""A focal stack in; depth, sigma, confidence, all-in-focus image and points out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
import math
import time

import numpy as np
import torch
from torch import Tensor

from dualfocus_ros.camera.field_curvature import field_curvature_map
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import ViewMapping
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.inference.cuda_graphs import CudaGraphCache
from dualfocus_ros.inference.decimation import PlaneDecimator
from dualfocus_ros.inference.depth_filters import flying_pixels, out_of_sweep_masks
from dualfocus_ros.inference.device import (
    default_threads,
    describe_device,
    resolve_device,
    resolve_precision,
)
from dualfocus_ros.inference.device_transfer import DeviceTransfer
from dualfocus_ros.inference.exposure import inflate_sigma_where_overexposed, is_saturated
from dualfocus_ros.inference.malloc import disable_malloc_trim, trim_malloc
from dualfocus_ros.inference.plane_cache import EncodedPlane, PlaneCache
from dualfocus_ros.inference.point_cloud import back_project, decimate_stride, decimate_voxel
from dualfocus_ros.inference.preparation import (
    AnalysisCache,
    ReferenceView,
    StackAnalysis,
    analyze_stack,
    prepare_one,
    resample_stack,
)
from dualfocus_ros.inference.resampling import to_tensor
from dualfocus_ros.inference.result import DepthResult, OutputRequest
from dualfocus_ros.inference.settings import EstimatorSettings
from dualfocus_ros.models.batch_norm_folding import fold_batch_norm
from dualfocus_ros.models.dualfocus import Prediction
from dualfocus_ros.models.encoders import PlaneFeatures
from dualfocus_ros.models.weights import load_model

_LEAST_DIOPTRES = 1e-6


class DepthEstimator:
    """Owns the network and its device. Not thread-safe: one thread calls it.

    :param model: a shipped name, ``auto`` or the path of a ``.safetensors`` file.
    :param device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
    :param precision: ``auto``, ``fp32``, ``fp16`` or ``bf16``; the projection and the
        expectation always run in fp32.
    :param threads: CPU threads; 0 takes all processors but one.
    :param cuda_graphs: whether a GPU gets the network in one piece, see
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
        self._dtype = resolve_precision(precision, self._device)
        if self._device.type == 'cpu':
            torch.set_num_threads(threads or default_threads())
            disable_malloc_trim()
        # Asked now: of a GPU that is lost even this question may fail.
        self._device_name = describe_device(self._device)
        loaded = load_model(model)
        self.model_name = loaded.name
        self.sha256 = loaded.sha256
        network = fold_batch_norm(loaded.network)
        self._network = network.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._transfer = DeviceTransfer(self._device)
        self._calls = CudaGraphCache(cuda_graphs and self._device.type == 'cuda')
        self._store: PlaneCache[EncodedPlane] = PlaneCache()
        self._seen = AnalysisCache()
        self._decimation = PlaneDecimator()
        self._reference: ReferenceView | None = None
        self._bow: tuple[tuple[object, ...], Tensor] | None = None

    @property
    def device_name(self) -> str:
        """The device, in words."""
        return self._device_name

    @property
    def device_memory(self) -> int:
        """Bytes of device memory held by this process; 0 on a CPU."""
        if self._device.type == 'cuda':
            return int(torch.cuda.memory_reserved(self._device))
        return 0

    @property
    def uses_graphs(self) -> bool:
        """Whether the network was captured in CUDA graphs."""
        return len(self._calls) > 0

    def warm_up(self, planes: int = 5, height: int = 480, width: int = 640) -> float:
        """Run once on blank images so that the first stack is not the slow one; return seconds."""
        began = time.monotonic()
        rng = np.random.default_rng(0)
        blank = tuple(
            Plane(rng.integers(0, 255, (height, width, 3), dtype=np.uint8), 0.2 + 0.2 * n)
            for n in range(planes)
        )
        self.estimate(
            FocalStack(blank), OutputRequest(sigma=True, confidence=True, all_in_focus=True)
        )
        # The blank images foretell nothing, neither geometry nor brightness.
        self._reference = None
        self._seen.clear()
        return time.monotonic() - began

    def clear_caches(self) -> None:
        """Give back all memory but that of the network: planes that were encoded ahead, caches."""
        self._store.clear()
        self._seen.clear()
        self._decimation.clear()
        self._calls.clear()
        self._bow = None
        if self._device.type == 'cuda':
            torch.cuda.empty_cache()
        trim_malloc()

    def release(self) -> None:
        """Give the network's memory back; the estimator cannot be used afterwards."""
        del self._network
        self.clear_caches()

    def estimate(self, stack: FocalStack, outputs: OutputRequest = OutputRequest()) -> DepthResult:
        """Estimate metric depth in the geometry of the stack's reference plane.

        With ``decimation`` everything is in the pixels of the shrunk reference plane.

        Invalid pixels follow REP 117: NaN where nothing is known, -inf nearer than
        ``depth_min``, +inf farther than ``depth_max``; so also beyond the planes on a side where
        the sweep lost its last ones.
        """
        settings = self.settings
        stages: dict[str, float] = {}
        wants_sigma = outputs.sigma or outputs.confidence or settings.max_sigma > 0.0
        if settings.decimation > 1:
            with _timed(stages, 'decimate'):
                stack = self._decimation.stack(stack, settings.decimation)
        # The network wants its planes from far to near.
        order = np.argsort(stack.focus_dioptres, kind='stable')
        focus = stack.focus_dioptres[order]
        with torch.inference_mode():
            with _timed(stages, 'survey'):
                found = analyze_stack(stack, settings, self._seen)
            camera = found.camera
            kept = self._kept(stack, found)
            with _timed(stages, 'prepare'):
                fresh = [
                    None if plane else to_tensor(self._transfer.upload(source.image))
                    for plane, source in zip(kept, stack.planes, strict=True)
                ]
                prepared = resample_stack(fresh, found, self._device, with_overexposed=wants_sigma)
            with _timed(stages, 'encode'):
                planes = [
                    plane or self._encode(image, float(gain))
                    for plane, image, gain in zip(kept, prepared.images, found.gains, strict=True)
                ]
            self._keep(stack, found, planes)
            with _timed(stages, 'decode'):
                prediction = self._decode([planes[n] for n in order], focus, wants_sigma)
                prediction = self._flattened(prediction, camera)
                images = [planes[n].image for n in order]
                del planes, kept
                if wants_sigma:
                    prediction = _no_better_than_the_optics(prediction, settings)
                    burnt = prepared.burnt
                    prediction = inflate_sigma_where_overexposed(
                        prediction, None if burnt is None else burnt[order]
                    )
            with _timed(stages, 'depth'):
                beyond = out_of_sweep_masks(prediction.probability[0], focus, stack.truncated_ends)
                depth = _metric(prediction, settings, beyond, prepared.seen, wants_sigma)
            sigma = confidence = all_in_focus = points = decimated = None
            if outputs.sigma:
                with _timed(stages, 'sigma'):
                    sigma = torch.where(_finite(depth), _metric_sigma(prediction), math.nan)
            if outputs.confidence:
                with _timed(stages, 'confidence'):
                    unknown = depth.isnan()
                    if beyond is not None:
                        unknown |= beyond[0] | beyond[1]
                    confidence = _confidence(prediction, focus).masked_fill(unknown, 0)
            clouds = (outputs.points or outputs.points_decimated) and camera is not None
            if outputs.all_in_focus or (clouds and settings.points_color):
                with _timed(stages, 'colour'):
                    all_in_focus = _all_in_focus(images, prediction.probability[0])
            if clouds and camera is not None:
                with _timed(stages, 'points'):
                    colour = all_in_focus if settings.points_color else None
                    points = back_project(depth, camera, colour)
                    if outputs.points_decimated:
                        decimated = _decimated(points, settings)
            aligned = probability = None
            if outputs.planes:
                with _timed(stages, 'planes'):
                    given = np.argsort(order)
                    aligned = torch.stack([_to_picture(images[n]) for n in given])
                    probability = prediction.probability[0][given.tolist()].float()
            with _timed(stages, 'download'):
                host = self._transfer.download(
                    [
                        depth,
                        sigma,
                        confidence,
                        all_in_focus if outputs.all_in_focus else None,
                        points if outputs.points else None,
                        decimated,
                        aligned,
                        probability,
                    ]
                )
            assert host[0] is not None
            return DepthResult(
                depth=host[0],
                focus_dioptres=stack.focus_dioptres,
                reference=stack.reference,
                sigma=host[1],
                confidence=host[2],
                all_in_focus=host[3],
                points=host[4],
                points_decimated=host[5],
                planes=host[6],
                probability=host[7],
                camera=camera,
                saturated=is_saturated(found.clipped),
                alignment=found.motion and found.motion.at_full_size(1.0 / settings.decimation),
                gains=found.gains,
                stage_ms=stages,
            )

    def prefetch(self, plane: Plane) -> bool:
        """Prepare and encode a plane whose stack is not complete yet.

        In the geometry of the stack before: where the next one turns out to have another, or its
        planes have moved, the plane is simply encoded again.

        :returns: whether it was; not before the first stack, nor where there is no room.
        """
        reference, settings = self._reference, self.settings
        if reference is None:
            return False
        plane = self._decimation.plane(plane, settings.decimation)
        if plane.image.shape[:2] != (reference.output.height, reference.output.width):
            return False
        mapping = ViewMapping(reference.view(plane, settings), reference.output)
        if self._store.find(plane.image, mapping) is not None:
            return True
        gain = self._seen.gains.at(plane.focus_dioptres) if settings.normalise_exposure else 1.0
        with torch.inference_mode():
            image = prepare_one(to_tensor(self._transfer.upload(plane.image)), mapping, gain)
            kept = self._store.add(plane.image, mapping, self._encode(image, gain))
        # Last, on the processor, while a GPU is still at work.
        self._seen.foresee(plane, mapping, settings)
        return kept

    def _kept(self, stack: FocalStack, found: StackAnalysis) -> list[EncodedPlane | None]:
        """Return the planes that were encoded before, as they are still needed."""
        kept: list[EncodedPlane | None] = []
        for index, plane in enumerate(stack.planes):
            mapping = found.static_mapping(index)
            known = None if mapping is None else self._store.find(plane.image, mapping)
            same = known is not None and known.gain == found.gains[index]
            kept.append(known if same else None)
        return kept

    def _keep(self, stack: FocalStack, found: StackAnalysis, planes: list[EncodedPlane]) -> None:
        """Leave to the next stack what it may share with this one."""
        self._reference = found.reference
        for index, (source, plane) in enumerate(zip(stack.planes, planes, strict=True)):
            mapping = found.static_mapping(index)
            if mapping is not None and self._store.find(source.image, mapping) is not plane:
                self._store.add(source.image, mapping, plane)
        self._store.finish([plane.image for plane in stack.planes])
        self._seen.finish(stack)

    def _encode(self, image: Tensor | None, gain: float) -> EncodedPlane:
        """Encode a prepared plane, (3, H, W)."""
        assert image is not None

        def encode(tensors: Sequence[Tensor]) -> PlaneFeatures:
            with self._autocast():
                return self._network.encode(tensors[0])

        return EncodedPlane(image, gain, self._calls.run('encode', encode, [image[None]]))

    def _decode(
        self, planes: Sequence[EncodedPlane], focus: np.ndarray, with_sigma: bool
    ) -> Prediction:
        """Decode planes that are in ascending order of their focus in dioptres."""
        features = PlaneFeatures.join([plane.features for plane in planes])
        dioptres = torch.from_numpy(focus).float().to(self._device)
        size = planes[0].image.shape[-2:]

        def decode(tensors: Sequence[Tensor]) -> Prediction:
            far_to_near, *parts = tensors
            with self._autocast():
                return self._network.decode_sorted(
                    features.with_tensors(parts), far_to_near, size, with_sigma
                )

        name = 'decode', size, with_sigma
        return self._calls.run(name, decode, [dioptres[None], *features.tensors])

    def _flattened(self, prediction: Prediction, camera: PinholeCamera | None) -> Prediction:
        """Take the field curvature of the lens out of the inverse depth."""
        coefficients = self.settings.field_curvature
        if not any(coefficients):
            return prediction
        height, width = prediction.dioptres.shape[-2:]
        centre = None if camera is None else (camera.cx, camera.cy)
        made_for = height, width, coefficients, centre
        if self._bow is None or self._bow[0] != made_for:
            bow = torch.from_numpy(field_curvature_map(height, width, coefficients, centre))
            self._bow = made_for, bow.to(self._device)
        return replace(prediction, dioptres=prediction.dioptres + self._bow[1])

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self._device.type, dtype=self._dtype, enabled=self._dtype != torch.float32
        )


def _no_better_than_the_optics(prediction: Prediction, settings: EstimatorSettings) -> Prediction:
    """Raise sigma to what the lens allows.

    The larger of the two, not their sum: what the network says of its errors holds the optics'
    share already for the lenses that it was trained on.
    """
    floor = settings.sigma_floor
    if floor == 0.0:
        return prediction
    return replace(prediction, sigma=prediction.sigma.clamp_min(floor))


def _metric(
    prediction: Prediction,
    settings: EstimatorSettings,
    beyond: tuple[Tensor, Tensor] | None,
    seen: Tensor | None,
    with_sigma: bool,
) -> Tensor:
    """Return depth in metres, (H, W), with REP 117's special values.

    :param beyond: the pixels beyond the far and the near end of a sweep that lost planes there.
    :param seen: the pixels that all cameras saw; None for all pixels.
    """
    # Planes beyond infinity (a lens driven past its stop) make inverse depths below zero.
    dioptres = prediction.dioptres[0].clamp_min(_LEAST_DIOPTRES)
    depth = 1.0 / dioptres
    # The sum is finite only where both are.
    known = prediction.dioptres + prediction.sigma if with_sigma else prediction.dioptres
    invalid = ~_finite(known[0])
    nearer, farther = depth < settings.depth_min, depth > settings.depth_max
    if beyond is not None:
        farther, nearer = farther | beyond[0], nearer | beyond[1]
    if settings.max_sigma > 0.0:
        invalid |= (_metric_sigma(prediction) > settings.max_sigma) & ~nearer & ~farther
    if settings.edge_filter > 0.0:
        invalid |= flying_pixels(dioptres, settings.edge_filter)
    if seen is not None:
        invalid |= ~seen
    # On a CPU where() takes half the time of masked_fill().
    depth = torch.where(nearer, -math.inf, depth)
    depth = torch.where(farther, math.inf, depth)
    return torch.where(invalid, math.nan, depth)


def _finite(values: Tensor) -> Tensor:
    """Return what isfinite() does, in a third of its time on a CPU."""
    return values.abs() < math.inf


def _metric_sigma(prediction: Prediction) -> Tensor:
    """Return sigma_z = z^2 sigma_q in metres, the first-order propagation through z = 1 / q."""
    return prediction.sigma[0] / prediction.dioptres[0].clamp_min(_LEAST_DIOPTRES).square()


def _decimated(points: Tensor, settings: EstimatorSettings) -> Tensor:
    if settings.points_voxel_size > 0.0:
        return decimate_voxel(points, settings.points_voxel_size)
    return decimate_stride(points, settings.points_decimation)


def _confidence(prediction: Prediction, focus: np.ndarray) -> Tensor:
    """Return uint8 (H, W): 255 times the probability of an error below half a plane spacing."""
    half_spacing = 0.5 * float(focus.max() - focus.min()) / (len(focus) - 1)
    probability = torch.erf(half_spacing / (math.sqrt(2.0) * prediction.sigma[0]))
    return (probability.nan_to_num(0.0) * 255.0).round().to(torch.uint8)


def _all_in_focus(images: Sequence[Tensor], probability: Tensor) -> Tensor:
    """Return uint8 (H, W, 3): planes weighted by their focus probability, sum p_n I_n."""
    blended = images[0] * probability[0]
    for image, weight in zip(images[1:], probability[1:], strict=True):
        blended.addcmul_(image, weight[None])
    return _to_picture(blended)


def _to_picture(image: Tensor) -> Tensor:
    """Return a (3, H, W) image of 0 to 1 as uint8 (H, W, 3)."""
    return (image.permute(1, 2, 0) * 255.0 + 0.5).clamp(0.0, 255.0).to(torch.uint8)


@contextmanager
def _timed(stages: dict[str, float], name: str) -> Iterator[None]:
    """Record the milliseconds of a stage; on a GPU of its launch, except where it waits."""
    began = time.monotonic()
    yield
    stages[name] = (time.monotonic() - began) * 1e3
