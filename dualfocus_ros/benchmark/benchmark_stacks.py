# SPDX-License-Identifier: Apache-2.0
"""The focal stacks that are timed: one rendered sweep, thinned and resized."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from pathlib import Path

import cv2
import numpy as np

from dualfocus_ros.camera.lens_state import PlaneTarget
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.io.atomic_files import atomic_write
from dualfocus_ros.simulation.scenes import make_scene
from dualfocus_ros.simulation.simulated_camera import SimulatedCamera, SimulatedCameraSettings

WIDTH, HEIGHT = 640, 480
NEAR, FAR = 2.5, 0.45
FRAME = 'camera_optical_frame'
# More planes than this show some image twice.
_MAX_RENDERED = 10
_LENS = Lens(0.016, 1.4, 7.2e-3 / WIDTH)


@dataclass(frozen=True, order=True)
class StackShape:
    """How many planes of which size."""

    planes: int
    width: int
    height: int

    @property
    def pixels(self) -> int:
        """Of one plane."""
        return self.width * self.height

    def __str__(self) -> str:
        return f'{self.planes} x {self.width} x {self.height}'


class RenderedSweep:
    """A table, as a 16 mm f/1.4 lens sees it while it focuses from far to near.

    Rendered once, 640 x 480; other sizes are resized, because no time depends on how sharp an
    image is.

    :param finest: the most planes that a stack will have.
    """

    def __init__(self, finest: int) -> None:
        pixels = _LENS.focal_length_px(0.0)
        camera = PinholeCamera(WIDTH, HEIGHT, pixels, pixels, WIDTH / 2 - 0.5, HEIGHT / 2 - 0.5)
        settings = SimulatedCameraSettings(near_limit=NEAR, settling_time=0.01, latency=0.0)
        view = SimulatedCamera(make_scene('table', 0, camera), _LENS, settings)
        self._focus = np.linspace(FAR, NEAR, min(max(finest, 2), _MAX_RENDERED))
        self._frames = []
        for index, focus in enumerate(self._focus):
            view.command(PlaneTarget(float(focus)), float(index))
            # The lens has long settled half a second later.
            self._frames.append(view.capture(index + 0.5))

    def stack(self, setting: StackShape) -> FocalStack:
        """Return a stack of images that nobody has seen before, from far to near.

        New arrays each time, as a camera delivers them: the estimator remembers what it encoded
        by the array that an image came in.
        """
        chosen = np.linspace(0, len(self._focus) - 1, setting.planes).round().astype(int)
        focus = np.linspace(FAR, NEAR, setting.planes)
        size = (setting.width, setting.height)
        planes = []
        for number, (index, dioptres) in enumerate(zip(chosen, focus, strict=True)):
            frame = self._frames[index]
            image = frame.image
            if image.shape[1::-1] != size:
                image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
            planes.append(
                Plane(
                    np.array(image),
                    float(dioptres),
                    100_000_000 * number,
                    frame.camera.resized(*size),
                    number,
                )
            )
        return FocalStack(tuple(planes), frame_id=FRAME)


def write_stack(path: Path, stack: FocalStack) -> None:
    """Write a stack whose planes all have intrinsics, for another process."""
    cameras = [astuple(plane.camera) for plane in stack.planes if plane.camera is not None]
    with atomic_write(path) as partial:
        np.savez(
            partial,
            images=np.stack([plane.image for plane in stack.planes]),
            focus=stack.focus_dioptres,
            cameras=np.array(cameras),
        )


def read_stack(path: Path) -> FocalStack:
    """Read what :func:`write_stack` wrote."""
    with np.load(path) as file:
        images, focus, cameras = file['images'], file['focus'], file['cameras']
    return FocalStack(
        tuple(
            Plane(
                image.copy(),
                float(dioptres),
                100_000_000 * number,
                PinholeCamera(int(camera[0]), int(camera[1]), *map(float, camera[2:])),
                number,
            )
            for number, (image, dioptres, camera) in enumerate(
                zip(images, focus, cameras, strict=True)
            )
        ),
        frame_id=FRAME,
    )
