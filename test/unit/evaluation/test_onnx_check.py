# SPDX-License-Identifier: Apache-2.0
"""Stacks and criterion of the check of ONNX graphs."""

import numpy as np
import pytest

from dualfocus_ros.evaluation.onnx_check import StackDifferences, random_stack, rendered_stack
from dualfocus_ros.models.onnx_export import ExportShape, OutputDifference


@pytest.mark.parametrize('make', [random_stack, rendered_stack])
@pytest.mark.parametrize('size', [ExportShape(3, 40, 60), ExportShape(2, 150, 64)])
def test_stack_has_the_size_of_the_graph(make, size):
    images, focus = make(size)
    assert images.shape == (1, size.planes, 3, size.height, size.width)
    assert images.dtype == focus.dtype == np.float32
    assert 0.0 <= images.min() < images.max() <= 1.0
    assert focus.shape == (1, size.planes) and (np.diff(focus) > 0.0).all()


@pytest.mark.parametrize(
    ('largest', 'is_small'), [(1e-6, True), (0.01, False), (float('nan'), False)]
)
def test_large_or_undefined_difference_is_not_small(largest, is_small):
    outputs = [
        OutputDifference('inverse_depth', 1e-6, 1e-7),
        OutputDifference('sigma', largest, 0),
    ]
    assert StackDifferences('random', outputs).is_small is is_small
