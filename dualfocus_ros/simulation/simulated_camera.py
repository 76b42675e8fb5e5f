# SPDX-License-Identifier: Apache-2.0
"""A focus-controlled camera made of physics: thin lens, defocus, breathing, actuator, sensor."""

from __future__ import annotations

from collections import OrderedDict
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

# Slices at most this many pixels of blur diameter apart.
_SLICE_BLUR = 1.5
_MIN_LAYERS, _MAX_LAYERS = 8, 32
# While the lens moves, renderings at most this many pixels of blur diameter apart are blended.
_BLEND_BLUR = 5.0
# Positions closer than this, in dioptres, are the same.
_SAME = 1e-6


@dataclass(frozen=True)
class SimulatedCameraSettings:
    """What the thin lens does not say.

    :param far_limit: farthest focus in dioptres, 0 for infinity.
    :param near_limit: nearest focus in dioptres.
    :param settling_time: seconds until 98 % of a focus step are done.
    :param latency: seconds from a command to the start of the movement.
    :param field_curvature: c2, c4 in 1/m of :mod:`dualfocus_ros.camera.field_curvature`.
    :param breathing: whether the image scale follows the focus, as v(s) does.
    :param noise: factor on shot and read noise; 0 for none.
    :param exposure_breathing: whether the image darkens as the lens extends to focus near, by
        (F / v)^2 = 1 / (1 + m)^2 at magnification m.
    :param exposure_jitter: standard deviation of a random factor on the light of each frame, in
        natural logarithms: what automatic exposure leaves.
    :param jitter: standard deviation in pixels of a random shift of each frame, per axis.
    :param seed: of noise and jitter.
    :param device: where defocus is rendered: ``cpu`` or ``cuda``.
    :param cache_bytes: bound on the memory for rendered focus positions.
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
        check_coefficients(self.field_curvature)


@dataclass(frozen=True, eq=False)
class SimulatedFrame:
    """One exposure.

    :param image: (H, W, 3) uint8 sRGB.
    :param camera: intrinsics at this focus.
    :param lens: position and state of the lens, and the plane of its command.
    :param rendered_dioptres: focus of the image's geometry and blur; while the lens moves, up to
        a quarter of a pixel of blur diameter from its position.
    :param shift: x, y in pixels that the content moved by jitter.
    """

    image: np.ndarray
    camera: PinholeCamera
    lens: LensReading
    rendered_dioptres: float
    shift: tuple[float, float] = (0.0, 0.0)


class SimulatedCamera:
    """The simulated camera; not for use from several threads at a time.

    The scene is given as a pinhole image in the geometry of the lens focused at infinity, which
    has the widest view. Blur is rendered there (kappa is then constant) and the result scaled
    about the principal point by v(s) / F.

    :param scene: image and depth at infinity focus; depth may have NaN holes.
    :param lens: thin lens whose F / pixel_pitch is the scene's focal length in pixels.
    :raises ValueError: if lens and scene contradict each other, or the lens cannot focus so near.
    """

    def __init__(
        self, scene: SceneImage, lens: Lens, settings: SimulatedCameraSettings | None = None
    ) -> None:
        self.settings = settings or SimulatedCameraSettings()
        expected = lens.focal_length_px(0.0)
        if abs(scene.camera.fx / expected - 1.0) > 1e-3:
            raise ValueError(
                f'the scene was taken with fx = {scene.camera.fx:.1f} px, but a lens of '
                f'{lens.focal_length * 1e3:.2f} mm on {lens.pixel_pitch * 1e6:.3f} um pixels has '
                f'{expected:.1f} px'
            )
        lens.image_distance(self.settings.near_limit)
        self.lens = lens
        self.scene = scene
        kappa = lens.kappa(0.0)
        self._kappa = kappa
        self._layered = self._layer(self._seen_inverse_depth())
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
        self._exposures: OrderedDict[float, np.ndarray] = OrderedDict()
        self._depths: OrderedDict[float, np.ndarray] = OrderedDict()

    def _seen_inverse_depth(self) -> np.ndarray:
        """Return (H, W) the focus in dioptres at which each pixel is sharp."""
        inverse = np.asarray(1.0 / fill_holes(self.scene.depth))
        curvature, camera = self.settings.field_curvature, self.scene.camera
        if not any(curvature):
            return inverse
        # What hides what does not change: neighbouring pixels are moved alike.
        return inverse - field_curvature_map(
            camera.height, camera.width, curvature, (camera.cx, camera.cy)
        )

    def _layer(self, inverse: np.ndarray) -> LayeredScene:
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
        """Send the lens to a focus at ``time`` seconds; return the target within the limits."""
        if not math.isfinite(target.dioptres):
            raise ValueError(f'focus must be a finite number of dioptres: {target.dioptres}')
        focus = min(max(target.dioptres, self.settings.far_limit), self.settings.near_limit)
        target = replace(target, dioptres=focus)
        self._motion.command(target, time)
        return target

    def capture(self, time: float) -> SimulatedFrame:
        """Expose a frame at ``time`` seconds."""
        reading = self._motion.at(time)
        rendered, codes = reading.dioptres, None
        if reading.moving:
            codes = self._blended(rendered)
        if codes is None:
            if reading.moving:
                step = 0.5 / self._kappa
                rendered = round(rendered / step) * step
                rendered = min(max(rendered, self.settings.far_limit), self.settings.near_limit)
            codes = self._exposure(rendered)
        shift = (0.0, 0.0)
        if self.settings.jitter > 0.0:
            x, y = self._rng.normal(0.0, self.settings.jitter, 2)
            shift = (float(x), float(y))
            codes = _moved(codes, 1.0, (0.0, 0.0), shift)
        if self.settings.exposure_jitter > 0.0:
            # Codes are proportional to the square root of the light.
            log_factor = 0.5 * self._exposure_rng.normal(0.0, self.settings.exposure_jitter)
            # cv2.multiply by a number changes the first channel only before OpenCV 4.11.
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
            return self._resampled_depth(frame)
        if frame.rendered_dioptres not in self._depths:
            _remember(
                self._depths,
                frame.rendered_dioptres,
                self._resampled_depth(frame),
                self.settings.cache_bytes // 2,
            )
        self._depths.move_to_end(frame.rendered_dioptres)
        return self._depths[frame.rendered_dioptres]

    def _resampled_depth(self, frame: SimulatedFrame) -> np.ndarray:
        camera, scale = self.scene.camera, self._magnification(frame.rendered_dioptres)
        rows = camera.cy + (np.arange(camera.height) - camera.cy - frame.shift[1]) / scale
        columns = camera.cx + (np.arange(camera.width) - camera.cx - frame.shift[0]) / scale
        return resample_depth(self.scene.depth, rows, columns)

    def _magnification(self, focus: float) -> float:
        return self.lens.magnification(focus, 0.0) if self.settings.breathing else 1.0

    def _blended(self, focus: float) -> np.ndarray | None:
        """Return codes between the remembered positions on both sides, None if too far apart.

        A moving lens passes through them during the exposure, so a blend is a fair picture.
        """
        below = max((f for f in self._exposures if f <= focus), default=-math.inf)
        above = min((f for f in self._exposures if f >= focus), default=math.inf)
        if (above - below) * self._kappa > _BLEND_BLUR:
            return None
        if above - below < _SAME:
            return self._exposure(below)
        weight = (focus - below) / (above - below)
        first, second = self._exposure(below), self._exposure(above)
        return np.asarray(cv2.addWeighted(first, 1.0 - weight, second, weight, 0.0))

    def _exposure(self, focus: float) -> np.ndarray:
        """Return the sensor codes at a focus, rendered once and then remembered."""
        if focus not in self._exposures:
            with torch.inference_mode():
                light = render(self._layered, self._kappa, focus, aperture=self._aperture)
            image = np.ascontiguousarray(light.permute(1, 2, 0).cpu().numpy())
            centre = (self.scene.camera.cx, self.scene.camera.cy)
            image = _moved(image, self._magnification(focus), centre, (0.0, 0.0))
            if self.settings.exposure_breathing:
                image = image / self.lens.magnification(focus, 0.0) ** 2
            codes = self._sensor.store(image)
            _remember(self._exposures, focus, codes, self.settings.cache_bytes)
        self._exposures.move_to_end(focus)
        return self._exposures[focus]


def _moved(
    image: np.ndarray, scale: float, centre: tuple[float, float], shift: tuple[float, float]
) -> np.ndarray:
    """Return the image magnified about ``centre`` and then shifted by ``shift`` pixels."""
    if scale == 1.0 and shift == (0.0, 0.0):
        return image
    # From pixels of the result to those of the source.
    matrix = np.array(
        [
            [1.0 / scale, 0.0, centre[0] - (centre[0] + shift[0]) / scale],
            [0.0, 1.0 / scale, centre[1] - (centre[1] + shift[1]) / scale],
        ]
    )
    return np.asarray(
        cv2.warpAffine(
            image,
            matrix,
            (image.shape[1], image.shape[0]),
            flags=cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_REFLECT_101,
        )
    )


def _remember(
    cache: OrderedDict[float, np.ndarray], key: float, value: np.ndarray, limit: int
) -> None:
    """Store a value and drop the least recently used ones beyond ``limit`` bytes."""
    cache[key] = value
    while len(cache) > 1 and len(cache) * value.nbytes > limit:
        cache.popitem(last=False)
