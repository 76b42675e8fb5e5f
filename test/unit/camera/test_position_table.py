# SPDX-License-Identifier: Apache-2.0
"""Driver units to dioptres and back."""

import math

import pytest

from dualfocus_ros.camera.position_table import PositionTable

UP = PositionTable((0, 100, 250), (0.0, 0.8, 2.5))
DOWN = PositionTable((900, 500, 100), (0.0, 1.0, 4.0))


@pytest.mark.parametrize('table', [UP, DOWN])
def test_position_and_dioptres_are_inverse(table):
    far, near = table.dioptre_range
    for share in (0.0, 0.1, 0.37, 0.5, 0.93, 1.0):
        dioptres = far + share * (near - far)
        assert table.dioptres(table.position(dioptres)) == pytest.approx(dioptres, abs=1e-12)


def test_linear_between_entries():
    assert UP.position(0.4) == pytest.approx(50.0)
    assert UP.position(0.8 + 0.85) == pytest.approx(175.0)
    assert DOWN.position(2.5) == pytest.approx(300.0)
    assert DOWN.dioptres(700) == pytest.approx(0.5)


def test_whole_positions_stay_inside_the_table():
    table = PositionTable((0.5, 10.5), (0.0, 1.0))
    assert [table.whole_position(d) for d in (0.0, 0.5, 1.0)] == [1, 6, 10]
    assert not math.isnan(table.dioptres(table.whole_position(1.0)))


def test_rejects_focus_beyond_the_table():
    with pytest.raises(ValueError, match=r'3 dioptres are beyond .* covers 0 to 2\.5'):
        UP.position(3.0)
    assert math.isnan(UP.dioptres(251))
    assert UP.position(2.5 + 1e-9) == 250.0  # within rounding


@pytest.mark.parametrize(
    ('positions', 'dioptres', 'text'),
    [
        ((0, 1), (0.0, 1.0, 2.0), '2 positions but 3 dioptres'),
        ((0,), (1.0,), 'at least 2'),
        ((0, 10, 5), (0.0, 1.0, 2.0), r'positions: must increase or decrease strictly'),
        ((0, 5, 10), (0.0, 1.0, 1.0), r'dioptres: must increase or decrease strictly'),
        ((0, math.nan), (0.0, 1.0), 'must be finite'),
    ],
)
def test_rejects_invalid_tables(positions, dioptres, text):
    with pytest.raises(ValueError, match=text):
        PositionTable(positions, dioptres)
