# SPDX-License-Identifier: Apache-2.0
"""Sweeps of the simulated camera with realistic faults, assembled as in the node.

Frames at a steady rate, most of them while the lens settles, pass through the assembler.
"""

from __future__ import annotations

import numpy as np

from dualfocus_ros.camera.lens_presets import simulated_lens
from dualfocus_ros.camera.lens_state import PlaneTarget
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import CameraCalibration
from dualfocus_ros.focal_stack import FocalStack
from dualfocus_ros.simulation.scenes import make_scene
from dualfocus_ros.simulation.simulated_camera import SimulatedCamera, SimulatedCameraSettings
from dualfocus_ros.sweep.assembler import AssemblerSettings, SweepAssembler
from dualfocus_ros.sweep.frames import Frame
from dualfocus_ros.sweep.stage_counter import StageCounter
from rendered_stacks import FRAME

RATE = 15.0  # Hz
SETTLING_FRAMES = 3
# An ideal camera: no breathing, no jitter, immediate focus steps.
IDEAL = {'breathing': False, 'jitter': 0.0, 'settling_time': 0.0, 'latency': 0.0}


def faulty_sweep(
    scene: str,
    seed: int,
    width: int = 320,
    height: int = 240,
    count: int = 8,
    focus: tuple[float, float] = (2.5, 0.2),
    **settings: object,
) -> tuple[FocalStack, np.ndarray]:
    """Return a sweep and the depth of its reference plane in metres.

    :param focus: first and last plane in dioptres.
    :param settings: of ``SimulatedCameraSettings``; defaults are those of the node,
        with 2 px of jitter and a settling time of three frames.
    """
    lens = simulated_lens(width)
    fx = lens.focal_length_px(0.0)
    camera = PinholeCamera.centred(width, height, fx)
    faults = {'jitter': 2.0, 'settling_time': SETTLING_FRAMES / RATE, 'latency': 0.02}
    simulated = SimulatedCamera(
        make_scene(scene, seed, camera),
        lens,
        SimulatedCameraSettings(seed=seed, **{**faults, **settings}),  # type: ignore[arg-type]
    )
    assembler = SweepAssembler(AssemblerSettings(), StageCounter())
    truths: dict[int, np.ndarray] = {}
    time = 100.0
    for index, dioptres in enumerate(np.linspace(*focus, count)):
        simulated.command(PlaneTarget(float(dioptres), 1, index, count), time)
        while True:
            time += 1.0 / RATE
            frame = simulated.capture(time)
            stamp = frame.lens.stamp_ns
            assembler.add_reading(frame.lens)
            assembler.add_camera(stamp, CameraCalibration(frame.camera))
            stacks = assembler.add_frame(Frame(stamp, frame.image, FRAME, 'rgb8'))
            if not frame.lens.moving and abs(frame.lens.dioptres - dioptres) < 1e-6:
                truths[stamp] = simulated.depth(frame)
                break
    (stack,) = stacks
    return stack, truths[stack.planes[stack.reference].stamp_ns]
