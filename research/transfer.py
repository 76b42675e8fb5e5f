# SPDX-License-Identifier: Apache-2.0
"""Study on recorded stacks, of networks trained on rendered ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
from matplotlib.figure import Figure
import numpy as np

from dualfocus_ros.calibration.field_curvature_fit import (
    FieldCurvatureFit,
    fit_field_curvature,
    measure_target,
)
from dualfocus_ros.calibration.target_images import FocusImage, Region
from dualfocus_ros.camera.field_curvature import field_curvature_map
from dualfocus_ros.datasets.samples import StackSample
from dualfocus_ros.datasets.stack_folder import open_stack_folder
from dualfocus_ros.evaluation.method_interface import Case, Estimate, Method, case_from_stack
from dualfocus_ros.evaluation.methods import RANGE_ONLY
from dualfocus_ros.evaluation.metric_accumulator import (
    MetricAccumulator,
    plane_fit_metrics,
    score_estimate,
    texture_strength,
)
from dualfocus_ros.evaluation.progress_reporting import Progress
from dualfocus_ros.evaluation.tables import Column, markdown_table
from dualfocus_ros.exceptions import CalibrationError, DataError
from dualfocus_ros.io.figures import figure_to_array
from dualfocus_ros.io.image_files import read_rgb
from research.study import Study

RELIEF = {
    'unit': 'slices',
    'focus': 'index',
    'truth': 'reference.npy',
    'truth-scale': '-1',
    'crop': '20:20',
}
# Folders of the stacks, and their options.
STACKS: dict[str, Mapping[str, str]] = {
    'relief_1': RELIEF,
    'relief_2': RELIEF,
    'antinous': {'unit': 'shift', 'truth': 'ground_truth_disparity.npy', 'border': '15'},
    'phone_table': {'align': '1', 'plane': '430:640'},
    'pcb': {'unit': 'slices', 'focus': 'index', 'images': 'pcb_*', 'align': '1'},
}
# Rows of a flat target large enough for calibrating the field curvature.
CURVATURE_TARGET_ROWS = {'phone_table': slice(430, 760)}
# All-in-focus image of the same stack by another program.
SHARP_REFERENCE = 'expected.jpg'
COLUMNS: tuple[Column, ...] = (
    ('mae', 'mean error', 3),
    ('median', 'median error', 3),
    ('mae_textured', 'mean error, textured', 3),
    ('median_textured', 'median, textured', 3),
    ('within_1_sigma', 'within one σ, %', -1),
    ('unimodal', 'unimodal, %', -2),
    ('plane_rms', 'plane residual, rms 1/m', 4),
    ('plane_rms_flattened', 'flattened', 4),
    ('plane_slope', 'rise over the plane, 1/m', 3),
    ('sigma_in_plane', 'median σ in the plane', 4),
    ('sigma_elsewhere', 'median σ elsewhere', 4),
    ('sigma_blank', 'median σ where texture is least', 4),
    ('psnr', 'all-in-focus PSNR, dB', 2),
    ('sharpness', 'relative sharpness', 3),
    ('seconds', 's', 2),
)
TEXT = """Recorded stacks with all their planes, on which no method was trained. Textured pixels
are the half of the counted ones with the strongest sum-modified-Laplacian over the planes. In
`phone_table` a carpet is a plane in space, where 1/z is linear in the pixel coordinates: the table
gives the residual to a plane, and the rise, which is 0 for a constant estimate. Its walls have no
texture; a calibrated σ is larger in the least textured quarter of the rest of the image. For `pcb`
the planes are blended by the estimate to an all-in-focus image, which is registered to that of
another program and compared with it; the relative sharpness is the ratio of their mean absolute
Laplacians."""

FLATTENED = """**flattened**: every estimate is corrected for the field curvature of the lens, as
the node does by `lens.field_curvature`: c2 = {c2:.3f} ± {e2:.3f} and c4 =
{c4:.3f} ± {e4:.3f} 1/m, by `dualfocus calibrate field` from rows {rows.start} to {rows.stop} of
these images. The two numbers are fitted to the evaluated target, by the classical measure of that
command and not by the method."""


def run(folder: Path, methods: Sequence[Method], progress: Progress, *, planes: int = 0) -> Study:
    """Evaluate all methods on the recorded stacks in a folder.

    :param folder: with some of :data:`STACKS`, or with a folder ``stacks`` of them.
    :param planes: planes to use, evenly spaced; 0 for all.
    :raises DataError: if there are none.
    """
    places = {name: found for name in STACKS if (found := _place(folder, name)) is not None}
    if not places:
        raise DataError(f'{folder}: no folder {", ".join(STACKS)} found')
    progress.reset(total=len(places) * len(methods))
    text = [TEXT]
    absent = [name for name in STACKS if name not in places]
    if absent:
        text += ['', f'Absent and left out: {", ".join(absent)}.']
    rows: list[dict[str, Any]] = []
    shown: dict[str, tuple[Case, dict[str, Estimate]]] = {}
    for name, place in places.items():
        sample = open_stack_folder(place, STACKS[name])[0]
        assert isinstance(sample, StackSample)
        case = case_from_stack(sample, planes)
        texture = texture_strength(case)
        flat_rows = CURVATURE_TARGET_ROWS.get(name)
        field = None if flat_rows is None else case_field_curvature(case, flat_rows)
        estimates = {}
        of_stack = []
        for method in methods:
            estimate = method.estimate(case)
            row = {'method': method.name, 'stack': name, 'planes': len(case.focus)}
            row |= score_estimate(case, estimate, texture, MetricAccumulator()) | _textured(
                case, estimate, texture
            )
            if field is not None:
                flat = plane_fit_metrics(case, remove_field_curvature(estimate, field), texture)
                row['plane_rms_flattened'] = flat['plane_rms']
            if (place / SHARP_REFERENCE).is_file():
                row |= compare_all_in_focus(
                    all_in_focus(case, estimate), read_rgb(place / SHARP_REFERENCE)
                )
            of_stack.append(row)
            estimates[method.name] = estimate
            progress.update()
        unit = case.position_unit if case.plane is not None else case.unit
        height, width = case.truth.shape
        text += ['', f'## {name}', '', f'{len(case.focus)} planes {width}x{height}, in {unit}.']
        text += ['', *markdown_table(of_stack, COLUMNS)]
        if field is not None:
            (c2, c4), (e2, e4) = field.coefficients, field.errors
            text += ['', FLATTENED.format(c2=c2, c4=c4, e2=e2, e4=e4, rows=flat_rows)]
        rows += of_stack
        shown[name] = case, estimates
    content = {'stacks': list(places), 'absent': absent, 'rows': rows}
    return Study('transfer', 'Recorded stacks', text, content, _figure(shown))


def _place(folder: Path, name: str) -> Path | None:
    return next((p for p in (folder / name, folder / 'stacks' / name) if p.is_dir()), None)


def case_field_curvature(case: Case, rows: slice) -> FieldCurvatureFit | None:
    """Fit the field curvature to a flat target in these rows, as ``calibrate field`` does.

    :returns: None if the target does not determine it, as with too few planes.
    """
    images = [
        FocusImage(image, float(focus))
        for image, focus in zip(case.images, case.focus, strict=True)
    ]
    region = Region(0, rows.start, case.images.shape[2], rows.stop - rows.start)
    try:
        return fit_field_curvature([measure_target(images, region)])
    except CalibrationError:
        return None


def remove_field_curvature(estimate: Estimate, field: FieldCurvatureFit) -> Estimate:
    """Return an estimate corrected for field curvature."""
    height, width = estimate.position.shape
    offset = field_curvature_map(height, width, field.coefficients)
    return replace(estimate, position=estimate.position + offset)


def _textured(case: Case, estimate: Estimate, texture: np.ndarray) -> dict[str, float]:
    error = np.abs(estimate.position - case.truth_position)
    known = np.isfinite(error)
    if not known.any():
        return {}
    textured = known & (texture >= np.median(texture[known]))
    return {
        'median': float(np.median(error[known])),
        'mae_textured': float(error[textured].mean()),
        'median_textured': float(np.median(error[textured])),
    }


def all_in_focus(case: Case, estimate: Estimate) -> np.ndarray:
    """Blend the two planes around the estimate of each pixel; return (H, W, 3) float32."""
    order = np.argsort(case.focus)
    focus, images = case.focus[order], case.images[order].astype(np.float32)
    upper = np.clip(np.searchsorted(focus, estimate.position), 1, len(focus) - 1)
    low, high = focus[upper - 1], focus[upper]
    weight = np.clip((estimate.position - low) / np.maximum(high - low, 1e-12), 0.0, 1.0)
    rows, columns = np.indices(upper.shape)
    below, above = images[upper - 1, rows, columns], images[upper, rows, columns]
    return np.asarray(below + weight[..., None].astype(np.float32) * (above - below))


def compare_all_in_focus(image: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Register an image to a reference (affine) and compare: PSNR in dB, relative sharpness.

    :param image: (H, W, 3) float32, 0 to 255.
    :param reference: (H', W', 3) uint8, resized to the image.
    """
    height, width = image.shape[:2]
    if reference.shape[:2] != (height, width):
        reference = cv2.resize(reference, (width, height), interpolation=cv2.INTER_AREA)
    grey, target = (
        cv2.cvtColor(i.clip(0, 255).astype(np.uint8), cv2.COLOR_RGB2GRAY)
        for i in (image, reference)
    )
    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-5)
    warp = np.eye(2, 3, dtype=np.float32)
    with suppress(cv2.error):  # registration failed: compare unregistered
        warp = cv2.findTransformECC(target, grey, warp, cv2.MOTION_AFFINE, criteria, None, 5)[1]
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(image, warp, (width, height), flags=flags)
    seen = cv2.warpAffine(np.ones((height, width), np.float32), warp, (width, height), flags=flags)
    inside = seen > 0.999
    squared = float(np.mean((moved - reference.astype(np.float32))[inside] ** 2))
    sharp = _sharpness(grey, inside) / max(_sharpness(target, inside), 1e-9)
    return {'psnr': 10.0 * float(np.log10(255.0**2 / max(squared, 1e-9))), 'sharpness': sharp}


def _sharpness(grey: np.ndarray, inside: np.ndarray) -> float:
    return float(np.abs(cv2.Laplacian(grey, cv2.CV_32F))[inside].mean())


def _figure(shown: Mapping[str, tuple[Case, dict[str, Estimate]]]) -> np.ndarray:
    methods = [name for name in next(iter(shown.values()))[1] if name != RANGE_ONLY]
    columns = 2 + len(methods)
    size = (2.0 * columns, 1.75 * len(shown))
    figure = Figure(figsize=size, dpi=62, layout='constrained')
    for line, (name, (case, estimates)) in enumerate(shown.items()):
        low, high = float(case.focus.min()), float(case.focus.max())
        middle = case.images[len(case.focus) // 2]
        maps = {'truth': case.truth_position} if np.isfinite(case.truth).any() else {}
        maps |= {method: estimate.position for method, estimate in estimates.items()}
        # Methods keep their columns for stacks without truth.
        names = ['truth', *methods]
        for place in range(columns):
            axes = figure.add_subplot(len(shown), columns, line * columns + place + 1)
            axes.set_axis_off()
            if place == 0:
                axes.imshow(cv2.cvtColor(middle, cv2.COLOR_RGB2GRAY), cmap='gray')
                axes.set_title(name, fontsize=8)
            elif names[place - 1] in maps:
                axes.imshow(maps[names[place - 1]], vmin=low, vmax=high, cmap='viridis')
                axes.set_title(names[place - 1], fontsize=8)
    return figure_to_array(figure)
