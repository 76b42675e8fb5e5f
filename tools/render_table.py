#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Render examples/table: a tabletop through a 16 mm f/1.4 lens, focused near to far.

    python3 tools/render_table.py OUTPUT_FOLDER

Needs no ROS. Writes the true depth of the nearest-focused image to truth.npy, in metres.
"""

from pathlib import Path
import sys

import cv2
import numpy as np

from dualfocus_ros.camera.lens_presets import simulated_lens
from dualfocus_ros.camera.lens_state import PlaneTarget
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.simulation.scenes import make_scene
from dualfocus_ros.simulation.simulated_camera import SimulatedCamera, SimulatedCameraSettings

DISTANCES = (0.35, 0.50, 0.90, 1.33, 2.21)  # metres
WIDTH, HEIGHT = 480, 360


def main(folder: Path) -> None:
    """Write table_1.jpg to table_5.jpg and truth.npy."""
    lens = simulated_lens(WIDTH)
    pinhole = PinholeCamera.centred(WIDTH, HEIGHT, lens.focal_length_px(0.0))
    settings = SimulatedCameraSettings(near_limit=1.0 / DISTANCES[0], breathing=False)
    camera = SimulatedCamera(make_scene('table', 3, pinhole), lens, settings)
    folder.mkdir(parents=True, exist_ok=True)
    for number, distance in enumerate(DISTANCES):
        time = 10.0 * number  # seconds; the lens settles long before the exposure
        camera.command(PlaneTarget(1.0 / distance), time)
        frame = camera.capture(time + 9.0)
        image = cv2.cvtColor(frame.image, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / f'table_{number + 1}.jpg'), image, [cv2.IMWRITE_JPEG_QUALITY, 90])
        if number == 0:
            np.save(folder / 'truth.npy', camera.depth(frame))


if __name__ == '__main__':
    main(Path(sys.argv[1]))
