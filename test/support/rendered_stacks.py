# SPDX-License-Identifier: Apache-2.0
"""Focal stacks of the simulated camera with true depth; seeds 0 to 99 are not for training."""

from __future__ import annotations

import numpy as np

from dualfocus_ros.camera.lens_presets import simulated_lens
from dualfocus_ros.camera.lens_state import PlaneTarget
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.simulation.scenes import make_scene
from dualfocus_ros.simulation.simulated_camera import SimulatedCamera, SimulatedCameraSettings

# Far and near focus in dioptres.
SWEEPS = {'table': (0.45, 2.5), 'floor': (0.15, 2.0), 'corridor': (0.12, 1.3)}
FRAME = 'camera_optical_frame'
PERIOD_NS = 100_000_000


def rendered_stack(
    scene: str,
    seed: int,
    width: int = 320,
    height: int = 240,
    planes: int = 8,
    start_ns: int = 1_700_000_000 * 10**9,
) -> tuple[FocalStack, np.ndarray]:
    """Return a sweep from far to near and the depth of its reference plane in metres."""
    lens = simulated_lens(width)
    camera = PinholeCamera.centred(width, height, lens.focal_length_px(0.0))
    far, near = SWEEPS[scene]
    simulated = SimulatedCamera(
        make_scene(scene, seed, camera), lens, SimulatedCameraSettings(near_limit=near, seed=seed)
    )
    taken, truth = [], None
    for index, focus in enumerate(np.linspace(far, near, planes)):
        simulated.command(PlaneTarget(float(focus)), 10.0 * index)
        frame = simulated.capture(10.0 * index + 9.0)
        truth = simulated.depth(frame)
        taken.append(
            Plane(frame.image, float(focus), start_ns + index * PERIOD_NS, frame.camera, index)
        )
    assert truth is not None
    return FocalStack(tuple(taken), FRAME, sweep_id=1), truth
