# SPDX-License-Identifier: Apache-2.0
"""Registry of methods, and the methods it opens."""

import math

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
import torch

from dualfocus_ros.evaluation.method_interface import case_from_stack
from dualfocus_ros.evaluation.methods import (
    METHODS,
    MethodOptions,
    default_methods,
    open_method,
    open_methods,
)
from dualfocus_ros.exceptions import WeightsError
from dualfocus_ros.models.dfv import DFV, load_dfv, save_dfv
from dualfocus_ros.models.dualfocus import DualFocus, DualFocusConfig
from dualfocus_ros.models.weights import save_model, shipped_models
from recorded_stack import recorded_stack

CPU = torch.device('cpu')
SMALL = DualFocusConfig(encoder=(4, 8, 8, 8), volume=(4, 4, 4), decoder=(4, 4, 4), surfaces=2)


def test_classical_methods_accept_any_unit_and_order():
    sample = recorded_stack('slices', (2.0, 0.0, 1.0), truth=1.0)
    for plane, sharp in enumerate((False, False, True)):
        if not sharp:
            sample.images[plane] = 128
    for method in open_methods(['sml', 'rdf', 'range-only'], CPU):
        position = method.estimate(case_from_stack(sample)).position
        assert np.isfinite(position).all()
        assert np.median(position) == pytest.approx(1.0, abs=0.05), method.name


def test_constant_images_yield_estimates_in_the_sweep():
    sample = recorded_stack('slices', (0.0, 1.0, 2.0))
    sample.images[:] = 90
    for method in open_methods([], CPU):
        position = method.estimate(case_from_stack(sample)).position
        assert ((position >= -1e-4) & (position <= 2.0001)).all(), method.name


def test_weights_file_is_a_method(tmp_path):
    torch.manual_seed(0)
    save_model(tmp_path / 'no-spatial.safetensors', DualFocus(SMALL))
    (method,) = open_methods([str(tmp_path / 'no-spatial.safetensors')], CPU)
    case = case_from_stack(recorded_stack())
    estimate = method.estimate(case)
    assert method.name == 'no-spatial'
    assert estimate.sigma is not None and (estimate.sigma > 0.0).all()
    np.testing.assert_allclose(estimate.probability.sum(axis=0), 1.0, atol=1e-4)
    np.testing.assert_allclose(
        np.tensordot(case.focus, estimate.probability, 1), estimate.position, atol=1e-3
    )


def test_dfv_needs_a_weights_file(tmp_path):
    torch.manual_seed(0)
    with pytest.raises(WeightsError, match='none are shipped'):
        open_methods([f'dfv:{tmp_path / "dfv.safetensors"}'], CPU)
    with pytest.raises(WeightsError, match='dfv:PATH'):
        open_methods(['dfv'], CPU)
    path = tmp_path / 'dfv.safetensors'
    save_dfv(path, DFV())
    (method,) = open_methods([f'dfv:{path}'], CPU)
    case = case_from_stack(recorded_stack(shape=(32, 48)))
    estimate = method.estimate(case)
    assert estimate.position.shape == (32, 48)
    np.testing.assert_allclose(
        np.tensordot(case.focus, estimate.probability, 1), estimate.position, atol=1e-3
    )
    tensors = load_file(path)
    tensors['trunk.stem.0.weight'][0, 0, 0, 0] = math.nan
    save_file(tensors, path)
    with pytest.raises(WeightsError, match=r'trunk\.stem\.0\.weight'):
        load_dfv(path)
    del tensors['trunk.stem.0.weight']
    save_file(tensors, path)
    with pytest.raises(WeightsError, match=r'lacks trunk\.stem\.0\.weight'):
        load_dfv(path)


def test_rejects_images_that_are_not_finite():
    case = case_from_stack(recorded_stack())
    broken = case.images / np.float32(255.0)
    broken[0, 0, 0, 0] = np.nan
    (method,) = open_methods(['auto'], CPU)
    with pytest.raises(ValueError, match='not finite'):
        method.estimate(type(case)(**{**vars(case), 'images': broken}))


def test_default_methods_are_models_baselines_and_control():
    assert default_methods() == [*shipped_models(), 'sml', 'rdf', 'range-only']
    assert [name for name, entry in METHODS.items() if entry.benchmarked] == ['dfv', 'sml', 'rdf']


def test_every_method_can_be_timed():
    images = recorded_stack(shape=(33, 40)).images
    options = MethodOptions(CPU, random_weights=True)
    for name in ('dfv', 'sml', 'rdf', 'range-only', 'auto'):
        stages = open_method(name, options).run(images, np.array([2.0, 1.0, 0.5]))
        assert set(stages) == ({'prepare', 'network'} if name == 'dfv' else set()), name


def test_rejects_two_methods_of_one_name(tmp_path):
    torch.manual_seed(0)
    paths = []
    for folder in ('a', 'b'):
        paths.append(tmp_path / folder / 'model.safetensors')
        paths[-1].parent.mkdir()
        save_model(paths[-1], DualFocus(SMALL))
    with pytest.raises(ValueError, match=r"b/model\.safetensors' are both called 'model'"):
        open_methods([str(path) for path in paths], CPU)
    assert len(open_methods(['sml', 'sml'], CPU)) == 1


def test_unknown_method_error_lists_the_registry():
    with pytest.raises(ValueError, match=r"unknown method 'nonsense': .*dfv:PATH, sml, rdf"):
        open_methods(['nonsense'], CPU)
