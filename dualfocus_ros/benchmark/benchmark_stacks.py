# SPDX-License-Identifier: Apache-2.0
"""Focal stacks for timing: one rendered sweep, subsampled and resized."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path

import cv2
import numpy as np

from dualfocus_ros.camera.lens_presets import simulated_lens
from dualfocus_ros.camera.lens_state import PlaneTarget
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.io.atomic_files import atomic_write
from dualfocus_ros.simulation.scenes import make_scene
from dualfocus_ros.simulation.simulated_camera import SimulatedCamera, SimulatedCameraSettings

WIDTH, HEIGHT = 640, 480
NEAR, FAR = 2.5, 0.45
FRAME = 'camera_optical_frame'
# Stacks with more planes repeat images.
_MAX_RENDERED = 10
_LENS = simulated_lens(WIDTH)


@dataclass(frozen=True, order=True)
class StackShape:
    """Number and size of the planes of a stack."""

    planes: int
    width: int
    height: int


class RenderedSweep:
    """Sweep of a 16 mm f/1.4 lens over a table, from far to near.

    Rendered once at 640 x 480 and resized; run time does not depend on sharpness.

    :param max_planes: largest number of planes of a stack.
    """

    def __init__(self, max_planes: int) -> None:
        pixels = _LENS.focal_length_px(0.0)
        camera = PinholeCamera.centred(WIDTH, HEIGHT, pixels)
        settings = SimulatedCameraSettings(near_limit=NEAR, settling_time=0.01, latency=0.0)
        view = SimulatedCamera(make_scene('table', 0, camera), _LENS, settings)
        self._focus = np.linspace(FAR, NEAR, min(max(max_planes, 2), _MAX_RENDERED))
        self._frames = []
        for index, focus in enumerate(self._focus):
            view.command(PlaneTarget(float(focus)), float(index))
            # The lens has settled after half a second.
            self._frames.append(view.capture(index + 0.5))

    def stack(self, shape: StackShape) -> FocalStack:
        """Return a stack of new images, from far to near.

        New arrays each time: the estimator caches planes by the identity of their image.
        """
        chosen = np.linspace(0, len(self._focus) - 1, shape.planes).round().astype(int)
        size = (shape.width, shape.height)
        frames = [self._frames[index] for index in chosen]
        images = [
            frame.image.copy()
            if frame.image.shape[1::-1] == size
            else cv2.resize(frame.image, size, interpolation=cv2.INTER_LINEAR)
            for frame in frames
        ]
        cameras = [frame.camera.resized(*size) for frame in frames]
        return _make_stack(images, np.linspace(FAR, NEAR, shape.planes), cameras)


def write_stack(path: Path, stack: FocalStack) -> None:
    """Write a stack with intrinsics to an ``.npz`` file, for another process."""
    cameras = [astuple(plane.camera) for plane in stack.planes if plane.camera is not None]
    with atomic_write(path) as partial:
        np.savez(
            partial,
            images=np.stack([plane.image for plane in stack.planes]),
            focus=stack.focus_dioptres,
            cameras=np.array(cameras),
        )


def read_stack(path: Path) -> FocalStack:
    """Read a stack of :func:`write_stack`."""
    with np.load(path) as file:
        images, focus, rows = file['images'], file['focus'], file['cameras']
    cameras = [PinholeCamera(int(row[0]), int(row[1]), *map(float, row[2:])) for row in rows]
    return _make_stack([image.copy() for image in images], focus, cameras)


def _make_stack(
    images: Sequence[np.ndarray], focus: np.ndarray, cameras: Sequence[PinholeCamera]
) -> FocalStack:
    planes = zip(images, focus, cameras, strict=True)
    return FocalStack(
        tuple(
            Plane(image, float(dioptres), 100_000_000 * number, camera, number)
            for number, (image, dioptres, camera) in enumerate(planes)
        ),
        frame_id=FRAME,
    )
