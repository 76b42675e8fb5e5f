# SPDX-License-Identifier: Apache-2.0
"""Focus from commands with a settling model, and from a driver's metadata."""

import math

from dualfocus_ros.camera.lens_state import LensState, PlaneTarget
from dualfocus_ros.sweep.focus_sources import (
    CommandFocusSource,
    PositionFocusSource,
    SettlingModel,
)

MS = 1_000_000
MOVING, SETTLED = LensState.MOVING, LensState.SETTLED


class TestCommandedFocus:
    def test_before_any_order_nothing_is_known(self):
        focus = CommandFocusSource(SettlingModel())
        assert focus.reading(100 * MS) is None
        focus.add_command(PlaneTarget(1.0, stamp_ns=200 * MS))
        assert focus.reading(199 * MS) is None

    def test_frames_and_seconds_must_both_pass(self):
        focus = CommandFocusSource(SettlingModel(frames=2, seconds=0.25))
        focus.add_command(
            PlaneTarget(1.5, stamp_ns=1000 * MS, sweep_id=4, plane_index=2, plane_count=5)
        )
        reports = [focus.reading((1050 + 100 * n) * MS) for n in range(4)]
        assert [r.state for r in reports] == [MOVING, MOVING, SETTLED, SETTLED]
        last = reports[-1]
        assert (last.dioptres, last.sweep_id, last.plane_index, last.plane_count) == (1.5, 4, 2, 5)

    def test_a_frame_from_before_the_newest_order_keeps_the_order_before(self):
        focus = CommandFocusSource(SettlingModel())
        focus.add_command(PlaneTarget(1.0, stamp_ns=1000 * MS))
        focus.add_command(PlaneTarget(2.0, stamp_ns=2000 * MS))
        assert focus.reading(1500 * MS).dioptres == 1.0
        assert focus.reading(2500 * MS).dioptres == 2.0

    def test_an_order_that_comes_after_images_taken_later_says_so(self):
        focus = CommandFocusSource(SettlingModel())
        assert focus.add_command(PlaneTarget(1.0, stamp_ns=1000 * MS)) == 0
        for stamp in (1100, 1200, 1300):
            focus.reading(stamp * MS)
        assert focus.add_command(PlaneTarget(2.0, stamp_ns=1150 * MS)) == 2
        assert focus.add_command(PlaneTarget(2.0, stamp_ns=1250 * MS)) == 0  # it was there already
        assert focus.add_command(PlaneTarget(1.0, stamp_ns=1400 * MS)) == 0

    def test_an_order_to_nowhere_counts_as_one(self):
        focus = CommandFocusSource(SettlingModel(0, 0.0))
        focus.add_command(PlaneTarget(1.0, stamp_ns=1000 * MS))
        for at in (1100, 1200, 1300):
            focus.reading(at * MS)
        assert focus.add_command(PlaneTarget(math.nan, stamp_ns=1150 * MS)) == 2
        assert math.isnan(focus.reading(1400 * MS).dioptres)
        assert (
            focus.add_command(PlaneTarget(2.0, stamp_ns=1350 * MS)) == 0
        )  # nobody was misled by NaN

    def test_a_clock_that_goes_back_forgets_the_orders(self):
        focus = CommandFocusSource(SettlingModel())
        focus.add_command(PlaneTarget(1.0, stamp_ns=5000 * MS))
        focus.add_command(PlaneTarget(2.0, stamp_ns=1000 * MS))
        assert focus.reading(6000 * MS).dioptres == 2.0

    def test_frames_before_the_jump_are_not_counted_after_it(self):
        focus = CommandFocusSource(SettlingModel(frames=1))
        focus.add_command(PlaneTarget(1.0, stamp_ns=1000 * MS))
        focus.reading(9000 * MS)
        focus.reading(9100 * MS)
        assert focus.reading(1100 * MS).state == MOVING


class TestReportedFocus:
    def test_where_the_lens_stood_at_first_counts_as_settled(self):
        focus = PositionFocusSource(SettlingModel(frames=2, seconds=1.0))
        assert focus.reading(100 * MS, 0.5).state == SETTLED

    def test_a_new_position_is_moving_until_the_model_says_so(self):
        focus = PositionFocusSource(SettlingModel(frames=2, seconds=0.15))
        focus.reading(0, 0.5)
        states = [focus.reading((100 + 100 * n) * MS, 1.0).state for n in range(4)]
        assert states == [MOVING, MOVING, SETTLED, SETTLED]

    def test_reports_follow_a_clock_that_went_back(self):
        focus = PositionFocusSource(SettlingModel(frames=1))
        focus.reading(900 * MS, 0.5)
        focus.reading(1000 * MS, 1.0)
        assert focus.reading(100 * MS, 1.0).state == SETTLED
