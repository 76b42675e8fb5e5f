# SPDX-License-Identifier: Apache-2.0
"""What the pipeline can be told."""

from __future__ import annotations

from dataclasses import dataclass

from dualfocus_ros.optics.lens import Lens

BREATHING_MODELS = ('none', 'thin_lens', 'polynomial')


@dataclass(frozen=True)
class PipelineSettings:
    """Settings that may change from one stack to the next.

    :param depth_min: metres; nearer estimates become -inf.
    :param depth_max: metres; farther estimates become +inf.
    :param max_sigma: metres; less certain pixels become NaN. 0 keeps all.
    :param edge_filter: relative step of inverse depth to both sides from which on a pixel counts
        as flying between two surfaces and becomes NaN. 0 keeps all.
    :param breathing: how the image scale follows focus: ``none``, ``thin_lens`` (needs ``lens``)
        or ``polynomial``.
    :param breathing_coefficients: g1, g2, ... of the image scale 1 + g1 q + g2 q^2 + ... at
        focus q in dioptres.
    :param points_color: whether points carry the colour of the all-in-focus image.
    :param points_decimation: stride of the decimated points, in pixels.
    :param points_voxel_size: metres; where above 0, the decimated points are the means of cubes
        of this size instead.
    :raises ValueError: for limits out of order or a breathing model without its data.
    """

    depth_min: float = 0.1
    depth_max: float = 20.0
    max_sigma: float = 0.0
    edge_filter: float = 0.05
    breathing: str = 'none'
    breathing_coefficients: tuple[float, ...] = ()
    lens: Lens | None = None
    points_color: bool = True
    points_decimation: int = 4
    points_voxel_size: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.depth_min < self.depth_max:
            raise ValueError(
                f'depth.min ({self.depth_min} m) must be at least 0 and below depth.max '
                f'({self.depth_max} m)'
            )
        if self.max_sigma < 0.0:
            raise ValueError(f'depth.max_sigma must be 0 (off) or positive, got {self.max_sigma}')
        if self.edge_filter < 0.0:
            raise ValueError(
                f'depth.edge_filter must be 0 (off) or positive, got {self.edge_filter}'
            )
        if self.breathing not in BREATHING_MODELS:
            raise ValueError(
                f"breathing.model must be one of {', '.join(BREATHING_MODELS)}, "
                f"got '{self.breathing}'"
            )
        if self.breathing == 'thin_lens' and self.lens is None:
            raise ValueError(
                'breathing.model thin_lens needs lens.focal_length, lens.f_number and '
                'lens.pixel_pitch'
            )
        if self.breathing == 'polynomial' and not self.breathing_coefficients:
            raise ValueError('breathing.model polynomial needs breathing.coefficients')

    def image_scale(self, focus_dioptres: float) -> float:
        """Return the image scale at a focus; only ratios between planes matter."""
        if self.breathing == 'thin_lens' and self.lens is not None:
            return self.lens.image_distance(focus_dioptres)
        if self.breathing == 'polynomial':
            powers = enumerate(self.breathing_coefficients, start=1)
            return 1.0 + sum(c * focus_dioptres**power for power, c in powers)
        return 1.0
