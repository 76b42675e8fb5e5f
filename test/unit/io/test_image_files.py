# SPDX-License-Identifier: Apache-2.0
"""Listing and decoding of image files."""

import cv2
import numpy as np
import pytest

from dualfocus_ros.exceptions import DataError
from dualfocus_ros.io.image_files import list_images, read_pixels, read_rgb


def test_images_are_listed_in_natural_order(tmp_path):
    for name in ('im10.png', 'im2.png', 'IM1.PNG', 'notes.txt', 'a1b10.jpg', 'a1b9.jpg'):
        (tmp_path / name).touch()
    names = [path.name for path in list_images(tmp_path)]
    assert names == ['a1b9.jpg', 'a1b10.jpg', 'IM1.PNG', 'im2.png', 'im10.png']


def test_missing_folders_and_damaged_files_are_named(tmp_path):
    with pytest.raises(DataError, match='gone: no such folder'):
        list_images(tmp_path / 'gone')
    with pytest.raises(DataError, match=r'gone\.png: No such file'):
        read_rgb(tmp_path / 'gone.png')
    for content in (b'', b'text'):
        (tmp_path / 'bad.png').write_bytes(content)
        with pytest.raises(DataError, match=r'bad\.png: damaged or not an image'):
            read_pixels(tmp_path / 'bad.png')


def test_rgb_of_grey_and_of_16_bits(tmp_path):
    grey = np.arange(12, dtype=np.uint16).reshape(3, 4) * 257
    cv2.imwrite(str(tmp_path / 'grey.png'), grey)
    assert read_pixels(tmp_path / 'grey.png').dtype == np.uint16
    rgb = read_rgb(tmp_path / 'grey.png')
    assert np.array_equal(rgb, np.repeat(np.arange(12, dtype=np.uint8).reshape(3, 4, 1), 3, 2))
