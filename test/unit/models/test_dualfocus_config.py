# SPDX-License-Identifier: Apache-2.0
"""Configurations: size and validation."""

import pytest

from dualfocus_ros.models import CONFIGURATIONS, DualFocus, DualFocusConfig


@pytest.mark.parametrize(
    ('name', 'least', 'most'),
    [('dualfocus', 5e6, 10e6), ('dualfocus-lite', 0.3e6, 1.5e6), ('dualfocus-paper', 26e6, 28e6)],
)
def test_configurations_have_the_stated_size(name, least, most):
    parameters = sum(p.numel() for p in DualFocus(CONFIGURATIONS[name]).parameters())
    print(f'{name}: {parameters / 1e6:.2f} M parameters')
    assert least < parameters <= most


@pytest.mark.parametrize(
    ('changes', 'text'),
    [
        ({'trunk': 'vgg'}, "trunk must be one of light, resnet18, got 'vgg'"),
        ({'unit': 'feet'}, "unit must be one of dioptres, metres, got 'feet'"),
        ({'decoder': (8, 8)}, 'same number of levels'),
        ({'encoder': (8, 8, 8)}, '3 levels need 4 encoder widths'),
        ({'trunk': 'resnet18'}, 'resnet18 trunk has 4 levels'),
        ({'measures': False}, 'sigma needs the focus measures'),
    ],
)
def test_inconsistent_configurations_are_refused(changes, text):
    with pytest.raises(ValueError, match=text):
        DualFocusConfig(**changes)


@pytest.mark.parametrize('smoothing', [-0.1, 0.8, float('nan')])
def test_smoothing_beyond_its_kernel_is_refused(smoothing):
    with pytest.raises(ValueError, match='smoothing must be from 0'):
        DualFocusConfig(smoothing=smoothing)
