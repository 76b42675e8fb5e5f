# SPDX-License-Identifier: Apache-2.0
"""Methods as they are timed."""

from benchmark_fakes import RandomStacks
from dualfocus_ros.benchmark.benchmark_stacks import StackShape
from dualfocus_ros.benchmark.method_timing import (
    ComputeConfig,
    TimedDualFocus,
    open_timed_method,
    sliding_window_task,
    unshipped_configurations,
)
from dualfocus_ros.models.dualfocus import DualFocus
from dualfocus_ros.models.dualfocus_config import CONFIGURATIONS
from dualfocus_ros.models.weights import load_model, shipped_models


def test_every_configuration_is_timed_once():
    shipped = [load_model(name).network.config for name in shipped_models()]
    for name, config in CONFIGURATIONS.items():
        with_random_weights = name in unshipped_configurations()
        assert with_random_weights == (name not in shipped_models() and config not in shipped)


def test_dualfocus_whole_last_plane_and_sliding_window(monkeypatch):
    encoded = []
    encode = DualFocus.encode
    monkeypatch.setattr(
        DualFocus,
        'encode',
        lambda self, images: encoded.append(len(images)) or encode(self, images),
    )
    compute = ComputeConfig('cpu', 'fp32', 1)
    method = open_timed_method('auto', compute)
    assert isinstance(method, TimedDualFocus)
    assert method.weights == 'shipped' and method.parameters > 10**5
    stacks, shape = RandomStacks(), StackShape(4, 64, 48)
    whole = method.run(stacks.stack(shape))
    assert {'encode', 'decode', 'points', 'download'} <= set(whole.stages)
    assert all(value >= 0.0 for value in whole.stages.values())
    encoded.clear()
    method.last_plane(stacks.stack(shape))
    assert encoded == [1] * shape.planes, 'all planes but the last are encoded on arrival'
    sliding = sliding_window_task('auto', compute, lambda: stacks.stack(shape))
    encoded.clear()
    sample = sliding()
    assert encoded == [1], 'only the newest plane of the stream'
    assert sample.stages['encode'] > 0.0


def test_baselines_run():
    for name in ('dfv', 'sml', 'rdf'):
        method = open_timed_method(name, ComputeConfig('cpu', 'auto', 1))
        assert method.run(RandomStacks().stack(StackShape(2, 70, 50))).total_ms > 0.0
        assert (method.name, method.precision) == (name, 'fp32')
