# SPDX-License-Identifier: Apache-2.0
"""Lens readings from commands and from positions, by a settling model."""

import math

from dualfocus_ros.camera.lens_state import LensState, PlaneTarget
from dualfocus_ros.sweep.focus_sources import (
    CommandFocusSource,
    PositionFocusSource,
    SettlingModel,
)

MS = 1_000_000
MOVING, SETTLED = LensState.MOVING, LensState.SETTLED


class TestCommandFocusSource:
    def test_no_reading_before_the_first_command(self):
        focus = CommandFocusSource(SettlingModel())
        assert focus.reading(100 * MS) is None
        focus.add_command(PlaneTarget(1.0, stamp_ns=200 * MS))
        assert focus.reading(199 * MS) is None

    def test_settles_after_both_frames_and_seconds(self):
        focus = CommandFocusSource(SettlingModel(frames=2, seconds=0.25))
        focus.add_command(
            PlaneTarget(1.5, stamp_ns=1000 * MS, sweep_id=4, plane_index=2, plane_count=5)
        )
        reports = [focus.reading((1050 + 100 * n) * MS) for n in range(4)]
        assert [r.state for r in reports] == [MOVING, MOVING, SETTLED, SETTLED]
        last = reports[-1]
        assert (last.dioptres, last.sweep_id, last.plane_index, last.plane_count) == (1.5, 4, 2, 5)

    def test_frame_belongs_to_the_last_command_before_it(self):
        focus = CommandFocusSource(SettlingModel())
        focus.add_command(PlaneTarget(1.0, stamp_ns=1000 * MS))
        focus.add_command(PlaneTarget(2.0, stamp_ns=2000 * MS))
        assert focus.reading(1500 * MS).dioptres == 1.0
        assert focus.reading(2500 * MS).dioptres == 2.0

    def test_counts_frames_newer_than_a_late_command(self):
        focus = CommandFocusSource(SettlingModel())
        assert focus.add_command(PlaneTarget(1.0, stamp_ns=1000 * MS)) == 0
        for stamp in (1100, 1200, 1300):
            focus.reading(stamp * MS)
        assert focus.add_command(PlaneTarget(2.0, stamp_ns=1150 * MS)) == 2
        assert focus.add_command(PlaneTarget(2.0, stamp_ns=1250 * MS)) == 0  # an equal position
        assert focus.add_command(PlaneTarget(1.0, stamp_ns=1400 * MS)) == 0

    def test_unknown_position_counts_as_a_command(self):
        focus = CommandFocusSource(SettlingModel(0, 0.0))
        focus.add_command(PlaneTarget(1.0, stamp_ns=1000 * MS))
        for at in (1100, 1200, 1300):
            focus.reading(at * MS)
        assert focus.add_command(PlaneTarget(math.nan, stamp_ns=1150 * MS)) == 2
        assert math.isnan(focus.reading(1400 * MS).dioptres)
        assert (
            focus.add_command(PlaneTarget(2.0, stamp_ns=1350 * MS)) == 0
        )  # frames of NaN were unusable

    def test_clock_jump_forgets_commands(self):
        focus = CommandFocusSource(SettlingModel())
        focus.add_command(PlaneTarget(1.0, stamp_ns=5000 * MS))
        focus.add_command(PlaneTarget(2.0, stamp_ns=1000 * MS))
        assert focus.reading(6000 * MS).dioptres == 2.0

    def test_clock_jump_forgets_frames(self):
        focus = CommandFocusSource(SettlingModel(frames=1))
        focus.add_command(PlaneTarget(1.0, stamp_ns=1000 * MS))
        focus.reading(9000 * MS)
        focus.reading(9100 * MS)
        assert focus.reading(1100 * MS).state == MOVING


class TestPositionFocusSource:
    def test_first_position_is_settled(self):
        focus = PositionFocusSource(SettlingModel(frames=2, seconds=1.0))
        assert focus.reading(100 * MS, 0.5).state == SETTLED

    def test_new_position_moves_until_settled(self):
        focus = PositionFocusSource(SettlingModel(frames=2, seconds=0.15))
        focus.reading(0, 0.5)
        states = [focus.reading((100 + 100 * n) * MS, 1.0).state for n in range(4)]
        assert states == [MOVING, MOVING, SETTLED, SETTLED]

    def test_clock_jump_forgets_the_position(self):
        focus = PositionFocusSource(SettlingModel(frames=1))
        focus.reading(900 * MS, 0.5)
        focus.reading(1000 * MS, 1.0)
        assert focus.reading(100 * MS, 1.0).state == SETTLED
