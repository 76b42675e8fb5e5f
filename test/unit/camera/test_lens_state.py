# SPDX-License-Identifier: Apache-2.0
"""Lens targets and readings."""

from dualfocus_ros.camera.lens_state import LensReading, LensState, PlaneTarget


def test_equality_of_targets_ignores_the_stamp():
    assert PlaneTarget(1.0, 2, 3, 4, stamp_ns=5) == PlaneTarget(1.0, 2, 3, 4)
    assert PlaneTarget(1.0) != PlaneTarget(1.5)


def test_plane_id_of_target_and_reading_match():
    target = PlaneTarget(1.0, sweep_id=2, plane_index=3, plane_count=4)
    reading = LensReading(0, 0.9, LensState.MOVING, *target.plane_id)
    assert reading.plane_id == target.plane_id == (2, 3, 4)
    assert reading.moving and not LensReading(0, 0.9).moving
