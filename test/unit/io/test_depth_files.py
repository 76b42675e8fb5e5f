# SPDX-License-Identifier: Apache-2.0
"""Depth maps from files and as millimetres."""

import cv2
import numpy as np
import pytest

from dualfocus_ros.exceptions import DataError
from dualfocus_ros.io.depth_files import open_hdf5, read_depth, read_float_map, to_millimetres


def test_png_depth_is_in_millimetres_without_invalid_codes(tmp_path):
    cv2.imwrite(str(tmp_path / 'd.png'), np.array([[0, 1500, 65535]], np.uint16))
    depth = read_depth(tmp_path / 'd.png')
    assert depth.tolist()[0] == pytest.approx([np.nan, 1.5, np.nan], nan_ok=True)


def test_npy_depth_is_in_metres(tmp_path):
    np.save(tmp_path / 'd.npy', np.array([[[1.5, -1.0], [np.inf, 0.0]]]))
    expected = np.float32([[1.5, np.nan], [np.nan, np.nan]])
    assert np.array_equal(read_depth(tmp_path / 'd.npy'), expected, equal_nan=True)
    assert read_float_map(tmp_path / 'd.npy', scale=2.0)[0].tolist() == [3.0, -2.0]


def test_unreadable_maps_are_refused(tmp_path):
    np.save(tmp_path / 'cube.npy', np.zeros((2, 3, 4)))
    with pytest.raises(DataError, match='expected one value per pixel'):
        read_float_map(tmp_path / 'cube.npy')
    (tmp_path / 'text.npy').write_text('text')
    with pytest.raises(DataError, match='cannot be read as a NumPy array'):
        read_float_map(tmp_path / 'text.npy')
    with pytest.raises(DataError, match='no such file'):
        open_hdf5(tmp_path / 'gone.mat')


def test_millimetres_are_0_for_invalid_and_distant_pixels():
    depth = np.float32([0.0004, 0.0006, 1.2344, 65.535, 65.536, -1.0, np.nan, np.inf, -np.inf])
    assert to_millimetres(depth).tolist() == [0, 1, 1234, 65535, 0, 0, 0, 0, 0]
    assert to_millimetres(depth).dtype == np.uint16
