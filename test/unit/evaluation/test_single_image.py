# SPDX-License-Identifier: Apache-2.0
"""Single-image control."""

import numpy as np
import pytest
import torch

from dualfocus_ros.datasets.registry import open_dataset
from dualfocus_ros.evaluation.method_interface import case_from_stack
from dualfocus_ros.evaluation.methods import open_methods
from dualfocus_ros.evaluation.protocols import ProtocolB
from dualfocus_ros.evaluation.single_image import SingleImageRegression
from recorded_stack import recorded_stack

CPU = torch.device('cpu')


def test_single_image_uses_the_middle_plane_only():
    (method,) = open_methods(['single-image:indoor:900,count=12,width=64'], CPU, ProtocolB(5))
    (control,) = open_methods(['range-only'], CPU)
    data = open_dataset('indoor:0,count=3,width=64')
    cases = [ProtocolB(5).render(data[index], data) for index in range(3)]
    errors = {
        m.name: np.mean([np.abs(m.estimate(c).position - c.truth_position).mean() for c in cases])
        for m in (method, control)
    }
    assert errors['single-image'] < 0.9 * errors['range-only']
    other = cases[0].images.copy()
    other[[0, 1, 3, 4]] = 0
    changed = type(cases[0])(**{**vars(cases[0]), 'images': other})
    # No other plane changes the estimate.
    first = method.estimate(cases[0])
    np.testing.assert_array_equal(first.position, method.estimate(changed).position)
    assert first.sigma is None and 'indoor:900' in method.about
    with pytest.raises(ValueError, match='views with truth'):
        SingleImageRegression([case_from_stack(recorded_stack(truth=None))])
