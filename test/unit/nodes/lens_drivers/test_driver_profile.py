# SPDX-License-Identifier: Apache-2.0
"""Registry of camera drivers, and their profiles."""

import subprocess
import sys

import pytest

from dualfocus_ros.nodes.lens_drivers import DRIVERS, PROFILES, TOPIC, make_profile
from dualfocus_ros.nodes.lens_drivers.camera_ros import CameraRos
from dualfocus_ros.nodes.lens_drivers.depthai import Depthai
from dualfocus_ros.nodes.lens_drivers.driver_profile import register
from dualfocus_ros.nodes.lens_drivers.v4l2 import V4l2

TABLE = ((0.0, 250.0), (0.0, 5.0))


def test_registry_has_every_driver():
    shipped = {'camera_ros': CameraRos, 'depthai': Depthai, 'v4l2': V4l2}
    assert shipped.items() <= PROFILES.items()
    assert (TOPIC, *sorted(PROFILES)) == DRIVERS


def test_register_adds_a_driver(monkeypatch):
    monkeypatch.delitem(PROFILES, 'v4l2')
    assert register(V4l2) is V4l2
    assert PROFILES['v4l2'] is V4l2


def test_registry_is_usable_without_ros():
    code = 'import sys, dualfocus_ros.nodes.lens_drivers; sys.exit("rclpy" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', code], check=False).returncode == 0


def test_make_profile_by_the_name_of_the_driver():
    values = {
        'calibration.positions': TABLE[0],
        'calibration.dioptres': TABLE[1],
        'driver_prefix': 'left.',
    }
    assert make_profile({'driver': TOPIC, **values}) is None
    assert isinstance(make_profile({'driver': 'camera_ros', **values}), CameraRos)
    assert make_profile({'driver': 'v4l2', **values}).position(2.0) == 100
    assert make_profile({'driver': 'depthai', **values}).position_parameter == 'left.r_focus'


@pytest.mark.parametrize('profile', [V4l2, Depthai])
def test_driver_with_its_own_unit_needs_a_table(profile):
    with pytest.raises(ValueError, match='dualfocus calibrate focus'):
        profile((), ())
    coarse = profile((0.0, 10.0), (0.0, 5.0))
    assert coarse.nearest_dioptres(1.3) == pytest.approx(1.5) and coarse.position(1.3) == 3
    with pytest.raises(ValueError, match='covers 0 to 5'):
        coarse.nearest_dioptres(5.5)


def test_oak_has_codes_from_0_to_255_and_a_prefix():
    with pytest.raises(ValueError, match='0 to 255, got 300'):
        Depthai((0.0, 300.0), (0.0, 1.0))
    assert Depthai(*TABLE, prefix='left.').position_parameter == 'left.r_focus'
