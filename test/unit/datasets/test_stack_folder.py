# SPDX-License-Identifier: Apache-2.0
"""Folders of one focal stack: focus, truth and errors."""

import numpy as np
import pytest

from dataset_files import SHAPE, make_image, write_image
from dualfocus_ros.datasets.registry import open_dataset
from dualfocus_ros.datasets.samples import StackSample
from dualfocus_ros.exceptions import DataError


@pytest.mark.parametrize(
    ('file', 'text'),
    [
        ('focus.txt', '# metres\n0.5\n1.0\n2.0\n'),
        ('focus.csv', 'name,metres\n10.png,2.0\n2.png,1.0\n1.png,0.5\n'),
        ('focus.yaml', '{1.png: 0.5, 2.png: 1.0, 10.png: 2.0}'),
        ('focus.yml', 'focus: [0.5, 1.0, 2.0]'),
    ],
)
def test_focus_from_a_file(tmp_path, file, text):
    for name in (1, 2, 10):
        write_image(tmp_path / f'{name}.png', make_image(value=name))
    (tmp_path / file).write_text(text)
    sample = open_dataset(f'stack:{tmp_path}')[0]
    assert sample.images[:, 0, 0, 0].tolist() == [1, 2, 10]
    assert sample.focus.tolist() == [0.5, 1.0, 2.0]


def test_signed_focus_in_names_and_cropped_truth(tmp_path):
    for n, shift in enumerate((-3.3, -0.25, 2.8)):
        write_image(tmp_path / f'f{n:02d}_disp{shift:+.3f}.png', make_image(value=n))
    np.save(tmp_path / 'z.npy', np.full((20, 26), -2.0))
    sample = open_dataset(
        f'stack:{tmp_path},unit=shift,truth=z.npy,truth-scale=-0.5,crop=2:4,border=3'
    )[0]
    assert isinstance(sample, StackSample)
    assert sample.focus.tolist() == [-3.3, -0.25, 2.8]
    expected = np.full(SHAPE, np.nan)
    expected[3:21, 4:29] = 1.0
    np.testing.assert_array_equal(sample.truth, expected)


def test_minus_before_a_whole_number_is_a_dash(tmp_path):
    for n in (1, 2):
        write_image(tmp_path / f'img-{n:03d}.png', make_image())
    assert open_dataset(f'stack:{tmp_path},unit=slices')[0].focus.tolist() == [1.0, 2.0]


def test_invalid_stacks_raise_with_the_reason(tmp_path):
    write_image(tmp_path / 'one_1.0.png', make_image())
    with pytest.raises(DataError, match='2 or more images, found 1'):
        open_dataset(f'stack:{tmp_path}')
    write_image(tmp_path / 'two_1.0.png', make_image())
    with pytest.raises(DataError, match='different focus'):
        open_dataset(f'stack:{tmp_path}')[0]
    write_image(tmp_path / 'two_2.0.png', make_image((8, 8)))
    with pytest.raises(DataError, match='differ in size'):
        open_dataset(f'stack:{tmp_path}')[0]
    (tmp_path / 'focus.txt').write_text('1 2')
    with pytest.raises(DataError, match='2 focus values for 3 images'):
        open_dataset(f'stack:{tmp_path}')
    (tmp_path / 'focus.txt').write_text('1 2 0')
    write_image(tmp_path / 'two_2.0.png', make_image())
    with pytest.raises(DataError, match='must be positive'):
        open_dataset(f'stack:{tmp_path}')[0]
    assert open_dataset(f'stack:{tmp_path},unit=dioptres')[0].focus.tolist() == [1.0, 2.0, 0.0]


def test_pickled_arrays_are_refused(tmp_path):
    for n in (1, 2):
        write_image(tmp_path / f'{n}.0.png', make_image())
    np.save(tmp_path / 'truth.npy', np.array([{'a': 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r'truth\.npy'):
        open_dataset(f'stack:{tmp_path},truth=truth.npy')[0]
