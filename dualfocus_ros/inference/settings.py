# SPDX-License-Identifier: Apache-2.0
"""What the pipeline can be told."""

from __future__ import annotations

from dataclasses import dataclass

from dualfocus_ros.camera.depth_resolution import inverse_depth_error
from dualfocus_ros.camera.field_curvature import check_coefficients
from dualfocus_ros.camera.thin_lens import Lens

BREATHING_MODELS = ('none', 'thin_lens', 'polynomial')
ALIGNMENT_MODES = ('off', 'flag', 'correct')
# A measured kappa differs from the data sheet's by what the aperture does, which is less; a pixel
# pitch of the sensor instead of the published image makes 2 or more.
_KAPPA_AGREEMENT = 1.5


@dataclass(frozen=True)
class EstimatorSettings:
    """Settings that may change from one stack to the next.

    :param decimation: all is computed on planes shrunk by this factor, across and down.
    :param depth_min: metres; nearer estimates become -inf.
    :param depth_max: metres; farther estimates become +inf.
    :param max_sigma: metres; less certain pixels become NaN. 0 keeps all.
    :param edge_filter: relative step of inverse depth to both sides from which on a pixel counts
        as flying between two surfaces and becomes NaN. 0 keeps all.
    :param breathing: how the image scale follows focus: ``none`` (as the intrinsics of each
        plane say), ``thin_lens`` (needs ``lens``) or ``polynomial``.
    :param breathing_coefficients: g1, g2, ... of the image scale 1 + g1 q + g2 q^2 + ... at
        focus q in dioptres.
    :param breathing_centre_drift: x, y by which the centre of that scaling moves from focus at
        infinity, in image widths per dioptre. Not with ``none``.
    :param alignment: what to do about planes that are displaced although lens and calibration
        do not explain it: ``off`` (do not look), ``flag`` (look) or ``correct``.
    :param max_motion: pixels of the planes as they come; a stack with planes displaced by more
        counts as moved.
    :param normalise_exposure: whether to make planes equally bright.
    :param kappa: pixels of blur per dioptre in the planes as they come, as measured; 0 for that
        of ``lens``. Where it is known, sigma is nowhere below the error that the optics make.
    :param field_curvature: c2, c4 in 1/m of :mod:`dualfocus_ros.camera.field_curvature`.
    :param points_color: whether points carry the colour of the all-in-focus image.
    :param points_decimation: stride of the decimated points, in pixels.
    :param points_voxel_size: metres; where above 0, the decimated points are the means of cubes
        of this size instead.
    :raises ValueError: for limits out of order or a breathing model without its data.
    """

    decimation: int = 1
    depth_min: float = 0.1
    depth_max: float = 20.0
    max_sigma: float = 0.0
    edge_filter: float = 0.05
    breathing: str = 'none'
    breathing_coefficients: tuple[float, ...] = ()
    breathing_centre_drift: tuple[float, ...] = (0.0, 0.0)
    alignment: str = 'correct'
    max_motion: float = 5.0
    normalise_exposure: bool = True
    lens: Lens | None = None
    kappa: float = 0.0
    field_curvature: tuple[float, ...] = (0.0, 0.0)
    points_color: bool = True
    points_decimation: int = 4
    points_voxel_size: float = 0.0

    def __post_init__(self) -> None:
        if self.decimation < 1:
            raise ValueError(f'depth.decimation must be at least 1, got {self.decimation}')
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
                f'breathing.model must be one of {", ".join(BREATHING_MODELS)}, '
                f"got '{self.breathing}'"
            )
        if self.breathing == 'thin_lens' and self.lens is None:
            raise ValueError(
                'breathing.model thin_lens needs lens.focal_length, lens.f_number and '
                'lens.pixel_pitch'
            )
        if self.breathing == 'polynomial' and not self.breathing_coefficients:
            raise ValueError('breathing.model polynomial needs breathing.coefficients')
        if len(self.breathing_centre_drift) != 2:
            raise ValueError(
                'breathing.centre_drift has two numbers, x and y in image widths per dioptre, '
                f'got {list(self.breathing_centre_drift)}'
            )
        if self.breathing == 'none' and any(self.breathing_centre_drift):
            raise ValueError(
                'breathing.centre_drift needs breathing.model thin_lens or polynomial: with none '
                'the camera_info of each image is taken as it is'
            )
        if self.alignment not in ALIGNMENT_MODES:
            raise ValueError(
                f"alignment must be one of {', '.join(ALIGNMENT_MODES)}, got '{self.alignment}'"
            )
        if not self.max_motion > 0.0:
            raise ValueError(f'alignment.max_motion must be positive, got {self.max_motion}')
        self._check_kappa()
        check_coefficients(self.field_curvature)

    @property
    def blur_per_dioptre(self) -> float | None:
        """Kappa, measured or from the lens, in pixels per dioptre; None where it is not known.

        In the pixels that depth is computed for.
        """
        if self.kappa > 0.0:
            return self.kappa / self.decimation
        return None if self.lens is None else self.lens.kappa() / self.decimation

    @property
    def sigma_floor(self) -> float:
        """What sigma is nowhere below, in dioptres; 0 where the lens is not known."""
        kappa = self.blur_per_dioptre
        return 0.0 if kappa is None else inverse_depth_error(kappa)

    def _check_kappa(self) -> None:
        if self.kappa < 0.0:
            raise ValueError(f'lens.kappa must be 0 (from the others) or positive: {self.kappa}')
        if not self.kappa or self.lens is None:
            return
        computed = self.lens.kappa()
        ratio = max(self.kappa / computed, computed / self.kappa)
        if ratio > _KAPPA_AGREEMENT:
            raise ValueError(
                f'lens.kappa is {self.kappa:g} px per dioptre, but lens.focal_length, '
                f'lens.f_number and lens.pixel_pitch make {computed:.3g}: correct one of them '
                '(the pitch is that of the published, perhaps binned or resized image), or set '
                'lens.kappa to 0'
            )

    def image_scale(self, focus_dioptres: float) -> float:
        """Return the image scale at a focus; only ratios between planes matter."""
        if self.breathing == 'thin_lens' and self.lens is not None:
            return self.lens.image_distance(focus_dioptres)
        if self.breathing == 'polynomial':
            powers = enumerate(self.breathing_coefficients, start=1)
            return 1.0 + sum(c * focus_dioptres**power for power, c in powers)
        return 1.0

    def centre_shift(self, focus_step: float) -> tuple[float, float]:
        """Return how far the centre of breathing moves with a step of focus, in image widths.

        :param focus_step: dioptres.
        """
        dx, dy = self.breathing_centre_drift
        return dx * focus_step, dy * focus_step
