# SPDX-License-Identifier: Apache-2.0
"""Study on recorded stacks."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from dualfocus_ros.camera.field_curvature import field_curvature_map
from dualfocus_ros.datasets.registry import open_dataset
from dualfocus_ros.datasets.samples import StackSample
from dualfocus_ros.evaluation.method_interface import Estimate, case_from_stack
from dualfocus_ros.evaluation.metric_accumulator import plane_fit_metrics
from lens_bench import plane_camera, settled_images
from research import transfer
from research.transfer import case_field_curvature, remove_field_curvature
from study_files import run_study_command


def relief(folder: Path, shape=(96, 120), count=7):
    """Write a stack in which sharpness moves from left to right, as ``relief_1`` is laid out."""
    rng = np.random.default_rng(0)
    sharp = cv2.GaussianBlur(rng.integers(0, 255, shape).astype(np.float32), (0, 0), 0.7)
    truth = np.tile(np.linspace(0.5, count - 1.5, shape[1], dtype=np.float32), (shape[0], 1))
    folder.mkdir(parents=True)
    blurred = np.stack([cv2.GaussianBlur(sharp, (0, 0), 0.2 + 0.9 * k) for k in range(count)])
    for plane in range(count):
        level = np.clip(np.abs(truth - plane), 0, count - 1.001)
        low = level.astype(int)
        rows, columns = np.indices(shape)
        mixed = blurred[low, rows, columns] * (1 - level + low)
        mixed += blurred[low + 1, rows, columns] * (level - low)
        cv2.imwrite(str(folder / f'image_{plane + 1}.png'), mixed)
    np.save(folder / 'reference.npy', -truth[20:-20, 20:-20])


def test_runs_on_the_stacks_of_a_folder(tmp_path):
    relief(tmp_path / 'stacks' / 'relief_2')
    found, markdown = run_study_command(
        tmp_path, 'transfer', '--data', str(tmp_path), '--methods', 'auto', 'sml', 'range-only'
    )
    assert found['stacks'] == ['relief_2']
    assert 'left out: relief_1, antinous, phone_table, pcb' in markdown
    network, sml, control = found['rows']
    assert network['planes'] == 7
    assert network['mae'] < 0.5 * control['mae'] and sml['mae'] < 0.5 * control['mae']
    assert sml['mae_textured'] > 0.0 and sml['median'] > 0.0


def test_all_in_focus_by_the_truth_is_sharp(tmp_path):
    relief(tmp_path / 'relief_1')
    sample = open_dataset(f'stack:{tmp_path / "relief_1"},unit=slices,focus=index')[0]
    case = case_from_stack(sample)
    ideal = np.tile(np.linspace(0.5, 5.5, 120, dtype=np.float32), (96, 1))
    good = transfer.all_in_focus(case, Estimate(ideal))
    bad = transfer.all_in_focus(case, Estimate(np.full((96, 120), 3.0, np.float32)))
    np.testing.assert_allclose(bad, case.images[3])
    reference = np.roll(good.clip(0, 255).astype(np.uint8), 2, axis=1)
    same, other = (transfer.compare_all_in_focus(image, reference) for image in (good, bad))
    assert same['psnr'] > 30.0 and same['sharpness'] == pytest.approx(1.0, abs=0.05)
    assert other['psnr'] < same['psnr'] - 5.0 and other['sharpness'] < 0.8


def test_plane_residual_without_field_curvature():
    camera = plane_camera(320, 1.25, field_curvature=(0.3, 0.0), noise=0.0, breathing=False)
    focus = np.linspace(0.4, 2.2, 13)
    images = settled_images(camera, focus)
    height, width = images[0].pixels.shape[:2]
    whole = slice(0, height), slice(0, width)
    sample = StackSample(
        'wall', np.stack([image.pixels for image in images]), focus, 'dioptres', plane=whole
    )
    case = case_from_stack(sample)
    field = case_field_curvature(case, whole[0])
    curved = Estimate(1.25 - field_curvature_map(height, width, (0.3, 0.0)))
    texture = np.ones((height, width))
    before = plane_fit_metrics(case, curved, texture)['plane_rms']
    after = plane_fit_metrics(case, remove_field_curvature(curved, field), texture)['plane_rms']
    assert before > 0.05 and after < 0.2 * before
    assert case_field_curvature(case_from_stack(sample, planes=2), whole[0]) is None
