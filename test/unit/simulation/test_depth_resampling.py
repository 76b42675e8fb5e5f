# SPDX-License-Identifier: Apache-2.0
"""Resampling and hole filling of depth maps."""

import numpy as np
import pytest

from dualfocus_ros.simulation.depth_resampling import fill_holes, resample_depth


class TestDepthResampling:
    def test_slanted_plane_is_exact(self):
        rows, columns = np.mgrid[0:40, 0:50]
        depth = (1.0 / (0.5 + 0.01 * rows + 0.004 * columns)).astype(np.float32)
        y, x = np.linspace(3.2, 35.7, 40), np.linspace(2.3, 44.4, 50)
        expected = 1.0 / (0.5 + 0.01 * y[:, None] + 0.004 * x[None, :])
        assert np.allclose(resample_depth(depth, y, x), expected, rtol=1e-5)

    def test_edges_and_holes_are_not_interpolated(self):
        depth = np.full((30, 40), 2.0, np.float32)
        depth[8:20, 10:30] = 1.0
        depth[12:14, 15:17] = np.nan
        depth[25, 5] = 0.5
        y, x = np.linspace(0.0, 29.0, 57), np.linspace(0.0, 39.0, 83)
        result = resample_depth(depth, y, x)
        known = result[np.isfinite(result)]
        assert np.all(np.min(np.abs(known[:, None] - [0.5, 1.0, 2.0]), axis=1) < 1e-5)
        assert np.isnan(result).any()

    def test_holes_take_the_nearest_depth(self):
        depth = np.full((5, 8), 1.0)
        depth[:, 4:] = 3.0
        depth[2, 1] = depth[2, 6] = np.nan
        filled = fill_holes(depth)
        assert filled[2, 1] == 1.0 and filled[2, 6] == 3.0
        with pytest.raises(ValueError, match='no valid pixel'):
            fill_holes(np.full((3, 3), np.nan))
        row = np.array([[1.0, np.nan, np.nan, np.nan, 5.0]], np.float32).repeat(3, axis=0)
        assert fill_holes(row)[1].tolist()[:2] == [1.0, 1.0]
        assert fill_holes(row)[1].tolist()[3:] == [5.0, 5.0]
