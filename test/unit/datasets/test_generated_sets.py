# SPDX-License-Identifier: Apache-2.0
"""Generated data sets."""

import numpy as np
import pytest

from dualfocus_ros.datasets.registry import open_dataset


def test_generated_sets_follow_from_the_seed():
    first = open_dataset('synthetic:4,count=2,size=64')
    again, other = open_dataset('synthetic:4,count=2,size=64'), open_dataset('synthetic:5,size=64')
    np.testing.assert_array_equal(first[1].images, again[1].images)
    assert (first[0].images != other[0].images).any()
    truth = 1.0 / first[0].truth
    assert 0.0 < truth.min() < truth.max() <= 5.0
    with pytest.raises(IndexError):
        first[2]
    view = open_dataset('indoor:4,count=1,width=64')[0]
    assert view.colour.shape == (48, 64, 3) and np.isfinite(view.depth).all()
