# SPDX-License-Identifier: Apache-2.0
"""Settings of a demo run and the node parameters that follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualfocus_ros.camera.lens_presets import simulated_lens
from dualfocus_ros.simulation.scenes import SCENES


@dataclass(frozen=True)
class DemoSettings:
    """Settings of a demo run.

    :param output: folder for the results.
    :param scene: name in :data:`~dualfocus_ros.simulation.scenes.SCENES`.
    :param seconds: duration of the measurement after the first depth.
    :param rate: camera images per second.
    :param planes: planes per sweep.
    :param start_timeout: seconds to wait for the first depth.
    """

    output: Path
    scene: str = 'table'
    seconds: float = 20.0
    width: int = 640
    height: int = 480
    rate: float = 10.0
    planes: int = 8
    model: str = 'auto'
    device: str = 'auto'
    start_timeout: float = 120.0

    def depth_parameters(self) -> dict[str, Any]:
        """Return the parameters of the depth node."""
        return {
            'model': self.model,
            'device': self.device,
            'breathing.model': 'thin_lens',
            **self._lens_parameters(),
        }

    def node_parameters(self) -> dict[str, dict[str, Any]]:
        """Return the parameters of each node by executable name."""
        far, near = SCENES[self.scene].focus_range
        return {
            'sim_camera_node': {
                'scene': self.scene,
                'width': self.width,
                'height': self.height,
                'rate': self.rate,
                **self._lens_parameters(),
            },
            'depth_node': self.depth_parameters(),
            'focus_sweep_node': {
                'mode': 'continuous',
                'near_dioptres': near,
                'far_dioptres': far,
                'count': self.planes,
            },
        }

    def _lens_parameters(self) -> dict[str, float]:
        lens = simulated_lens(self.width)
        return {
            'lens.focal_length': lens.focal_length,
            'lens.f_number': lens.f_number,
            'lens.pixel_pitch': lens.pixel_pitch,
        }


def parameter_arguments(parameters: dict[str, Any]) -> list[str]:
    """Return ROS arguments that set parameters: ``-p NAME:=VALUE`` each."""
    return [word for key, value in parameters.items() for word in ('-p', f'{key}:={value}')]
