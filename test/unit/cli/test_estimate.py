# SPDX-License-Identifier: Apache-2.0
"""``dualfocus estimate``: files, focus options, errors."""

import json
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import IFDRational
import pytest

from dualfocus_ros.cli.main import main

HEIGHT, WIDTH = 96, 128
DISTANCES = ['0.4', '0.6', '1.0', '2.0']


@pytest.fixture(scope='module')
def scene() -> np.ndarray:
    rng = np.random.default_rng(4)
    noise = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    coarse = cv2.resize(noise[:12, :16], (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    return (0.5 * noise + 0.5 * coarse).astype(np.uint8)


@pytest.fixture
def folder(tmp_path: Path, scene: np.ndarray) -> Path:
    """Return a folder of four frames of a wall at the second of four focus distances."""
    path = tmp_path / 'frames'
    path.mkdir()
    for n, blur in enumerate((1.2, 0.3, 1.2, 2.0)):
        image = cv2.GaussianBlur(scene, (0, 0), blur)
        cv2.imwrite(str(path / f'frame_{n + 8}.png'), image[..., ::-1])  # 8, 9, 10, 11
    return path


def failure(capsys, *arguments: str) -> tuple[int, str]:
    """Run the command; return its status and the single line that it printed as the error."""
    status = main(['estimate', *arguments])
    output = capsys.readouterr()
    assert 'Traceback' not in output.err
    lines = [line for line in output.err.splitlines() if line.startswith('dualfocus: error: ')]
    assert len(lines) == 1, output.err
    assert output.out == ''
    return status, lines[0]


def test_writes_all_files(folder, tmp_path, capsys):
    out = tmp_path / 'new' / 'out'
    status = main(
        [
            'estimate',
            str(folder),
            '--focus-distances',
            *DISTANCES,
            '-o',
            str(out),
            '--json',
            '--device',
            'cpu',
            '--intrinsics',
            '100,110,63.5,47.5',
        ]
    )
    summary = json.loads(capsys.readouterr().out)
    assert status == 0
    assert {p.name for p in out.iterdir()} == {
        'depth.npy',
        'sigma.npy',
        'depth.png',
        'depth_color.png',
        'all_in_focus.png',
        'panel.png',
        'cloud.ply',
    }
    depth, sigma = np.load(out / 'depth.npy'), np.load(out / 'sigma.npy')
    assert depth.shape == sigma.shape == (HEIGHT, WIDTH)
    assert depth.dtype == sigma.dtype == np.float32
    valid = np.isfinite(depth)
    assert not np.isinf(depth).any()
    assert np.array_equal(valid, np.isfinite(sigma))
    assert (sigma[valid] > 0).all()
    # The wall is sharpest in the second frame, focused at 0.6 m.
    assert np.median(depth[valid]) == pytest.approx(0.6, rel=0.25)

    millimetres = cv2.imread(str(out / 'depth.png'), cv2.IMREAD_UNCHANGED)
    assert millimetres.dtype == np.uint16
    assert np.array_equal(millimetres > 0, valid)
    assert np.abs(millimetres[valid] / 1000.0 - depth[valid]).max() <= 0.00051
    assert cv2.imread(str(out / 'all_in_focus.png')).shape == (HEIGHT, WIDTH, 3)

    data = (out / 'cloud.ply').read_bytes()
    header, body = data.split(b'end_header\n', 1)
    assert f'element vertex {valid.sum()}'.encode() in header
    vertices = np.frombuffer(body, np.dtype([('p', '<f4', 3), ('c', 'u1', 3)]))
    v, u = np.nonzero(valid)
    expected = np.stack([(u - 63.5) / 100, (v - 47.5) / 110, np.ones(len(u))], 1)
    assert np.allclose(vertices['p'], expected * depth[valid][:, None], rtol=1e-5)
    assert (summary['planes'], summary['points']) == (4, int(valid.sum()))
    assert summary['reference'] == 0


def test_dioptres_and_distances_agree(folder, tmp_path):
    numbers = tmp_path / 'focus.txt'
    numbers.write_text('# metres\n0.4, 0.6\n1.0  # the wall\n2\n')
    common = [str(folder), '--no-align', '--device', 'cpu', '--quiet']
    dioptres = [str(1 / float(d)) for d in DISTANCES]
    assert (
        main(['estimate', *common, '-o', str(tmp_path / 'a'), '--focus-dioptres', *dioptres]) == 0
    )
    assert (
        main(['estimate', *common, '-o', str(tmp_path / 'b'), '--focus-distances', str(numbers)])
        == 0
    )
    one, two = np.load(tmp_path / 'a/depth.npy'), np.load(tmp_path / 'b/depth.npy')
    assert np.allclose(one, two, rtol=1e-4, equal_nan=True)


def test_images_may_follow_the_distances(folder, tmp_path, capsys):
    out = tmp_path / 'out'
    out.mkdir()
    (out / 'notes.txt').write_text('mine')
    (out / 'depth.npy').write_text('old')
    files = [str(folder / f'frame_{n}.png') for n in (8, 9, 10, 11)]
    status = main(
        ['estimate', '-o', str(out), '--device', 'cpu', '--focus-distances', *DISTANCES, *files]
    )
    assert status == 0
    assert 'field of view of 60 degrees' in capsys.readouterr().err
    assert (out / 'notes.txt').read_text() == 'mine'
    assert np.load(out / 'depth.npy').shape == (HEIGHT, WIDTH)
    assert not list(out.glob('.partial*'))


def test_uses_32_evenly_spaced_images(folder, tmp_path, scene, capsys):
    for file in folder.iterdir():
        file.unlink()
    for n in range(40):
        small = cv2.GaussianBlur(scene[:64, :64], (0, 0), 0.3 + abs(n - 20) / 10)
        cv2.imwrite(str(folder / f'{n}.png'), small)
    focus = [f'{q:.3f}' for q in np.linspace(0.0, 4.0, 40)]
    arguments = ['--focus-dioptres', *focus, '-o', str(tmp_path / 'out'), '--json', '--no-align']
    assert main(['estimate', str(folder), *arguments, '--device', 'cpu']) == 0
    output = capsys.readouterr()
    kept = json.loads(output.out)['focus_dioptres']
    assert '40 images are more than the 32 planes' in output.err
    assert len(kept) == 32
    assert (kept[0], kept[-1]) == (0.0, 4.0)
    assert max(np.diff(kept)) < 0.21


def test_downscales_large_images(folder, tmp_path):
    arguments = ['--focus-distances', *DISTANCES, '-o', str(tmp_path / 'out'), '--device', 'cpu']
    assert main(['estimate', str(folder), *arguments, '--max-pixels', '6000', '--quiet']) == 0
    depth = np.load(tmp_path / 'out/depth.npy')
    assert depth.shape == (HEIGHT, WIDTH)
    assert np.nanmedian(depth) == pytest.approx(0.6, rel=0.25)
    assert cv2.imread(str(tmp_path / 'out/all_in_focus.png')).shape == (HEIGHT, WIDTH, 3)


def test_corrects_field_curvature(folder, tmp_path):
    depths = []
    for number, curvature in enumerate(([], ['--field-curvature', '0.4', '-0.1'])):
        out = tmp_path / str(number)
        given = [str(folder), '--focus-distances', *DISTANCES, '-o', str(out), '--device', 'cpu']
        assert main(['estimate', *given, *curvature]) == 0
        depths.append(np.load(out / 'depth.npy'))
    plain, flattened = depths
    step = 1.0 / flattened - 1.0 / plain
    rows, columns = np.indices(step.shape)
    squared = (rows - (HEIGHT - 1) / 2) ** 2 + (columns - (WIDTH - 1) / 2) ** 2
    squared = squared / (0.25 * (HEIGHT**2 + WIDTH**2))
    known = np.isfinite(step)
    assert known.mean() > 0.5
    expected = 0.4 * squared - 0.1 * squared**2
    np.testing.assert_allclose(step[known], expected[known], atol=0.01)


@pytest.mark.parametrize(
    'arguments, status, text',
    [
        (['--focus-distances', '0.4', '0.6', '1.0'], 2, '3 values for 4 images'),
        (['--focus-distances', '0.4', '0', '1', '2'], 2, '0 is not a focus: it must be positive'),
        (['--focus-distances', '0.4', '-1', '1', '2'], 2, '-1 is not a focus'),
        (['--focus-distances', '0.4', 'nan', '1', '2'], 2, 'nan is not a focus'),
        (['--focus-dioptres', '0.4', '-0.1', '1', '2'], 2, '-0.1 is not a focus: it must be 0'),
        (['--focus-dioptres', '0.4', 'inf', '1', '2'], 2, 'inf is not a focus'),
        (['--focus-dioptres', '1', '1', '1', '1'], 2, 'focused at one distance'),
        (['--focus-distances', '0.4', 'x', '1', '2'], 2, "'x' is not a number"),
        (['--focus-distances', 'no_such.txt'], 2, "'no_such.txt' is neither a number nor"),
        ([], 2, 'frame_8.png has no focus distance in EXIF'),
        (['--focus-distances', *DISTANCES, '--intrinsics', '1,2,3'], 2, "'1,2,3' is not FX,FY"),
        (['--focus-distances', *DISTANCES, '--focal-length', '6.8'], 2, 'needed together'),
        (['--focus-distances', *DISTANCES, '--field-curvature', 'nan', '0'], 2, 'two numbers'),
        (
            [
                '--focus-distances',
                *DISTANCES,
                '--focal-length',
                '6.8',
                '--f-number',
                '1.8',
                '--pixel-pitch',
                '1.4e-6',
            ],
            2,
            'in metres: a 6.8 mm lens is 0.0068',
        ),
        (['--focus-distances', *DISTANCES, '--model', 'no_such'], 1, 'no_such'),
        (['--focus-distances', *DISTANCES, '--device', 'abacus'], 1, 'abacus'),
    ],
)
def test_reports_wrong_options_in_one_line(folder, tmp_path, capsys, arguments, status, text):
    found, line = failure(capsys, str(folder), '-o', str(tmp_path / 'out'), *arguments)
    assert text in line
    assert found == status
    assert not (tmp_path / 'out').exists()


def test_reports_bad_images_in_one_line(folder, tmp_path, capsys, scene):
    out = ['-o', str(tmp_path / 'out'), '--focus-distances', *DISTANCES]
    assert failure(capsys, str(tmp_path / 'gone'), *out)[1].endswith(
        'gone: no such file or folder'
    )

    truncated = folder / 'frame_9.png'
    whole = truncated.read_bytes()
    truncated.write_bytes(whole[: len(whole) // 2])
    status, line = failure(capsys, str(folder), *out)
    assert status == 1 and 'frame_9.png: damaged or not an image' in line
    truncated.write_bytes(b'')
    assert 'frame_9.png: damaged or not an image' in failure(capsys, str(folder), *out)[1]
    truncated.write_text('hello')
    assert 'frame_9.png: damaged or not an image' in failure(capsys, str(folder), *out)[1]

    cv2.imwrite(str(truncated), scene[:-1])
    status, line = failure(capsys, str(folder), *out)
    assert status == 1 and 'frame_8.png has 128x96, frame_9.png 128x95' in line

    one = ['-o', str(tmp_path / 'out'), '--focus-distances', '1']
    assert 'only one image' in failure(capsys, str(folder / 'frame_8.png'), *one)[1]
    (tmp_path / 'empty').mkdir()
    assert 'no images in this folder' in failure(capsys, str(tmp_path / 'empty'), *out)[1]
    (tmp_path / 'out').write_text('a file')
    truncated.write_bytes(whole)
    assert 'exists and is not a folder' in failure(capsys, str(folder), *out)[1]


def test_exif_gives_focus_and_field_of_view(folder, tmp_path, scene, capsys):
    for file in folder.iterdir():
        file.unlink()
    for n, metres in enumerate((IFDRational(2, 5), IFDRational(1, 1), IFDRational(0xFFFFFFFF, 1))):
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned by 90 degrees
        exif[0x8769] = {0x9206: metres, 0xA405: 28}
        image = Image.fromarray(cv2.GaussianBlur(scene, (0, 0), 0.3 + n))
        image.save(folder / f'{n}.jpg', exif=exif, quality=95)
    out = tmp_path / 'out'
    assert main(['estimate', str(folder), '-o', str(out), '--json', '--device', 'cpu']) == 0
    output = capsys.readouterr()
    summary = json.loads(output.out)
    assert summary['focus_dioptres'] == [2.5, 1.0, 0.0]
    assert (summary['width'], summary['height']) == (HEIGHT, WIDTH)  # upright
    assert 'focal length of 104 pixels' in output.err  # 28 / 43.27 * 160
