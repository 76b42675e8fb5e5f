# SPDX-License-Identifier: Apache-2.0
"""Sensor noise and encoding."""

import numpy as np
import pytest

from dualfocus_ros.camera.srgb import decode_srgb8
from dualfocus_ros.simulation.sensor import Sensor


class TestSensor:
    @pytest.mark.parametrize('level', [0.02, 0.2, 0.7])
    def test_noise_is_shot_and_read_noise(self, level):
        sensor = Sensor(60 * 80 * 3, full_well=2000.0, read_noise=10.0)
        codes = sensor.encode(np.full((60, 80, 3), level, np.float32))
        light = decode_srgb8(sensor.expose(codes)).astype(float)
        expected = np.sqrt(level / 2000.0 + (10.0 / 2000.0) ** 2)
        assert light.mean() == pytest.approx(level, rel=0.02)
        assert light.std() == pytest.approx(expected, rel=0.15)

    def test_noise_varies_by_frame_and_follows_from_the_seed(self):
        codes = Sensor(48).encode(np.full((4, 4, 3), 0.3, np.float32))
        first, second = Sensor(48, seed=3), Sensor(48, seed=3)
        frames = [first.expose(codes) for _ in range(2)]
        assert np.array_equal(frames[0], second.expose(codes))
        assert not np.array_equal(frames[0], frames[1])

    def test_without_noise_only_encodes(self):
        ramp = np.linspace(0.0, 1.0, 256 * 3, dtype=np.float32).reshape(16, 16, 3)
        sensor = Sensor(ramp.size, noise=0.0)
        image = sensor.expose(sensor.encode(ramp))
        assert np.abs(decode_srgb8(image) - ramp).max() < 0.006
        with pytest.raises(ValueError, match='negative'):
            Sensor(10, noise=-1.0)
