# SPDX-License-Identifier: Apache-2.0
"""Focus from commands with a settling model, and from a driver's metadata."""

import math

import pytest

from dualfocus_ros.sweep.focus_sources import (
    CommandFocusSource,
    FocusOrder,
    PositionFocusSource,
    SettlingModel,
    lens_position,
)
from dualfocus_ros.sweep.time_synchronizer import LensState

MS = 1_000_000
MOVING, SETTLED = LensState.MOVING, LensState.SETTLED


class TestCommandedFocus:
    def test_before_any_order_nothing_is_known(self):
        focus = CommandFocusSource(SettlingModel())
        assert focus.report(100 * MS) is None
        focus.add_command(FocusOrder(200 * MS, 1.0))
        assert focus.report(199 * MS) is None

    def test_frames_and_seconds_must_both_pass(self):
        focus = CommandFocusSource(SettlingModel(frames=2, seconds=0.25))
        focus.add_command(FocusOrder(1000 * MS, 1.5, sweep_id=4, plane_index=2, plane_count=5))
        reports = [focus.report((1050 + 100 * n) * MS) for n in range(4)]
        assert [r.state for r in reports] == [MOVING, MOVING, SETTLED, SETTLED]
        last = reports[-1]
        assert (last.dioptres, last.sweep_id, last.plane_index, last.plane_count) == (1.5, 4, 2, 5)

    def test_a_frame_from_before_the_newest_order_keeps_the_order_before(self):
        focus = CommandFocusSource(SettlingModel())
        focus.add_command(FocusOrder(1000 * MS, 1.0))
        focus.add_command(FocusOrder(2000 * MS, 2.0))
        assert focus.report(1500 * MS).dioptres == 1.0
        assert focus.report(2500 * MS).dioptres == 2.0

    def test_an_order_that_comes_after_images_taken_later_says_so(self):
        focus = CommandFocusSource(SettlingModel())
        assert focus.add_command(FocusOrder(1000 * MS, 1.0)) == 0
        for stamp in (1100, 1200, 1300):
            focus.report(stamp * MS)
        assert focus.add_command(FocusOrder(1150 * MS, 2.0)) == 2
        assert focus.add_command(FocusOrder(1250 * MS, 2.0)) == 0  # it was there already
        assert focus.add_command(FocusOrder(1400 * MS, 1.0)) == 0

    def test_an_order_to_nowhere_counts_as_one(self):
        focus = CommandFocusSource(SettlingModel(0, 0.0))
        focus.add_command(FocusOrder(1000 * MS, 1.0))
        for at in (1100, 1200, 1300):
            focus.report(at * MS)
        assert focus.add_command(FocusOrder(1150 * MS, math.nan)) == 2
        assert math.isnan(focus.report(1400 * MS).dioptres)
        assert focus.add_command(FocusOrder(1350 * MS, 2.0)) == 0  # nobody was misled by NaN

    def test_a_clock_that_goes_back_forgets_the_orders(self):
        focus = CommandFocusSource(SettlingModel())
        focus.add_command(FocusOrder(5000 * MS, 1.0))
        focus.add_command(FocusOrder(1000 * MS, 2.0))
        assert focus.report(6000 * MS).dioptres == 2.0

    def test_frames_before_the_jump_are_not_counted_after_it(self):
        focus = CommandFocusSource(SettlingModel(frames=1))
        focus.add_command(FocusOrder(1000 * MS, 1.0))
        focus.report(9000 * MS)
        focus.report(9100 * MS)
        assert focus.report(1100 * MS).state == MOVING


class TestReportedFocus:
    def test_where_the_lens_stood_at_first_counts_as_settled(self):
        focus = PositionFocusSource(SettlingModel(frames=2, seconds=1.0))
        assert focus.report(100 * MS, 0.5).state == SETTLED

    def test_a_new_position_is_moving_until_the_model_says_so(self):
        focus = PositionFocusSource(SettlingModel(frames=2, seconds=0.15))
        focus.report(0, 0.5)
        states = [focus.report((100 + 100 * n) * MS, 1.0).state for n in range(4)]
        assert states == [MOVING, MOVING, SETTLED, SETTLED]

    def test_reports_follow_a_clock_that_went_back(self):
        focus = PositionFocusSource(SettlingModel(frames=1))
        focus.report(900 * MS, 0.5)
        focus.report(1000 * MS, 1.0)
        assert focus.report(100 * MS, 1.0).state == SETTLED


@pytest.mark.parametrize(
    ('values', 'expected'),
    [
        ([('AfState', '0'), ('LensPosition', '1.25')], 1.25),
        ([('LensPosition', ' 0.0 ')], 0.0),
        ([('ExposureTime', '10000')], None),
        ([], None),
    ],
)
def test_lens_position_of_libcamera_metadata(values, expected):
    assert lens_position(values) == expected


def test_a_lens_position_that_is_no_number_is_unknown():
    assert math.isnan(lens_position([('LensPosition', 'n/a')]))
