# SPDX-License-Identifier: Apache-2.0
"""``dualfocus optics``: table, JSON, plot, errors."""

import json

import cv2
import numpy as np
import pytest

from dualfocus_ros.camera.thin_lens import Lens
from dualfocus_ros.cli.main import main

LENS = ['--focal-length', '16mm', '--f-number', '1.4', '--pixel-pitch', '11.25um']


def run(capsys, *arguments):
    """Return exit status, output and messages of the command."""
    status = main(['optics', *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_json_of_a_lens(capsys):
    status, out, _ = run(
        capsys, *LENS, '--range', 0.5, 2, '--image-width', 640, '--blur-error', 0.25, '--json'
    )
    assert status == 0
    found = json.loads(out)
    lens = Lens(0.016, 1.4, 1.125e-5)
    assert found['kappa_px_per_dioptre'] == pytest.approx(lens.kappa())
    assert found['range_limit_m'] == pytest.approx(0.1 * lens.kappa() / 0.25)
    assert found['hyperfocal_m'] == pytest.approx(lens.kappa())
    errors = {row['distance_m']: row['error_m'] for row in found['errors']}
    assert (min(errors), max(errors)) == (0.5, 2.0)
    assert errors[1.0] == pytest.approx(0.25 / lens.kappa())
    planes = found['planes_dioptres']
    assert (planes[0], planes[-1]) == (0.5, 2.0)
    assert np.diff(planes).max() <= 4.0 / lens.kappa() + 1e-6
    grown = lens.magnification(2.0, 0.5) - 1.0
    assert found['breathing'] == pytest.approx(grown)
    assert found['breathing_edge_px'] == pytest.approx(320 * grown)


def test_table_contents(capsys):
    status, out, _ = run(capsys, '--preset', 'oak', '--range', 0.2, 'inf')
    assert status == 0
    for text in (
        'IMX378',
        '1.31 px of blur',
        '0.655 m',
        '10%',
        'from infinity to 0.2 m',
        'beyond the limit',
        'more than the depth',
        '[0, 2.5, 5]',
        '7.9 px at the edge',
    ):
        assert text in out


def test_kappa_alone_has_no_breathing(capsys):
    status, out, err = run(capsys, '--kappa', 30, '--range', 0.2, 'inf')
    assert status == 0
    assert 'needs the focal length' in out
    assert '39 planes are more than the 32 of a stack' in err


def test_blur_grows_with_the_pixel_count_of_a_sensor(capsys):
    kappas = [
        json.loads(run(capsys, '--preset', 'phone', '--image-width', w, '--json')[1])[
            'kappa_px_per_dioptre'
        ]
        for w in (640, 1280)
    ]
    assert kappas[1] == pytest.approx(2.0 * kappas[0])


@pytest.mark.parametrize('ends', [(0.2, 3), (0.3, 'inf'), (0.5, 20)])
def test_writes_a_plot(capsys, tmp_path, ends):
    path = tmp_path / 'error.png'
    status, _, err = run(capsys, *LENS, '--range', *ends, '--plot', path)
    assert status == 0
    assert str(path) in err
    picture = cv2.imread(str(path))
    assert picture.shape[0] >= 480
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        ([], 'in one way: --preset NAME'),
        (['--preset', 'oak', '--kappa', '3'], 'in one way'),
        (['--focal-length', '16mm'], 'needed together'),
        (['--focal-length', '16', '--f-number', '1.4', '--pixel-pitch', '1e-5'], '6.8mm'),
        (['--focal-length', '16inch', '--f-number', '1', '--pixel-pitch', '1'], '16mm'),
        (['--kappa', '0'], '--kappa: must be above 0'),
        (['--preset', 'nokia'], 'oak'),
        (['--kappa', '3', '--range', '2', '1'], 'from near to far'),
        (['--kappa', '3', '--blur-error', '0'], '--blur-error: must be above 0'),
        (['--kappa', '3', '--blur', '-1'], '--blur: must be above 0'),
        (['--preset', 'oak', '--image-width', '0'], '--image-width'),
        (['--preset', 'machine25', '--range', '0.02', '1'], 'cannot focus at 50.00 dioptres'),
    ],
)
def test_reports_usage_errors(capsys, arguments, text):
    status, out, err = run(capsys, *arguments)
    assert status == 2
    assert out == ''
    assert text in err
    assert 'Traceback' not in err


def test_reports_an_unwritable_plot(capsys, tmp_path):
    status, _, err = run(capsys, '--kappa', 3, '--plot', tmp_path / 'no' / 'where.png')
    assert status == 1
    assert 'where.png' in err
