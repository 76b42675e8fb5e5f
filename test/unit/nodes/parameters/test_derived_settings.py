# SPDX-License-Identifier: Apache-2.0
"""Settings of the node's parts from its parameters."""

from dualfocus_ros.nodes.parameters.depth_parameters import DepthNodeSettings
from dualfocus_ros.nodes.parameters.derived_settings import (
    assembler_settings,
    estimator_settings,
    settling_model,
)


def test_settings_of_each_part():
    settings = DepthNodeSettings(
        stack_mode='sliding',
        stack_timeout=1.5,
        rectify='off',
        camera_info_policy='latest',
        focus_source='command',
        command_latency_frames=3,
        lens_focal_length=0.016,
        lens_f_number=1.4,
        lens_pixel_pitch=5e-6,
        breathing_model='thin_lens',
    )
    assembler = assembler_settings(settings)
    assert assembler.sliding
    assert assembler.timeout_ns == 1_500_000_000
    assert not assembler.rectify
    assert not assembler.synchronizer.exact_cameras
    assert settling_model(settings).frames == 3
    assert estimator_settings(settings).lens.f_number == 1.4
