# SPDX-License-Identifier: Apache-2.0
"""Estimator settings."""

from __future__ import annotations

from dataclasses import dataclass

from dualfocus_ros.camera.depth_resolution import inverse_depth_error
from dualfocus_ros.camera.field_curvature import check_coefficients
from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.exceptions import SettingsError

BREATHING_MODELS = ('none', 'thin_lens', 'polynomial')
ALIGNMENT_MODES = ('off', 'flag', 'correct')
# A measured kappa differs from the data sheet's by less, which an imprecise aperture explains; the
# pixel pitch of the sensor instead of that of the published image gives a ratio of 2 or more.
_MAX_KAPPA_RATIO = 1.5


@dataclass(frozen=True)
class EstimatorSettings:
    """Settings of :class:`DepthEstimator`, which may differ from stack to stack.

    :param decimation: factor by which planes are downsampled, across and down, before all else.
    :param depth_min: metres; nearer estimates become -inf.
    :param depth_max: metres; farther estimates become +inf.
    :param max_sigma: metres; less certain pixels become NaN. 0 keeps all.
    :param edge_filter: relative step of inverse depth on both sides from which a pixel counts as
        flying between two surfaces and becomes NaN. 0 keeps all.
    :param breathing: dependence of the image scale on focus: ``none`` (the intrinsics of each
        plane are used), ``thin_lens`` (needs ``lens``) or ``polynomial``.
    :param breathing_coefficients: g1, g2, ... of the image scale 1 + g1 q + g2 q^2 + ... at
        focus q in dioptres.
    :param breathing_centre_drift: x, y by which the centre of that scaling moves from focus at
        infinity, in image widths per dioptre. Not with ``none``.
    :param alignment: treatment of planes displaced beyond lens and calibration: ``off`` (not
        measured), ``flag`` (measured) or ``correct``.
    :param max_motion: pixels before decimation; a stack with planes displaced by more counts as
        moved.
    :param normalise_exposure: whether to equalise the brightness of the planes.
    :param lens: data sheet of the lens, None if unknown.
    :param kappa: measured blur in pixels per dioptre before decimation; 0 for that of ``lens``.
        Where it is known, sigma is at least the error that the optics cause.
    :param field_curvature: c2, c4 in 1/m of :mod:`dualfocus_ros.camera.field_curvature`.
    :param points_color: whether points carry the colour of the all-in-focus image.
    :param points_decimation: stride of the decimated points, in pixels.
    :param points_voxel_size: metres; above 0, decimated points are the means of cubes of this
        size instead.
    :raises SettingsError: for limits out of order or a breathing model without its data.
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
        self._check_limits()
        self._check_choices()
        self._check_breathing()
        self._check_kappa()

    @property
    def blur_per_dioptre(self) -> float | None:
        """Kappa in pixels of the depth map per dioptre; None if unknown."""
        if self.kappa > 0.0:
            return self.kappa / self.decimation
        return None if self.lens is None else self.lens.kappa() / self.decimation

    @property
    def sigma_floor(self) -> float:
        """Lower limit of sigma in dioptres; 0 for an unknown lens."""
        kappa = self.blur_per_dioptre
        return 0.0 if kappa is None else inverse_depth_error(kappa)

    def image_scale(self, focus_dioptres: float) -> float:
        """Return the image scale at a focus; only ratios between planes matter."""
        if self.breathing == 'thin_lens' and self.lens is not None:
            return self.lens.image_distance(focus_dioptres)
        if self.breathing == 'polynomial':
            powers = enumerate(self.breathing_coefficients, start=1)
            return 1.0 + sum(c * focus_dioptres**power for power, c in powers)
        return 1.0

    def centre_shift(self, focus_step: float) -> tuple[float, float]:
        """Return the shift x, y of the breathing centre with a step of focus, in image widths.

        :param focus_step: dioptres.
        """
        dx, dy = self.breathing_centre_drift
        return dx * focus_step, dy * focus_step

    def _check_limits(self) -> None:
        for name, valid, rule in (
            ('decimation', self.decimation >= 1, 'at least 1'),
            ('max_sigma', self.max_sigma >= 0.0, '0 (off) or positive'),
            ('edge_filter', self.edge_filter >= 0.0, '0 (off) or positive'),
            ('max_motion', self.max_motion > 0.0, 'positive'),
        ):
            if not valid:
                raise SettingsError(f'{name} must be {rule}, got {getattr(self, name)}', name)
        if not 0.0 <= self.depth_min < self.depth_max:
            raise SettingsError(
                f'depth_min ({self.depth_min} m) must be at least 0 and below depth_max '
                f'({self.depth_max} m)',
                'depth_min',
                'depth_max',
            )
        try:
            check_coefficients(self.field_curvature)
        except ValueError as error:
            raise SettingsError(f'field_curvature: {error}', 'field_curvature') from None

    def _check_choices(self) -> None:
        for name, choices in (('breathing', BREATHING_MODELS), ('alignment', ALIGNMENT_MODES)):
            value = getattr(self, name)
            if value not in choices:
                raise SettingsError(
                    f"{name} must be one of {', '.join(choices)}, got '{value}'", name
                )

    def _check_breathing(self) -> None:
        if self.breathing == 'thin_lens' and self.lens is None:
            raise SettingsError("breathing 'thin_lens' needs lens", 'breathing', 'lens')
        if self.breathing == 'polynomial' and not self.breathing_coefficients:
            raise SettingsError(
                "breathing 'polynomial' needs breathing_coefficients",
                'breathing',
                'breathing_coefficients',
            )
        if len(self.breathing_centre_drift) != 2:
            raise SettingsError(
                'breathing_centre_drift must have two numbers, x and y in image widths per '
                f'dioptre, got {list(self.breathing_centre_drift)}',
                'breathing_centre_drift',
            )
        if self.breathing == 'none' and any(self.breathing_centre_drift):
            raise SettingsError(
                "breathing_centre_drift needs breathing 'thin_lens' or 'polynomial': with 'none' "
                'the intrinsics of each image are used unchanged',
                'breathing',
                'breathing_centre_drift',
            )

    def _check_kappa(self) -> None:
        if self.kappa < 0.0:
            raise SettingsError(
                f'kappa must be 0 (computed from lens) or positive, got {self.kappa}',
                'kappa',
                'lens',
            )
        if not self.kappa or self.lens is None:
            return
        computed = self.lens.kappa()
        ratio = max(self.kappa / computed, computed / self.kappa)
        if ratio > _MAX_KAPPA_RATIO:
            raise SettingsError(
                f'kappa is {self.kappa:g} px per dioptre, but computed from lens it is '
                f'{computed:.3g}: correct one of them (the pixel pitch must be that of the '
                'published, possibly binned or resized image), or set kappa to 0',
                'kappa',
                'lens',
            )
