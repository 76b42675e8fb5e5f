# SPDX-License-Identifier: Apache-2.0
"""Focal stacks from folders: pixels, focus sources and errors."""

from pathlib import Path
import re

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import IFDRational
import pytest

from dualfocus_ros.exceptions import DataError
from dualfocus_ros.io.stack_files import load_stack, read_stack_image, to_uint8

HEIGHT, WIDTH = 24, 32
METRES = (0.5, 1.0, 2.0)


@pytest.fixture(scope='module')
def scene() -> np.ndarray:
    return np.random.default_rng(4).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path: Path, scene: np.ndarray) -> Path:
    """Return images whose natural order is not the alphabetical one."""
    for name in ('im_1.png', 'im_2.png', 'im_10.png'):
        cv2.imwrite(str(tmp_path / name), scene[..., ::-1])
    return tmp_path


@pytest.mark.parametrize(
    'file, text',
    [
        ('focus.txt', '# metres\n0.5\n1.0\n2.0\n'),
        ('focus.csv', 'name,metres\nim_10.png,2.0\nim_2.png,1.0\nim_1.png,0.5\n'),
        ('focus.yaml', '{im_1.png: 0.5, im_2.png: 1.0, im_10.png: 2.0}'),
        ('focus.yml', 'focus: [0.5, 1.0, 2.0]'),
    ],
)
def test_focus_from_the_file_of_the_folder(folder, scene, file, text):
    (folder / file).write_text(text)
    stack = load_stack(folder)
    assert stack.focus_dioptres.tolist() == [2.0, 1.0, 0.5]
    assert np.array_equal(stack.planes[0].image, scene)


def test_focus_from_a_named_file_names_and_numbers(folder):
    (folder / 'positions.txt').write_text('2.0 1.0 0.5')
    named = load_stack(folder, focus='positions.txt', unit='dioptres')
    assert named.focus_dioptres.tolist() == [2.0, 1.0, 0.5]
    assert load_stack(folder, focus='name').focus_dioptres.tolist() == [1.0, 0.5, 0.1]
    assert load_stack(str(folder), focus=METRES).focus_dioptres.tolist() == [2.0, 1.0, 0.5]
    far = load_stack(folder, focus=np.array([1.0, 2.0, np.inf]))
    assert far.focus_dioptres.tolist() == [1.0, 0.5, 0.0]


def test_focus_from_exif(tmp_path, scene):
    for n, metres in enumerate((IFDRational(2, 5), IFDRational(1, 1), IFDRational(0xFFFFFFFF, 1))):
        exif = Image.Exif()
        exif[0x0112] = 6  # orientation: turn by 90 degrees
        exif[0x8769] = {0x9206: metres, 0xA405: 28}
        Image.fromarray(scene).save(tmp_path / f'{n}.jpg', exif=exif)
    stack = load_stack(tmp_path)
    assert stack.focus_dioptres.tolist() == [2.5, 1.0, 0.0]
    assert stack.size == (WIDTH, HEIGHT)
    assert read_stack_image(tmp_path / '0.jpg').focal_length_35mm == 28.0


@pytest.mark.parametrize(
    'options, text',
    [
        ({}, 'im_1.png: no subject distance in EXIF'),
        ({'focus': 'none.txt'}, 'none.txt: cannot be read'),
        ({'focus': [1.0, 2.0]}, '2 focus values for 3 images'),
        ({'focus': [1.0, 2.0, 0.0]}, '0 is not a focus in metres: it must be positive'),
        ({'focus': [1.0, 2.0, -1.0], 'unit': 'dioptres'}, '-1 is not a focus in dioptres'),
        ({'focus': METRES, 'unit': 'feet'}, "unit must be metres or dioptres, got 'feet'"),
        ({'focus': [1.0, 1.0, 1.0]}, 'at least 2 different focus distances'),
    ],
)
def test_focus_that_does_not_fit_is_refused(folder, options, text):
    with pytest.raises(DataError, match=re.escape(text)):
        load_stack(folder, **options)


def test_files_that_do_not_make_a_stack_are_refused(folder, scene):
    with pytest.raises(DataError, match='gone: no such folder'):
        load_stack(folder / 'gone')
    cv2.imwrite(str(folder / 'im_2.png'), scene[1:])
    with pytest.raises(DataError, match='differ in size'):
        load_stack(folder, focus=METRES)
    whole = (folder / 'im_10.png').read_bytes()
    (folder / 'im_2.png').write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r'im_2\.png: damaged or not an image'):
        load_stack(folder, focus=METRES)


def test_images_of_8_and_16_bits_grey_and_colour(tmp_path, scene):
    grey16 = scene[..., 0].astype(np.uint16) * 16  # 12 bits in 16
    cv2.imwrite(str(tmp_path / 'grey16.png'), grey16)
    cv2.imwrite(str(tmp_path / 'colour16.tif'), scene[..., ::-1].astype(np.uint16) * 16)
    Image.fromarray(np.dstack([scene, scene[..., :1]])).save(tmp_path / 'alpha.png')
    Image.fromarray(scene[..., 0]).save(tmp_path / 'grey.png')
    images = {path.stem: read_stack_image(path).pixels for path in tmp_path.iterdir()}
    assert (images['grey16'].dtype, images['grey16'].shape) == (np.uint16, (HEIGHT, WIDTH))
    assert images['colour16'].dtype == np.uint16
    assert np.array_equal(images['alpha'], scene)
    assert np.array_equal(images['grey'], scene[..., 0])

    grey, deep = to_uint8([images['grey'], images['grey16']])
    assert grey.ndim == 2 and deep.dtype == np.uint8
    assert np.abs(deep.astype(int) - scene[..., 0]).max() <= 1
    mixed = to_uint8([images['grey'], images['colour16'], images['alpha']])
    assert [image.shape for image in mixed] == [(HEIGHT, WIDTH, 3)] * 3
    assert np.abs(mixed[1].astype(int) - scene).max() <= 1
