# SPDX-License-Identifier: Apache-2.0
"""Lenses of common cameras and of published data sets; pixel pitch: sensor over image width."""

from __future__ import annotations

from dataclasses import dataclass

from dualfocus_ros.camera.thin_lens import Lens


@dataclass(frozen=True)
class LensPreset:
    """Camera of known optics, the source of the numbers, and the image width in pixels."""

    title: str
    lens: Lens
    source: str
    width: int = 640


# Metres.
SIMULATED_SENSOR_WIDTH = 7.2e-3

PRESETS = {
    'oak': LensPreset(
        '4.8 mm f/1.8 autofocus module (OAK class)',
        Lens(0.0048, 1.8, 4032 * 1.55e-6 / 640),
        'Sony IMX378, 4032 pixels of 1.55 um',
    ),
    'phone': LensPreset(
        'phone, 6.8 mm f/1.9',
        Lens(0.0068, 1.9, 5.76e-3 / 640),
        'sensor of 1/2.5", 5.76 mm wide',
    ),
    'liquid16': LensPreset(
        '16 mm f/1.4 with a liquid lens',
        Lens(0.016, 1.4, 2448 * 3.45e-6 / 640),
        'Sony IMX250 (2/3"), 2448 pixels of 3.45 um',
    ),
    'machine25': LensPreset(
        '25 mm f/1.4',
        Lens(0.025, 1.4, 2448 * 3.45e-6 / 640),
        'Sony IMX250 (2/3"), 2448 pixels of 3.45 um',
    ),
    'nyu': LensPreset(
        'virtual camera of the NYUv2 stacks',
        Lens(0.050, 8.0, 12e-6),
        'HybridDepth (cake-lab/HybridDepth)',
    ),
    'arkit': LensPreset(
        'virtual camera of the ARKitScenes stacks',
        Lens(0.0029, 0.5, 3.1e-3 / 560),
        'HybridDepth (cake-lab/HybridDepth), 3.1 mm / 560 at every image size',
    ),
    'fod500': LensPreset(
        'virtual camera of FoD500',
        Lens(0.0029, 1.0, 3.1e-3 / 256),
        'DefocusNet (dvl-tum/defocus-net); sensor width of 3.1 mm after DEReD',
        256,
    ),
}


def simulated_lens(width: int) -> Lens:
    """Return the simulated 16 mm f/1.4 lens, 25 degrees wide, for images of a width in pixels."""
    return Lens(0.016, 1.4, SIMULATED_SENSOR_WIDTH / width)
