# SPDX-License-Identifier: Apache-2.0
"""Compatibility of the quality of service of publishers and subscriptions."""

import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')

from rclpy.duration import Duration
from rclpy.qos import (
    DurabilityPolicy,
    LivelinessPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)

from dualfocus_ros.nodes.qos import incompatible_policies

KEPT, MANUAL = DurabilityPolicy.TRANSIENT_LOCAL, LivelinessPolicy.MANUAL_BY_TOPIC


def profile(**policies):
    return QoSProfile(depth=1, **policies)


PROFILES = [
    profile(),
    profile(reliability=ReliabilityPolicy.BEST_EFFORT),
    profile(durability=KEPT),
    profile(deadline=Duration(seconds=1)),
    profile(deadline=Duration(seconds=2)),
    profile(liveliness=MANUAL),
    profile(liveliness_lease_duration=Duration(seconds=1)),
    profile(liveliness_lease_duration=Duration(seconds=3)),
]


@pytest.mark.parametrize('offered', PROFILES)
@pytest.mark.parametrize('asked', PROFILES)
def test_agrees_with_the_middleware(offered, asked):
    verdict, _ = qos_check_compatible(offered, asked)
    assert bool(incompatible_policies(offered, asked)) == (verdict == QoSCompatibility.ERROR)


def test_names_the_policy():
    offered = profile(reliability=ReliabilityPolicy.BEST_EFFORT)
    (text,) = incompatible_policies(offered, profile())
    assert text.startswith('RELIABILITY best effort')
