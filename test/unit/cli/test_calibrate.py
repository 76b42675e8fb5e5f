# SPDX-License-Identifier: Apache-2.0
"""``dualfocus calibrate`` on bags of the simulated camera: the true lens within 2 per cent."""

import json

import cv2
import numpy as np
from PIL import Image
import pytest
import yaml

from lens_bench import (
    plane_camera,
    settled_images,
    target_camera,
    write_settled_bag,
    write_sweep_bag,
)

pytest.importorskip('rclpy', reason='needs the message classes')

import rclpy
from rclpy.context import Context
from rclpy.node import Node

from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.cli.bag_arguments import add_parameter_arguments, parameters_from
from dualfocus_ros.cli.main import main
from dualfocus_ros.nodes.parameters import sweep_parameters
from dualfocus_ros.nodes.parameters.derived_settings import estimator_settings
from dualfocus_ros.nodes.parameters.parameter_declaration import declare_parameters

WITHIN = 0.02
LENS = Lens(0.016, 1.4, 7.2e-3 / 640)


def calibrate(*words):
    return main(['calibrate', *[str(word) for word in words]])


def parameters(path):
    return yaml.safe_load(path.read_text())['/**']['ros__parameters']


def depth_node_settings(path):
    """Return the settings of the depth node with a parameter file."""
    import argparse

    parser = argparse.ArgumentParser()
    add_parameter_arguments(parser)
    return parameters_from(parser.parse_args(['--params-file', str(path)])).settings


def sweep_node_parameters(path):
    """Return the parameters of the sweep node with a parameter file."""
    context = Context()
    rclpy.init(context=context)
    try:
        node = Node(
            'focus_sweep', context=context, cli_args=['--ros-args', '--params-file', str(path)]
        )
        try:
            return declare_parameters(node, sweep_parameters.PARAMETERS)
        finally:
            node.destroy_node()
    finally:
        rclpy.shutdown(context=context)


def is_picture(path):
    pixels = np.asarray(Image.open(path))
    return pixels.shape[0] > 300 and pixels.shape[1] > 500 and pixels.std() > 10


@pytest.fixture(scope='module')
def sweep(tmp_path_factory):
    """A bag of images at rest at 12 settings, the target at 0.8 m."""
    path = tmp_path_factory.mktemp('bags') / 'sweep'
    return write_settled_bag(path, target_camera(640, 0.8), np.linspace(0.3, 2.4, 12))


@pytest.fixture(scope='module')
def breathing(sweep, tmp_path_factory):
    """Parameter file and exit status of calibrate breathing."""
    path = tmp_path_factory.mktemp('results') / 'breathing.yaml'
    return path, calibrate('breathing', sweep, '-o', path)


def test_breathing(breathing):
    path, status = breathing
    assert status == 0 and is_picture(path.with_suffix('.png'))
    settings = estimator_settings(depth_node_settings(path))
    q = np.linspace(0.3, 2.4, 12)
    found = np.array([settings.image_scale(focus) for focus in q]) - 1.0
    true = np.array([LENS.magnification(focus, 0.0) for focus in q]) - 1.0
    off = np.abs(found / true - 1.0).max()
    g1 = settings.breathing_coefficients[0]
    print(f'breathing: g1 {g1:.6f}, true {LENS.focal_length}; scale - 1 off by {off:.2%} at most')
    assert off < WITHIN and abs(g1 / LENS.focal_length - 1.0) < WITHIN
    assert np.abs(settings.breathing_centre_drift).max() * 640 < 0.02  # px per dioptre


@pytest.mark.parametrize('method', ['edge', 'texture'])
def test_lens(sweep, breathing, tmp_path, capsys, method):
    path = tmp_path / 'lens.yaml'
    lens = ('--focal-length', '16mm', '--f-number', '1.4', '--pixel-pitch', '11.25um')
    given = ('--method', method, '--breathing', breathing[0], *lens, '--distance', '0.8')
    assert calibrate('lens', sweep, '-o', path, *given, '--json') == 0
    result = json.loads(capsys.readouterr().out)
    kappa = depth_node_settings(path).lens_kappa
    with capsys.disabled():
        print(
            f'\nlens ({method}): kappa {kappa:.3f}, true {LENS.kappa():.3f} '
            f'({kappa / LENS.kappa() - 1.0:+.2%}); f/{result["f_number"]:.3f}; target at '
            f'{1.0 / result["focus_dioptres"]:.3f} m, true 0.8 m'
        )
    assert kappa == pytest.approx(LENS.kappa(), rel=WITHIN)
    assert result['f_number'] == pytest.approx(1.4, rel=WITHIN)
    assert 1.0 / result['focus_dioptres'] == pytest.approx(0.8, rel=WITHIN)
    assert result['warnings'] == [] and is_picture(tmp_path / 'lens.png')


def test_kappa_without_breathing_is_that_at_the_target(sweep, tmp_path, capsys):
    assert calibrate('lens', sweep, '-o', tmp_path / 'a.yaml', '--json', '--distance', 0.7) == 0
    result = json.loads(capsys.readouterr().out)
    assert result['kappa'] == pytest.approx(LENS.kappa(1.25), rel=WITHIN)
    assert 'the focus scale is off' in result['warnings'][0]  # placed at 0.8 m


def test_focus(tmp_path, capsys):
    sources = []
    for distance in (0.45, 0.6, 1.0, 2.2):
        camera = target_camera(320, distance, near_limit=3.0)
        path = write_settled_bag(tmp_path / f'at_{distance}', camera, np.linspace(0.05, 2.95, 24))
        sources.append(f'{distance}={path}')
    assert calibrate('focus', *sources, '-o', tmp_path / 'focus.yaml') == 0
    values = sweep_node_parameters(tmp_path / 'focus.yaml')
    positions, dioptres = (np.array(values[f'calibration.{n}']) for n in ('positions', 'dioptres'))
    assert len(positions) == len(dioptres) >= 2
    assert np.all(np.diff(positions) > 0) and np.all(np.diff(dioptres) > 0)
    # The simulated driver counts thousandths of a dioptre.
    off = np.abs(dioptres / (positions / 1000.0) - 1.0).max()
    slope = 1000.0 * np.ptp(dioptres) / np.ptp(positions)
    with capsys.disabled():
        print(
            f'\nfocus: {positions[0]:.0f} to {positions[-1]:.0f} units, off by {off:.2%} at '
            f'most; slope {slope:.4f}, true 1'
        )
    assert off < WITHIN and slope == pytest.approx(1.0, rel=WITHIN)
    assert is_picture(tmp_path / 'focus.png')


def test_settling(tmp_path, capsys):
    camera = target_camera(320, 2.5, settling_time=0.12, latency=0.04)
    # The camera blends cached renderings while the lens moves; cache enough of them.
    settled_images(camera, np.arange(0.0, 2.5, 0.5 / camera.lens.kappa()))
    path = write_sweep_bag(tmp_path / 'steps', camera, np.linspace(0.0, 2.5, 6))
    assert calibrate('settling', path, '-o', tmp_path / 'settling.yaml', '--json') == 0
    result = json.loads(capsys.readouterr().out)
    with capsys.disabled():
        print(
            f'\nsettling: {result["settling_time"]:.4f} s, true 0.16 s '
            f'({result["settling_time"] / 0.16 - 1.0:+.2%}), hysteresis '
            f'{result["hysteresis_dioptres"]:+.4f}, true 0'
        )
    assert result['settling_time'] == pytest.approx(0.16, rel=WITHIN)
    assert abs(result['hysteresis_dioptres']) < 0.005
    settings = depth_node_settings(tmp_path / 'settling.yaml')
    assert settings.command_settling_time == pytest.approx(0.16, rel=WITHIN)
    assert settings.command_latency_frames == 2  # 0.04 s and the first tenth, at 30 Hz
    swept = sweep_node_parameters(tmp_path / 'settling.yaml')
    # The simulated camera reports arrival correctly.
    assert (swept['settle_frames'], swept['settle_time']) == (1, 0.0)
    assert 0.16 < swept['model_time'] < 0.3
    assert is_picture(tmp_path / 'settling.png')


def test_hysteresis_of_a_lens_without_reports(tmp_path, capsys):
    camera = target_camera(160, 2.5, settling_time=0.1, latency=0.0)
    settled_images(camera, np.arange(0.0, 2.5, 0.5 / camera.lens.kappa()))
    path = write_sweep_bag(
        tmp_path / 'steps',
        camera,
        np.linspace(0.0, 2.4, 5),
        hysteresis=0.05,
        reports='none',
        sweeps=3,
    )
    assert calibrate('settling', path, '-o', tmp_path / 's.yaml') == 0
    output = capsys.readouterr()
    assert 'sawtooth' in output.err and 'hysteresis: +0.0' in output.out
    values = parameters(tmp_path / 's.yaml')
    assert values['settle_time'] == values['command.settling_time'] > 0.08
    assert values['settle_frames'] == values['command.latency_frames'] + 1


def test_settling_from_camera_ros_metadata(tmp_path):
    camera = target_camera(160, 2.5, settling_time=0.12, latency=0.0)
    settled_images(camera, np.arange(0.0, 2.5, 0.5 / camera.lens.kappa()))
    path = write_sweep_bag(
        tmp_path / 'steps', camera, np.linspace(0.0, 2.5, 6), reports='camera_ros', sweeps=3
    )
    assert calibrate('settling', path, '-o', tmp_path / 's.yaml') == 0
    settings = depth_node_settings(tmp_path / 's.yaml')
    assert parameters(tmp_path / 's.yaml').keys().isdisjoint({'command.settling_time'})
    # Counted from the first frame with the new position, up to a frame after the command.
    assert 0.12 - 1 / 30 < settings.camera_ros_settling_time < 0.125
    assert settings.camera_ros_latency_frames <= 2


def write_images(folder, camera, focus):
    """Write a folder of images named by their focus."""
    folder.mkdir()
    for image in settled_images(camera, focus):
        cv2.imwrite(str(folder / f'focus_{image.dioptres:.3f}.png'), image.pixels[..., ::-1])
    return folder


@pytest.fixture(scope='module')
def floor(tmp_path_factory):
    """A bag of an oblique sweep of a camera with field curvature."""
    camera = plane_camera(320, 1.25, (0.1, 0.6), field_curvature=(0.3, 0.0))
    path = tmp_path_factory.mktemp('bags') / 'floor'
    return write_settled_bag(path, camera, np.linspace(0.1, 2.4, 15))


def test_field(floor, tmp_path, capsys):
    path = tmp_path / 'field.yaml'
    assert calibrate('field', floor, '-o', path, '--json') == 0
    result = json.loads(capsys.readouterr().out)
    c2, c4 = estimator_settings(depth_node_settings(path)).field_curvature
    assert [c2, c4] == pytest.approx(result['coefficients'], abs=1e-6)
    with capsys.disabled():
        print(
            f'\nfield: c2 {c2:+.4f} (standard error {result["errors"][0]:.4f}), true 0.3; '
            f'{result["before_dioptres"]:.4f} dioptres off a plane before, '
            f'{result["after_dioptres"]:.4f} after'
        )
    # The measured image is 2 % larger than at infinity, and the field with it.
    assert c2 == pytest.approx(0.3 / 1.02**2, rel=0.03) and c4 == 0.0
    assert result['errors'][1] is None and result['errors'][0] < 0.005
    assert result['before_dioptres'] > 0.05 and result['after_dioptres'] < 0.01
    assert is_picture(tmp_path / 'field.png')


def test_field_of_two_sweeps_with_a_fourth_power(tmp_path, capsys):
    folders = [
        write_images(
            tmp_path / f'{number}',
            plane_camera(320, at, slant, field_curvature=(0.3, -0.2), breathing=False),
            np.linspace(0.1, 2.4, 15),
        )
        for number, (at, slant) in enumerate([(1.25, (0.5, 0.0)), (1.0, (0.0, 0.4))])
    ]
    path = tmp_path / 'field.yaml'
    assert calibrate('field', *folders, '-o', path, '--region', '20,0,300,240') == 0
    c2, c4 = parameters(path)['lens.field_curvature']
    assert (c2, c4) == pytest.approx((0.3, -0.2), abs=0.03)
    assert c2 + c4 == pytest.approx(0.1, abs=0.02)
    said = capsys.readouterr().out
    assert 'standard error' in said and '2 targets' in said and 'before' in said


def test_refuses_data_that_do_not_determine_the_field(floor, tmp_path, capsys):
    middle = ('field', floor, '--region', '110,80,100,80')
    assert 'a range of at least 0.4' in refused(tmp_path, capsys, *middle)
    away = write_images(tmp_path / 'away', plane_camera(320, 1.25), np.linspace(1.6, 2.4, 8))
    assert 'at an end of the sweep' in refused(tmp_path, capsys, 'field', away)
    few = write_images(tmp_path / 'few', plane_camera(160, 1.25), [1.0, 1.25, 1.5])
    assert '3 focus settings' in refused(tmp_path, capsys, 'field', few)
    plain = tmp_path / 'plain'
    plain.mkdir()
    noise = np.random.default_rng(0)
    for focus in np.linspace(0.2, 2.4, 8):
        pixels = noise.normal(120.0, 2.0, (120, 160, 3)).clip(0, 255).astype(np.uint8)
        cv2.imwrite(str(plain / f'focus_{focus:.3f}.png'), pixels)
    assert '40 are needed' in refused(tmp_path, capsys, 'field', plain)
    assert 'differ in the size' in refused(
        tmp_path,
        capsys,
        'field',
        floor,
        write_images(
            tmp_path / 'small', plane_camera(240, 1.25, (0.0, 0.3)), np.linspace(0.4, 2.2, 9)
        ),
    )


def test_folder_of_images_named_by_focus(tmp_path, capsys):
    folder = tmp_path / 'images'
    folder.mkdir()
    for image in settled_images(target_camera(320, 0.7), np.linspace(0.2, 2.5, 9)):
        name = folder / f'shot_7_{image.dioptres:.3f}.png'
        cv2.imwrite(str(name), image.pixels[..., ::-1])
    out = tmp_path / 'b.yaml'
    assert calibrate('breathing', folder, '-o', out, '--json') == 0
    g1 = json.loads(capsys.readouterr().out)['coefficients'][0]
    assert g1 == pytest.approx(0.016, rel=0.04)
    numbers = tmp_path / 'numbers.txt'
    numbers.write_text('\n'.join(f'{q}' for q in np.linspace(0.2, 2.5, 9)))
    assert calibrate('lens', folder, '-o', tmp_path / 'l.yaml', '--values', numbers, '--json') == 0
    assert json.loads(capsys.readouterr().out)['kappa'] == pytest.approx(8.22, rel=0.04)
    assert calibrate('lens', folder, '-o', tmp_path / 'm.yaml', '--values', 1, 2) == 2
    assert '2 numbers for 9 images' in capsys.readouterr().err


def test_pairs_from_a_file(tmp_path, capsys):
    pairs = tmp_path / 'pairs.csv'
    distances = (0.2, 0.3, 0.5, 1.0, 3.0)
    rows = [f'{round((1 / s + 0.2) * 40)}, {s}' for s in distances]
    pairs.write_text('position, distance\n' + '\n'.join(rows) + '  # the wall\n')
    assert calibrate('focus', pairs, '-o', tmp_path / 'focus.yaml') == 0
    values = parameters(tmp_path / 'focus.yaml')
    found = np.interp(100, values['calibration.positions'], values['calibration.dioptres'])
    assert found == pytest.approx(100 / 40 - 0.2, rel=0.01)
    assert 'residual' in capsys.readouterr().out


def refused(tmp_path, capsys, *words, status=1):
    assert calibrate(*words, '-o', tmp_path / 'no.yaml') == status
    assert not list(tmp_path.glob('no.*'))
    error = capsys.readouterr().err
    assert 'Traceback' not in error
    return error


def test_refuses_data_without_writing_files(sweep, tmp_path, capsys):
    few = write_settled_bag(tmp_path / 'few', target_camera(160, 0.8), [0.5, 1.25, 2.0])
    assert '3 focus settings' in refused(tmp_path, capsys, 'breathing', few)
    assert '3 focus settings' in refused(tmp_path, capsys, 'lens', few)
    assert '3 lens positions' in refused(tmp_path, capsys, 'focus', f'0.8={few}', f'1={few}')
    assert 'whole steps' in refused(tmp_path, capsys, 'settling', few)
    pairs = tmp_path / 'pairs.txt'
    pairs.write_text('1 0.5\n2 0.6\n')
    assert '2 different distances' in refused(tmp_path, capsys, 'focus', pairs)
    pairs.write_text('1 0.5\nx 0.6\n')
    assert 'line 2' in refused(tmp_path, capsys, 'focus', pairs, status=2)
    assert 'does not exist' in refused(tmp_path, capsys, 'lens', tmp_path / 'nowhere')
    assert 'DISTANCE=SWEEP' in refused(tmp_path, capsys, 'focus', 'a=b', 'c', status=2)
    wrong = ('lens', sweep, '--region', '1,2,3')
    assert '--region: expected X,Y,W,H' in refused(tmp_path, capsys, *wrong, status=2)
    outside = ('lens', sweep, '--region', '600,0,100,100')
    assert 'must lie in the image of 640 x 480' in refused(tmp_path, capsys, *outside)


@pytest.mark.parametrize('kind', ['focus', 'breathing', 'settling', 'lens', 'field'])
def test_help_says_what_to_record(kind, capsys):
    assert calibrate(kind, '--help') == 0
    text = capsys.readouterr().out
    assert 'what to record:' in text and 'target' in text and 'result:' in text
