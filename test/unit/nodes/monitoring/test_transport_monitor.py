# SPDX-License-Identifier: Apache-2.0
"""Lost and late images, detected by their camera_info."""

import pytest

from dualfocus_ros.nodes.monitoring.transport_monitor import TransportMonitor

PERIOD = 0.1


def summary_after(count, late=0.002, lost=(), infos=True, image_first=False):
    """Return the summary after ``count`` frames; the frames in ``lost`` have no image."""
    found = TransportMonitor()
    events = []
    for n in range(count):
        at = PERIOD * n
        if infos:
            events.append((at, found.info, n))
        if n not in lost:
            events.append((at - 0.001 if image_first else at + late, found.image, n))
    for at, event, stamp in sorted(events, key=lambda item: item[0]):
        event(stamp, at)
    return found.summary


def test_good_transport_has_no_problem():
    found = summary_after(60)
    assert found.lost == 0.0 and found.late == pytest.approx(0.002)
    assert found.problem is None


def test_image_before_its_info_is_not_late():
    found = summary_after(60, image_first=True)
    assert found.lost == 0.0 and found.late == 0.0 and found.problem is None


def test_lost_images_are_reported():
    found = summary_after(80, lost=range(0, 80, 4))
    # Images of the last second are still pending.
    assert found.lost == pytest.approx(0.25, abs=0.03)
    assert '% of the images are lost on the way' in found.problem
    assert 'fastdds_large_images.xml' in found.problem


def test_late_images_are_reported():
    found = summary_after(60, late=0.3)
    assert found.late == pytest.approx(0.3)
    assert 'images arrive 300 ms after their camera_info' in found.problem


def test_no_result_too_early_or_without_infos():
    assert summary_after(10) is None
    assert summary_after(60, infos=False) is None
    # Infos without images of the same stamp, such as those of a latched topic.
    assert summary_after(60, lost=range(60)) is None


def test_memory_is_bounded():
    found = TransportMonitor()
    for n in range(5000):
        found.image(n, 0.01 * n)
        found.info(-n, 0.01 * n)
    assert len(found._images) <= 100 and len(found._infos) <= 101 and len(found._pairs) <= 100
