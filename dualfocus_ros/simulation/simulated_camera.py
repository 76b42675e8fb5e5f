# SPDX-License-Identifier: Apache-2.0
"""Simulated camera: thin lens, defocus, focus breathing, focus actuator and sensor."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
import math

import cv2
import numpy as np
import torch

from dualfocus_ros.camera.field_curvature import check_coefficients, field_curvature_map
from dualfocus_ros.camera.lens_state import LensReading, PlaneTarget
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.simulation.defocus import LayeredScene, layer_scene, render
from dualfocus_ros.simulation.depth_resampling import fill_holes, resample_depth
from dualfocus_ros.simulation.lens_motion import LensMotion
from dualfocus_ros.simulation.psf import Aperture
from dualfocus_ros.simulation.ray_casting import SceneImage
from dualfocus_ros.simulation.sensor import Sensor

# Largest distance between slices, in pixels of blur diameter.
_SLICE_BLUR = 1.5
_MIN_LAYERS, _MAX_LAYERS = 8, 32
# Largest distance between blended images of a moving lens, in pixels of blur diameter.
_BLEND_BLUR = 5.0
# Smallest distance between blended images, in dioptres.
_MIN_BLEND_DISTANCE = 1e-6


@dataclass(frozen=True)
class SimulatedCameraSettings:
    """Settings of lens motion, noise and rendering.

    :param far_limit: farthest focus in dioptres, 0 for infinity; ``near_limit``: the nearest.
    :param settling_time: seconds until 98 % of a focus step are done.
    :param latency: seconds from a command to the start of the movement.
    :param field_curvature: c2, c4 in 1/m of :mod:`dualfocus_ros.camera.field_curvature`.
    :param breathing: whether the image scale follows the focus, in proportion to v(s).
    :param noise: factor on shot and read noise; 0 for none.
    :param exposure_breathing: whether the image darkens as the lens extends to focus near, by
        (F / v)^2 = 1 / (1 + m)^2 at magnification m.
    :param exposure_jitter: standard deviation of a random factor on the light of each frame, in
        natural logarithms: residual of automatic exposure.
    :param jitter: standard deviation in pixels of a random shift of each frame, per axis.
    :param seed: seed of noise and jitter.
    :param device: device for rendering, ``cpu`` or ``cuda``.
    :param cache_bytes: memory limit of the cache of rendered images.
    :raises ValueError: for a value out of range.
    """

    far_limit: float = 0.0
    near_limit: float = 2.5
    settling_time: float = 0.12
    latency: float = 0.02
    field_curvature: tuple[float, ...] = (0.0, 0.0)
    breathing: bool = True
    noise: float = 1.0
    exposure_breathing: bool = False
    exposure_jitter: float = 0.0
    jitter: float = 0.0
    seed: int = 0
    device: str = 'cpu'
    cache_bytes: int = 256 << 20

    def __post_init__(self) -> None:
        if not 0.0 <= self.far_limit < self.near_limit:
            raise ValueError(
                'focus limits must be 0 <= far < near dioptres, '
                f'got far={self.far_limit}, near={self.near_limit}'
            )
        if not 0.0 <= self.jitter <= 20.0:
            raise ValueError(f'jitter must be 0 to 20 pixels, got {self.jitter}')
        if not 0.0 <= self.exposure_jitter <= 1.0:
            raise ValueError(f'exposure_jitter must be 0 to 1, got {self.exposure_jitter}')
        try:
            check_coefficients(self.field_curvature)
        except ValueError as error:
            raise ValueError(f'field_curvature: {error}') from None


@dataclass(frozen=True, eq=False)
class SimulatedFrame:
    """One exposure of the simulated camera.

    :param image: (H, W, 3) uint8 sRGB.
    :param camera: intrinsics at this focus.
    :param lens: position and state of the lens, and the plane of its command.
    :param rendered_dioptres: focus of the image's geometry and blur; for a moving lens up to a
        quarter of a pixel of blur diameter from its position.
    :param shift: x, y shift of the content by jitter, in pixels.
    """

    image: np.ndarray
    camera: PinholeCamera
    lens: LensReading
    rendered_dioptres: float
    shift: tuple[float, float] = (0.0, 0.0)


class SimulatedCamera:
    """Simulated camera with a focus actuator; not thread-safe.

    Blur is rendered in the geometry of infinity focus, which has the widest view and where kappa
    is constant; the result is then scaled about the principal point by v(s) / F.

    :param scene: pinhole image and depth at infinity focus; depth may have NaN holes.
    :param lens: thin lens; F / pixel_pitch must be the scene's focal length in pixels.
    :raises ValueError: if lens and scene do not match, or the lens cannot focus at the near limit.
    """

    def __init__(
        self, scene: SceneImage, lens: Lens, settings: SimulatedCameraSettings | None = None
    ) -> None:
        self.settings = settings or SimulatedCameraSettings()
        expected = lens.focal_length_px(0.0)
        if abs(scene.camera.fx / expected - 1.0) > 1e-3:
            raise ValueError(
                f'the scene has fx = {scene.camera.fx:.1f} px, but a lens of '
                f'{lens.focal_length * 1e3:.2f} mm on {lens.pixel_pitch * 1e6:.3f} um pixels has '
                f'{expected:.1f} px'
            )
        lens.image_distance(self.settings.near_limit)
        self.lens = lens
        self.scene = scene
        self._kappa = lens.kappa(0.0)
        self._layered = self._layer_scene()
        start = PlaneTarget(0.5 * (self.settings.far_limit + self.settings.near_limit))
        self._motion = LensMotion(
            start, settling_time=self.settings.settling_time, latency=self.settings.latency
        )
        self._sensor = Sensor(
            scene.depth.size * 3, noise=self.settings.noise, seed=self.settings.seed
        )
        self._rng = np.random.default_rng([self.settings.seed, 1])
        self._exposure_rng = np.random.default_rng([self.settings.seed, 2])
        self._aperture = Aperture('disc')
        self._codes = _ImageCache(self.settings.cache_bytes)
        self._depths = _ImageCache(self.settings.cache_bytes // 2)

    def _layer_scene(self) -> LayeredScene:
        """Slice the scene by the focus in dioptres at which each pixel is sharp."""
        inverse = np.asarray(1.0 / fill_holes(self.scene.depth))
        curvature, camera = self.settings.field_curvature, self.scene.camera
        if any(curvature):
            # Neighbouring pixels shift by nearly the same amount: the occlusion order stays.
            inverse = inverse - field_curvature_map(
                camera.height, camera.width, curvature, (camera.cx, camera.cy)
            )
        low, high = float(inverse.min()), float(inverse.max())
        reach = max(high - self.settings.far_limit, self.settings.near_limit - low)
        layers = math.ceil(self._kappa * (high - low) / _SLICE_BLUR) + 1
        device = torch.device(self.settings.device)
        return layer_scene(
            torch.from_numpy(self.scene.colour).to(device),
            torch.from_numpy(inverse).to(device),
            layers=min(max(layers, _MIN_LAYERS), _MAX_LAYERS),
            max_radius=0.5 * self._kappa * max(reach, 0.0) + 0.1,
        )

    def command(self, target: PlaneTarget, time: float) -> PlaneTarget:
        """Send the lens to a focus at ``time`` seconds; return the target within the limits.

        :raises ValueError: for a focus that is not finite.
        """
        if not math.isfinite(target.dioptres):
            raise ValueError(f'focus must be a finite number of dioptres, got {target.dioptres}')
        target = replace(target, dioptres=self._within_limits(target.dioptres))
        self._motion.command(target, time)
        return target

    def _within_limits(self, focus: float) -> float:
        return min(max(focus, self.settings.far_limit), self.settings.near_limit)

    def capture(self, time: float) -> SimulatedFrame:
        """Return a frame exposed at ``time`` seconds."""
        reading = self._motion.at(time)
        rendered = reading.dioptres
        codes = self._blend(rendered) if reading.moving else self._render(rendered)
        if codes is None:
            step = 0.5 / self._kappa
            rendered = self._within_limits(round(rendered / step) * step)
            codes = self._render(rendered)
        shift = (0.0, 0.0)
        if self.settings.jitter > 0.0:
            x, y = self._rng.normal(0.0, self.settings.jitter, 2)
            shift = (float(x), float(y))
            codes = _scale_and_shift(codes, 1.0, (0.0, 0.0), shift)
        if self.settings.exposure_jitter > 0.0:
            # Codes are proportional to the square root of the light.
            log_factor = 0.5 * self._exposure_rng.normal(0.0, self.settings.exposure_jitter)
            # Not cv2.multiply: by a number, before OpenCV 4.11, it only changes one channel.
            codes = cv2.addWeighted(codes, math.exp(log_factor), codes, 0.0, 0.0)
        return SimulatedFrame(
            self._sensor.expose(codes),
            self.scene.camera.magnified(self._magnification(rendered)),
            reading,
            rendered,
            shift,
        )

    def depth(self, frame: SimulatedFrame) -> np.ndarray:
        """Return the (H, W) float32 true depth of a frame in metres, NaN where unknown."""
        if frame.lens.moving or frame.shift != (0.0, 0.0):
            return self._resample_depth(frame)
        return self._depths.get(frame.rendered_dioptres, lambda: self._resample_depth(frame))

    def _resample_depth(self, frame: SimulatedFrame) -> np.ndarray:
        camera, scale = self.scene.camera, self._magnification(frame.rendered_dioptres)
        rows = camera.cy + (np.arange(camera.height) - camera.cy - frame.shift[1]) / scale
        columns = camera.cx + (np.arange(camera.width) - camera.cx - frame.shift[0]) / scale
        return resample_depth(self.scene.depth, rows, columns)

    def _magnification(self, focus: float) -> float:
        return self.lens.magnification(focus, 0.0) if self.settings.breathing else 1.0

    def _blend(self, focus: float) -> np.ndarray | None:
        """Return codes interpolated between cached images on both sides; None if too far apart.

        A moving lens passes through both positions during the exposure.
        """
        below = max((f for f in self._codes.keys if f <= focus), default=-math.inf)
        above = min((f for f in self._codes.keys if f >= focus), default=math.inf)
        if (above - below) * self._kappa > _BLEND_BLUR:
            return None
        if above - below < _MIN_BLEND_DISTANCE:
            return self._render(below)
        weight = (focus - below) / (above - below)
        first, second = self._render(below), self._render(above)
        return np.asarray(cv2.addWeighted(first, 1.0 - weight, second, weight, 0.0))

    def _render(self, focus: float) -> np.ndarray:
        """Return the sensor codes at a focus, from the cache if possible."""

        def codes() -> np.ndarray:
            with torch.inference_mode():
                light = render(self._layered, self._kappa, focus, aperture=self._aperture)
            image = np.ascontiguousarray(light.permute(1, 2, 0).cpu().numpy())
            centre = (self.scene.camera.cx, self.scene.camera.cy)
            image = _scale_and_shift(image, self._magnification(focus), centre, (0.0, 0.0))
            if self.settings.exposure_breathing:
                image = image / self.lens.magnification(focus, 0.0) ** 2
            return self._sensor.encode(image)

        return self._codes.get(focus, codes)


class _ImageCache:
    """Cache of images of one size by focus, least recently used out first.

    :param limit: memory limit in bytes; one image is always kept.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._images: OrderedDict[float, np.ndarray] = OrderedDict()

    @property
    def keys(self) -> Collection[float]:
        """The cached focus values."""
        return self._images.keys()

    def get(self, focus: float, compute: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the cached image, or compute and add it."""
        if focus not in self._images:
            image = self._images[focus] = compute()
            while len(self._images) > 1 and len(self._images) * image.nbytes > self._limit:
                self._images.popitem(last=False)
        self._images.move_to_end(focus)
        return self._images[focus]


def _scale_and_shift(
    image: np.ndarray, scale: float, centre: tuple[float, float], shift: tuple[float, float]
) -> np.ndarray:
    """Return the image magnified about ``centre`` and then shifted by ``shift`` pixels."""
    if scale == 1.0 and shift == (0.0, 0.0):
        return image
    # Pixel coordinates of the result to those of the source.
    x, y = (c - (c + s) / scale for c, s in zip(centre, shift))
    matrix = np.array([[1.0 / scale, 0.0, x], [0.0, 1.0 / scale, y]])
    size = (image.shape[1], image.shape[0])
    flags, border = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP, cv2.BORDER_REFLECT_101
    return np.asarray(cv2.warpAffine(image, matrix, size, flags=flags, borderMode=border))
