# SPDX-License-Identifier: Apache-2.0
"""Each public layout, on small sets that are written here in the same layout."""

import cv2
import numpy as np
import pytest

from dualfocus_ros.datasets.registry import open_dataset
from dualfocus_ros.datasets.samples import RgbdSample, StackSample
from dualfocus_ros.exceptions import DataError

SHAPE = (24, 32)
RNG = np.random.default_rng(3)


def picture(shape=SHAPE, value=None):
    if value is not None:
        return np.full((*shape, 3), value, np.uint8)
    return RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)


def write(path, image):
    """Write RGB, grey or 16-bit pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = image[..., ::-1] if image.ndim == 3 else image
    good, encoded = cv2.imencode(path.suffix, np.ascontiguousarray(image))
    assert good
    path.write_bytes(encoded.tobytes())


def millimetres(shape=SHAPE, hole=True):
    depth = np.linspace(700, 3000, shape[0] * shape[1]).reshape(shape).astype(np.uint16)
    if hole:
        depth[0, 0], depth[0, 1] = 0, 65535
    return depth


def write_exr(path, values):
    openexr = pytest.importorskip('OpenEXR')
    header = {'compression': openexr.ZIP_COMPRESSION, 'type': openexr.scanlineimage}
    with openexr.File(header, {'R': values, 'G': values * 0, 'B': values * 0}) as file:
        file.write(str(path))


def test_nyu_export_pairs_colour_and_depth_and_drops_what_is_too_far(tmp_path):
    far = millimetres()
    far[5, 5] = 12000
    write(tmp_path / 'kitchen' / 'rgb_00002.png', picture())
    write(tmp_path / 'kitchen' / 'sync_depth_00002.png', far)
    write(tmp_path / 'kitchen' / 'rgb_00003.png', picture())  # without depth: left out
    dataset = open_dataset(f'nyu:{tmp_path}')
    assert len(dataset) == 1
    sample = dataset[0]
    assert sample.name == 'kitchen/rgb_00002.png'
    assert sample.depth[3, 3] == pytest.approx(far[3, 3] / 1000)
    assert np.isnan(sample.depth[[0, 0, 5], [0, 1, 5]]).all()


def test_nyu_takes_the_test_list_in_its_order(tmp_path):
    for name in ('a/rgb_00001', 'b/rgb_00001', 'c/rgb_00001'):
        write(tmp_path / 'test' / f'{name}.jpg', picture())
        write(tmp_path / 'test' / f'{name.replace("rgb", "sync_depth")}.png', millimetres())
    rows = [f'{s}/rgb_00001.jpg {s}/sync_depth_00001.png 518.8579' for s in ('c', 'a')]
    (tmp_path / 'nyudepthv2_test_files_with_gt.txt').write_text('\n'.join(rows))
    dataset = open_dataset(f'nyu:{tmp_path}')
    assert [dataset[i].name for i in range(len(dataset))] == [
        'test/c/rgb_00001.jpg',
        'test/a/rgb_00001.jpg',
    ]
    (tmp_path / 'nyudepthv2_test_files_with_gt.txt').write_text('d/rgb_1.jpg d/depth_1.png 518')
    with pytest.raises(DataError, match=r'd/rgb_1\.jpg'):
        open_dataset(f'nyu:{tmp_path}')


def test_nyu_labelled_file_is_transposed_and_split(tmp_path):
    h5py = pytest.importorskip('h5py')
    scipy_io = pytest.importorskip('scipy.io')
    images = [picture() for _ in range(3)]
    with h5py.File(tmp_path / 'nyu_depth_v2_labeled.mat', 'w') as file:
        file['images'] = np.stack([image.transpose(2, 1, 0) for image in images])
        file['depths'] = np.stack([(millimetres() / 1000.0).T + i for i in range(3)])
    path = tmp_path / 'nyu_depth_v2_labeled.mat'
    assert len(open_dataset(f'nyu:{path}')) == 3
    scipy_io.savemat(tmp_path / 'splits.mat', {'testNdxs': np.array([[2], [3]])})
    dataset = open_dataset(f'nyu:{path}')
    assert 'official test split' in dataset.description
    assert len(dataset) == 2
    np.testing.assert_array_equal(dataset[0].colour, images[1])
    assert dataset[0].depth[4, 7] == pytest.approx(millimetres()[4, 7] / 1000 + 1)


@pytest.mark.parametrize('official', [False, True])
def test_ddff12(tmp_path, official):
    h5py = pytest.importorskip('h5py')
    split = 'train' if official else 'val'
    stack = RNG.integers(0, 256, (2, 10, *SHAPE, 3)).astype(np.float32 if official else np.uint8)
    disparity = RNG.uniform(0.02, 0.28, (2, *SHAPE)).astype(np.float32)
    disparity[0, 0, 0] = 0.0
    with h5py.File(tmp_path / 'ddff.h5', 'w') as file:
        file[f'stack_{split}'] = stack
        file[f'disp_{split}'] = disparity[:, None] if official else disparity
        file['stack_test'] = stack
    dataset = open_dataset(f'ddff12:{tmp_path / "ddff.h5"}')
    sample = dataset[0]
    assert len(dataset) == 2 and sample.unit == 'disparity'
    assert sample.focus[[0, -1]] == pytest.approx([0.28, 0.02])
    np.testing.assert_array_equal(sample.images, stack[0].astype(np.uint8))
    assert np.isnan(sample.truth[0, 0]) and sample.truth[3, 3] == disparity[0, 3, 3]
    with pytest.raises(DataError, match='truth is not published'):
        open_dataset(f'ddff12:{tmp_path / "ddff.h5"},split=test')


def test_fod500_keeps_train_and_test_apart_and_clips(tmp_path):
    depth = np.full(SHAPE, 0.4, np.float16)
    depth[0, 0], depth[0, 1] = 2.5, 0.0
    for scene in (399, 400):
        for n in range(5):
            write(tmp_path / f'{scene:06d}_{n:02d}All.tif', picture(value=10 * n))
        write_exr(tmp_path / f'{scene:06d}Dpt.exr', depth)
    dataset = open_dataset(f'fod500:{tmp_path}')
    sample = dataset[0]
    assert len(dataset) == 1 and sample.name == '000400'
    assert sample.images[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40]
    assert sample.focus.tolist() == [0.1, 0.15, 0.3, 0.7, 1.5]
    assert sample.truth[0, 0] == 1.5 and np.isnan(sample.truth[0, 1])
    assert sample.truth[5, 5] == pytest.approx(0.4, abs=1e-3)
    assert open_dataset(f'fod500:{tmp_path},split=train')[0].name == '000399'


def test_arkitscenes_resizes_without_mixing_holes(tmp_path):
    depth = np.full((1440, 1920), 2000, np.uint16)
    depth[:, :960] = 0
    video = tmp_path / 'Validation' / '41048190'
    write(video / 'wide' / '41048190_3414.8.png', picture((1440, 1920), 90))
    write(video / 'highres_depth' / '41048190_3414.8.png', depth)
    sample = open_dataset(f'arkitscenes:{tmp_path}')[0]
    assert sample.colour.shape == (480, 640, 3)
    assert np.isnan(sample.depth[:, :320]).all()
    assert (sample.depth[:, 320:] == 2.0).all()
    (tmp_path / 'short.txt').write_text('41048190/lowres_wide/41048190_3414.8.png x\n')
    assert len(open_dataset(f'arkitscenes:{tmp_path},list=short.txt')) == 1


def test_middlebury_finds_the_files_of_a_list_made_elsewhere(tmp_path):
    scene = tmp_path / 'Adirondack'
    for n in range(15):
        write(scene / f'{n:02d}.png', picture(value=n))
    disparity = np.full(SHAPE, 30.0, np.float32)
    disparity[0, 0] = 80.0
    write_exr(scene / 'disp.exr', disparity)
    names = [f'/their/disk/Adirondack/{n:02d}.png' for n in range(15)]
    row = ' '.join([*names, '/their/disk/Adirondack/AiF.png', '/their/disk/Adirondack/disp.exr'])
    (tmp_path / 'Middlebury_path.txt').write_text(row)
    sample = open_dataset(f'middlebury-fs:{tmp_path}')[0]
    assert sample.name == 'Adirondack' and len(sample.images) == 15
    assert sample.focus[[0, -1]].tolist() == [10.0, 60.0]
    assert np.isnan(sample.truth[0, 0]) and sample.truth[1, 1] == 30.0


@pytest.mark.parametrize(
    ('colour', 'depth'),
    [
        ('image/7.png', 'depth/7.npy'),
        ('frame-7.color.png', 'frame-7.depth.png'),
        ('rgb/first.png', 'depth/other.png'),
    ],
)
def test_any_rgbd_folder(tmp_path, colour, depth):
    values = millimetres(hole=not depth.endswith('npy'))
    write(tmp_path / colour, picture(value=50))
    if depth.endswith('npy'):
        (tmp_path / depth).parent.mkdir()
        np.save(tmp_path / depth, values / 1000.0)
    else:
        write(tmp_path / depth, values)
    sample = open_dataset(f'rgbd:{tmp_path}')[0]
    assert isinstance(sample, RgbdSample)
    assert sample.depth[9, 9] == pytest.approx(values[9, 9] / 1000)
    if not depth.endswith('npy'):
        assert np.isnan(sample.depth[0, :2]).all()


def test_rgbd_folder_whose_pairs_are_unclear_is_refused(tmp_path):
    write(tmp_path / 'image' / 'a.png', picture())
    write(tmp_path / 'image' / 'b.png', picture())
    write(tmp_path / 'depth' / 'c.png', millimetres())
    with pytest.raises(DataError, match='2 colour images and 1 depth maps'):
        open_dataset(f'rgbd:{tmp_path}')


@pytest.mark.parametrize(
    ('file', 'text'),
    [
        ('focus.txt', '# metres\n0.5\n1.0\n2.0\n'),
        ('focus.csv', 'name,metres\n10.png,2.0\n2.png,1.0\n1.png,0.5\n'),
        ('focus.yaml', '{1.png: 0.5, 2.png: 1.0, 10.png: 2.0}'),
        ('focus.yml', 'focus: [0.5, 1.0, 2.0]'),
    ],
)
def test_focus_of_a_stack_from_a_file(tmp_path, file, text):
    for name in (1, 2, 10):
        write(tmp_path / f'{name}.png', picture(value=name))
    (tmp_path / file).write_text(text)
    sample = open_dataset(f'stack:{tmp_path}')[0]
    assert sample.images[:, 0, 0, 0].tolist() == [1, 2, 10]
    assert sample.focus.tolist() == [0.5, 1.0, 2.0]


def test_stack_with_signed_focus_in_names_and_a_cropped_truth(tmp_path):
    for n, shift in enumerate((-3.3, -0.25, 2.8)):
        write(tmp_path / f'f{n:02d}_disp{shift:+.3f}.png', picture(value=n))
    np.save(tmp_path / 'z.npy', np.full((20, 26), -2.0))
    sample = open_dataset(
        f'stack:{tmp_path},unit=shift,truth=z.npy,truth-scale=-0.5,crop=2:4,border=3'
    )[0]
    assert isinstance(sample, StackSample)
    assert sample.focus.tolist() == [-3.3, -0.25, 2.8]
    expected = np.full(SHAPE, np.nan)
    expected[3:21, 4:29] = 1.0
    np.testing.assert_array_equal(sample.truth, expected)


def test_a_minus_before_a_whole_number_is_a_dash(tmp_path):
    for n in (1, 2):
        write(tmp_path / f'img-{n:03d}.png', picture())
    assert open_dataset(f'stack:{tmp_path},unit=slices')[0].focus.tolist() == [1.0, 2.0]


def test_stacks_that_cannot_be_used_say_why(tmp_path):
    write(tmp_path / 'one_1.0.png', picture())
    with pytest.raises(DataError, match='2 or more images, found 1'):
        open_dataset(f'stack:{tmp_path}')
    write(tmp_path / 'two_1.0.png', picture())
    with pytest.raises(DataError, match='different focus'):
        open_dataset(f'stack:{tmp_path}')[0]
    write(tmp_path / 'two_2.0.png', picture((8, 8)))
    with pytest.raises(DataError, match='differ in size'):
        open_dataset(f'stack:{tmp_path}')[0]
    (tmp_path / 'focus.txt').write_text('1 2')
    with pytest.raises(DataError, match='2 focus values for 3 images'):
        open_dataset(f'stack:{tmp_path}')
    (tmp_path / 'focus.txt').write_text('1 2 0')
    write(tmp_path / 'two_2.0.png', picture())
    with pytest.raises(DataError, match='must be positive'):
        open_dataset(f'stack:{tmp_path}')[0]
    assert open_dataset(f'stack:{tmp_path},unit=dioptres')[0].focus.tolist() == [1.0, 2.0, 0.0]


def test_arrays_are_never_unpickled(tmp_path):
    for n in (1, 2):
        write(tmp_path / f'{n}.0.png', picture())
    np.save(tmp_path / 'truth.npy', np.array([{'a': 1}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r'truth\.npy'):
        open_dataset(f'stack:{tmp_path},truth=truth.npy')[0]


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('nyu', 'KIND:FOLDER'),
        ('kitti:/data', 'kinds: synthetic'),
        ('nyu:/not/there', 'no such file or folder'),
        ('synthetic:x', 'expected a seed'),
        ('indoor:0,count=0', 'whole number above 0'),
        ('indoor:0,hight=3', "unknown option 'hight'"),
    ],
)
def test_what_cannot_be_opened_is_refused(text, message):
    with pytest.raises(DataError, match=message):
        open_dataset(text)


def test_a_missing_library_is_named_with_its_remedy(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, 'h5py', None)
    (tmp_path / 'a.h5').write_bytes(b'')
    with pytest.raises(DataError, match='pip install h5py'):
        open_dataset(f'ddff12:{tmp_path / "a.h5"}')


def test_generated_sets_are_the_same_again_and_differ_by_seed():
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
