# SPDX-License-Identifier: Apache-2.0
"""Synthetic frames and lens readings of sweeps, for tests of the assembler."""

from __future__ import annotations

import numpy as np

from dualfocus_ros.camera.lens_state import LensReading, LensState
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.camera.rectification import CameraCalibration
from dualfocus_ros.sweep.assembler import AssemblerSettings, SweepAssembler
from dualfocus_ros.sweep.frames import Frame
from dualfocus_ros.sweep.stage_counter import StageCounter
from dualfocus_ros.sweep.time_synchronizer import TimeSynchronizerSettings

MS = 1_000_000
START = 1_700_000_000 * 1_000_000_000
PERIOD = 100 * MS
WIDTH, HEIGHT = 4, 3


def stamp(n, period=PERIOD):
    """Return the stamp of the n-th frame."""
    return START + n * period


def frame(n, value=None, **changes):
    """Return the n-th frame; its pixels hold n, which identifies it in a stack."""
    arguments = {
        'stamp_ns': stamp(n),
        'image': np.full((HEIGHT, WIDTH, 3), (n if value is None else value) % 256, np.uint8),
        'frame_id': 'camera',
        'encoding': 'rgb8',
    }
    return Frame(**{**arguments, **changes})


def reading(n, dioptres, state=LensState.SETTLED, sweep=0, index=0, count=0):
    """Return the lens reading of the n-th frame."""
    return LensReading(stamp(n), dioptres, state, sweep, index, count)


def calibration(focal=500.0, width=WIDTH, height=HEIGHT):
    """Return a calibration without distortion."""
    return CameraCalibration(PinholeCamera(width, height, focal, focal, 2.0, 1.5))


class SweepFixture:
    """An assembler and its stage counter."""

    def __init__(self, window=0.5, exact_cameras=True, **settings):
        self.stage_counter = StageCounter()
        synchronizer = TimeSynchronizerSettings(int(window * 1e9), exact_cameras=exact_cameras)
        self.assembler = SweepAssembler(
            AssemblerSettings(synchronizer=synchronizer, **settings), self.stage_counter
        )

    def add(self, message):
        """Add a frame, a lens reading, or a stamp with its calibration."""
        if isinstance(message, Frame):
            return self.assembler.add_frame(message)
        if isinstance(message, LensReading):
            return self.assembler.add_reading(message)
        return self.assembler.add_camera(*message)

    def feed(self, messages):
        """Add several messages; return all stacks."""
        return [stack for message in messages for stack in self.add(message)]

    def add_frame(self, n, dioptres, **focus):
        """Add the n-th frame with its lens reading."""
        return self.feed([frame(n), reading(n, dioptres, **focus)])

    def rejected(self, reason):
        """Return the number of rejections for this reason."""
        return self.stage_counter.snapshot().rejected(reason)

    @property
    def reasons(self):
        """Reasons of all rejections."""
        return {rejection.reason for rejection in self.stage_counter.snapshot().rejections}


def counted_sweep(sweep, planes, first, dioptres=None):
    """Return the messages of a sweep whose frames carry index and count, frame by frame."""
    messages = []
    for index in range(planes):
        focus = 0.5 + 0.25 * index if dioptres is None else dioptres[index]
        n = first + index
        messages.append(frame(n))
        messages.append(reading(n, focus, sweep=sweep, index=index, count=planes))
    return messages


def frames_of(stack):
    """Return the numbers of a stack's frames; check that image and stamp match."""
    numbers = [round((plane.stamp_ns - START) / PERIOD) for plane in stack.planes]
    assert [int(plane.image[0, 0, 0]) for plane in stack.planes] == [n % 256 for n in numbers]
    return numbers
