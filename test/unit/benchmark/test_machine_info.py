# SPDX-License-Identifier: Apache-2.0
"""Load of the machine."""

from dualfocus_ros.benchmark import machine_info


def test_busy_processors_are_counted():
    busy = machine_info.busy_processors(0.05)
    assert busy is None or 0.0 <= busy <= 1.01 * machine_info.os.cpu_count()
