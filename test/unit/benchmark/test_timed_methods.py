# SPDX-License-Identifier: Apache-2.0
"""Methods as they are timed."""

from benchmark_fakes import RandomStacks
from dualfocus_ros.benchmark.benchmark_stacks import StackShape
from dualfocus_ros.benchmark.compute_config import ComputeConfig
from dualfocus_ros.benchmark.timed_methods import (
    SlidingWindowTask,
    TimedDualFocus,
    open_timed_method,
    unshipped_configurations,
)
from dualfocus_ros.models.dualfocus_config import CONFIGURATIONS
from dualfocus_ros.models.weights import load_model, shipped_models


def test_every_configuration_is_timed_once():
    shipped = [load_model(name).network.config for name in shipped_models()]
    for name, config in CONFIGURATIONS.items():
        with_random_weights = name in unshipped_configurations()
        assert with_random_weights == (name not in shipped_models() and config not in shipped)


def test_dualfocus_whole_last_plane_and_sliding_window():
    ours = open_timed_method('auto', ComputeConfig('cpu', 'fp32', 1))
    assert isinstance(ours, TimedDualFocus)
    assert ours.weights == 'shipped' and ours.parameters > 10**5
    noise, setting = RandomStacks(), StackShape(4, 64, 48)
    whole = ours.run(noise.stack(setting))
    assert {'encode', 'decode', 'points', 'download'} <= set(whole.stages)
    assert all(value >= 0.0 for value in whole.stages.values())
    store = ours.estimator._store
    added = []
    kept, store.add = store.add, lambda *words: added.append(1) or kept(*words)
    ours.last_plane(noise.stack(setting))
    # All planes but the last were there when the estimate began; it stored what it encoded.
    assert len(added) >= setting.planes - 1
    sliding = SlidingWindowTask(ours, lambda: noise.stack(setting))
    encoded = []
    encode = ours.estimator._encode
    ours.estimator._encode = lambda *plane: encoded.append(1) or encode(*plane)
    sample = sliding()
    assert len(encoded) == 1, 'only the newest plane of the stream'
    assert sample.stages['encode'] > 0.0


def test_baselines_run():
    for name in ('dfv', 'sml', 'rdf'):
        method = open_timed_method(name, ComputeConfig('cpu', 'auto', 1))
        assert method.run(RandomStacks().stack(StackShape(2, 70, 50))).total_ms > 0.0
        assert (method.name, method.precision) == (name, 'fp32')
