# SPDX-License-Identifier: Apache-2.0
"""``dualfocus benchmark``: turns, arithmetic, report and what it refuses. No time is asserted."""

from collections import Counter
import json

import cv2
import numpy as np
import pytest

from dualfocus_ros.benchmark import benchmark_run, machine_info, ratios, timed_methods
from dualfocus_ros.benchmark.benchmark_plot import scaling_figure
from dualfocus_ros.benchmark.benchmark_report import as_json, as_markdown
from dualfocus_ros.benchmark.benchmark_run import BenchmarkConfig, inverse_depth_change
from dualfocus_ros.benchmark.benchmark_stacks import StackShape, read_stack, write_stack
from dualfocus_ros.benchmark.node_latency import camera_rate, compare_transports
from dualfocus_ros.benchmark.subprocess_runner import run_in_subprocess
from dualfocus_ros.benchmark.timed_methods import (
    ComputeConfig,
    SlidingWindowTask,
    TimedDualFocus,
    open_timed_method,
)
from dualfocus_ros.benchmark.timing import (
    MAX_REPEATS,
    MIN_REPEATS,
    Percentiles,
    TimingSample,
    interleave,
    measure_interleaved,
    repeats_within,
    stage_percentiles,
)
from dualfocus_ros.camera.pinhole import PinholeCamera
from dualfocus_ros.cli.main import main
from dualfocus_ros.focal_stack import FocalStack, Plane
from dualfocus_ros.models.dualfocus_config import CONFIGURATIONS
from dualfocus_ros.models.weights import load_model, shipped_models


class Noise:
    """Stands in for the rendered sweep: what is in the images does not matter here."""

    def __init__(self, finest=0):
        self._rng = np.random.default_rng(0)

    def stack(self, setting):
        camera = PinholeCamera(setting.width, setting.height, 100.0, 100.0, 31.5, 23.5)
        shape = (setting.height, setting.width, 3)
        return FocalStack(
            tuple(
                Plane(
                    self._rng.integers(0, 255, shape, np.uint8), 0.5 + 0.25 * n, 10**8 * n, camera
                )
                for n in range(setting.planes)
            )
        )


class Bar:
    """A progress bar that nobody sees."""

    total = 0.0
    n = 0.0

    def update(self, n=1):
        self.n += n

    def refresh(self):
        pass

    def set_description(self, desc=None):
        pass


class Fake:
    """A method whose time is known: so many ms for each plane and kilopixel."""

    weights, precision, about, parameters = 'none', 'fp32', '', 0

    def __init__(self, name, ms):
        self.name = name
        self.ms = ms

    def run(self, stack):
        height, width = stack.size
        return TimingSample(
            self.ms * len(stack.planes) * height * width / 1e3, {'decode': self.ms}
        )


@pytest.fixture
def fakes(monkeypatch):
    """Let every name be a method of a known time."""
    monkeypatch.setattr(
        benchmark_run, 'open_contestant', lambda name, place: Fake(name, 1.0 + len(name))
    )
    monkeypatch.setattr(benchmark_run, 'is_dualfocus', lambda name: False)
    monkeypatch.setattr(
        benchmark_run,
        'run_alone',
        lambda *words: {
            'imported_bytes': 10**8,
            'peak_bytes': 3 * 10**8,
            'device_peak_bytes': None,
        },
    )


def cell(total, stages=(), planes=5, width=640, height=480):
    """Return a cell of a report with medians only."""

    def spread(value):
        return {'p10': value, 'p50': value, 'p90': value, 'repeats': 3}

    return {
        'planes': planes,
        'width': width,
        'height': height,
        'total_ms': spread(total),
        'stages': {name: spread(value) for name, value in dict(stages).items()},
    }


def model(**changes):
    """Return a method of a report: 100 ms of network in a whole of 120."""
    values = {
        'name': 'ours',
        'weights': 'shipped',
        'about': '',
        'precision': 'fp32',
        'parameters': 10,
        'ours': True,
        'alone': {
            'imported_bytes': 3 * 10**8,
            'peak_bytes': 6 * 10**8,
            'device_peak_bytes': None,
            'whole_ms': {'p50': 110.0},
            'sliding_ms': {'p50': 55.0},
        },
        'cells': [
            cell(50, planes=2),
            cell(120, {'encode': 60, 'decode': 40}),
            cell(220, planes=10),
        ],
        'last_plane': cell(60, {'encode': 12, 'decode': 38, 'pack': 3, 'serialise': 2}),
        'sliding': cell(54, {'encode': 12, 'decode': 38}),
    }
    return {**values, **changes}


def report(**changes):
    """Return a report of one of our models and DFV."""
    dfv = model(
        name='dfv',
        ours=False,
        weights='random',
        last_plane=None,
        sliding=None,
        alone={},
        cells=[cell(480, {'network': 470})],
    )
    values = {
        'date': 'today',
        'version': '1',
        'commit': 'abc',
        'torch': '2',
        'machine': 'a machine',
        'device': 'cpu (1 threads)',
        'device_kind': 'cpu',
        'fast_bf16': True,
        'busy': False,
        'load_before': 0.0,
        'base': {'planes': 5, 'width': 640, 'height': 480},
        'default_model': 'ours',
        'methods': [model(), dfv],
        'precisions': [],
        'ratios': [],
    }
    return {**values, **changes}


def test_turns_are_spread_evenly():
    order = interleave({'slow': 3, 'fast': 12})
    assert Counter(order) == {'slow': 3, 'fast': 12}
    thirds = [order[:5], order[5:10], order[10:]]
    assert all(part.count('slow') == 1 for part in thirds)


def test_repeats_fit_the_budget():
    assert repeats_within(10.0, 1.0) == 10
    assert repeats_within(1.0, 100.0) == MIN_REPEATS
    assert repeats_within(1.0, 1e-9) == repeats_within(1.0, 0.0) == MAX_REPEATS


def test_warm_up_does_not_count():
    times = iter([1500.0, *range(100)])
    expected_extent, done = [], []
    samples = measure_interleaved(
        {'a': lambda: TimingSample(next(times), {'stage': 1.0})},
        6.0,
        expected_extent.append,
        done.append,
    )
    # Four times in two turns, before each of which it runs once more.
    assert [s.total_ms for s in samples['a']] == [1.0, 2.0, 4.0, 5.0]
    assert (expected_extent, sum(done)) == ([6], 7)


def test_each_turn_warms_up():
    ran = []

    def task(name):
        return lambda: ran.append(name) or TimingSample(1000.0, {})

    samples = measure_interleaved(
        {name: task(name) for name in 'ab'}, 4.0, lambda _: None, lambda _: None
    )
    assert ''.join(ran) == 'ab' + 2 * 'aaabbb'
    assert [len(found) for found in samples.values()] == [4, 4]


def test_percentiles_of_runs_and_of_their_stages():
    samples = [
        TimingSample(float(n), {'decode': 2.0 * n, **({'rare': 7.0} if n == 3 else {})})
        for n in range(11)
    ]
    total, stages = stage_percentiles(samples)
    assert total == Percentiles(1.0, 5.0, 9.0, 11)
    assert stages == {
        'decode': Percentiles(2.0, 10.0, 18.0, 11),
        'rare': Percentiles(7.0, 7.0, 7.0, 1),
    }
    with pytest.raises(ValueError, match='no run'):
        Percentiles.of([])


def test_deviation_from_a_line():
    assert ratios.deviation_from_line([2, 5, 10, 20], [7, 13, 23, 43]) < 1e-9
    bent = ratios.deviation_from_line([2, 5, 10, 20], [4, 25, 100, 400])
    assert bent > 0.3
    with pytest.raises(ValueError, match='at least 3'):
        ratios.deviation_from_line([1, 2], [1, 2])


def test_ratios_of_a_report():
    node = {
        'modes': [
            {
                'mode': 'sweep',
                'latency_ms': {'p50': 90.0},
                'inference_ms': {'p50': 60.0},
                'callbacks': {'count': 9, 'busy': [0.3, 0.8, 2.5], 'elapsed': [0.4, 1.0, 3.0]},
            }
        ],
        'transport': {
            'compared': [
                {'reliability': 'reliable', 'speed_up': 2.5},
                {'reliability': 'best_effort', 'speed_up': None},
            ]
        },
    }
    formats = [
        {
            'precision': 'bf16',
            'against': 'fp32',
            'time_ratio': 0.7,
            'median_dioptres': 1e-3,
            'max_dioptres': 0.02,
        }
    ]
    found = {r.name: r for r in ratios.derive_ratios(report(node=node, precisions=formats))}
    values = {name: pytest.approx(r.value) for name, r in found.items()}
    assert values['whole_vs_dfv'] == 120 / 480
    assert values['network_vs_dfv'] == 100 / 480
    assert values['peak_memory'] == 0.6
    assert values['sliding_vs_whole'] == 55 / 110
    assert values['sliding_vs_whole_beside'] == 54 / 120
    assert values['last_plane_vs_inference'] == (60 + 5) / 100
    assert values['last_plane_vs_rest'] == (60 + 5) / 50
    assert values['bf16_vs_fp32'] == 0.7
    assert values['node_sweep_latency_vs_inference'] == 1.5
    assert values['node_sweep_longest_callback'] == 2.5
    assert not found['node_sweep_longest_callback'].met, 'two milliseconds were asked for'
    assert values['transport_reliable'] == 2.5
    assert 'transport_best_effort' not in found
    assert found['whole_vs_dfv'].met and not found['sliding_vs_whole'].met
    assert not found['transport_reliable'].met, 'three times was asked for'
    assert found['bf16_vs_fp32'].met is None
    assert 0.0 < found['linearity'].value < 0.15


def test_on_a_gpu_the_memory_of_the_process_has_no_limit():
    ours = model(
        alone={'imported_bytes': 10**9, 'peak_bytes': 3 * 10**9, 'device_peak_bytes': 5 * 10**8}
    )
    found = {r.name: r for r in ratios.derive_ratios(report(methods=[ours], device_kind='cuda'))}
    assert found['peak_memory'].met is None
    assert found['device_memory'].value == pytest.approx(0.5)
    assert 'whole_vs_dfv' not in found


def test_what_failed_in_a_process_of_its_own_is_said():
    failed = report(methods=[model(alone={'error': 'killed'})])
    assert 'ours failed in a process of its own: killed' in as_markdown(failed)
    assert {'peak_memory', 'sliding_vs_whole'}.isdisjoint(
        r.name for r in ratios.derive_ratios(failed)
    )


def test_a_busy_machine_is_said():
    assert '**The machine was busy**' in as_markdown(report(busy=True, load_before=1.9))


def test_depth_change_is_in_dioptres():
    depth = np.array([1.0, 2.0, np.nan, np.inf])
    other = np.array([1.0, 4.0, 1.0, np.inf])
    change = inverse_depth_change(depth, other)
    assert change['median_dioptres'] == pytest.approx(0.125)
    assert change['max_dioptres'] == pytest.approx(0.25)
    assert change['validity_changed'] == pytest.approx(0.25)
    nothing = inverse_depth_change(np.array([np.nan]), np.array([1.0]))
    assert json.loads(as_json(nothing))['max_dioptres'] is None


def test_settings_are_a_cross_through_the_base():
    plan = BenchmarkConfig(
        ['sml'], [2, 5, 20], [(320, 240), (640, 480), (1280, 960)], 1.0, ComputeConfig('cpu')
    )
    assert plan.base == StackShape(5, 640, 480)
    assert plan.settings == [
        StackShape(5, 640, 480),
        StackShape(2, 640, 480),
        StackShape(20, 640, 480),
        StackShape(5, 320, 240),
        StackShape(5, 1280, 960),
    ]
    other = BenchmarkConfig(['sml'], [3, 4], [(64, 48), (96, 64)], 1.0, ComputeConfig('cpu'))
    assert other.base == StackShape(4, 96, 64)


def test_every_method_is_in_every_table(fakes):
    names = timed_methods.method_names()
    plan = BenchmarkConfig(
        names, [2, 3, 4], [(64, 48), (128, 96)], 1e-6, ComputeConfig('cpu', threads=1)
    )
    bar = Bar()
    found = benchmark_run.run(plan, bar, Noise())
    assert bar.n == bar.total
    assert {*shipped_models(), 'dfv', 'sml', 'rdf'} <= set(names)
    assert [method['name'] for method in found['methods']] == names
    for method in found['methods']:
        assert len(method['cells']) == 4, 'three numbers of planes, one more size'
        for at in method['cells']:
            ms = (1.0 + len(method['name'])) * at['planes'] * at['width'] * at['height'] / 1e3
            assert at['total_ms']['p50'] == pytest.approx(ms, rel=1e-3)
    text = as_markdown(found)
    for name in names:
        assert text.count(f'| {name} |') >= 3, 'side by side, by planes and by size'
    assert json.loads(as_json(found))['machine'] == machine_info.describe_machine()


def test_a_model_that_is_asked_for_twice_takes_part_once(fakes, monkeypatch):
    monkeypatch.setattr(benchmark_run, 'open_timed_method', lambda name, place: Fake('one', 1.0))
    plan = BenchmarkConfig(['auto', 'one'], [2], [(64, 48)], 1e-6, ComputeConfig('cpu', threads=1))
    assert [m['name'] for m in benchmark_run.run(plan, Bar(), Noise())['methods']] == ['one']


def test_the_figure_is_a_picture():
    picture = scaling_figure(report())
    assert picture.shape[0] >= 480 and picture.shape[2] == 3
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 20


def test_every_configuration_takes_part_once():
    shipped = [load_model(name).network.config for name in shipped_models()]
    for name, config in CONFIGURATIONS.items():
        with_random_weights = name in timed_methods.unshipped_configurations()
        assert with_random_weights == (name not in shipped_models() and config not in shipped)


def test_our_model_is_timed_by_stage_whole_on_arrival_and_sliding():
    ours = open_timed_method('auto', ComputeConfig('cpu', 'fp32', 1))
    assert isinstance(ours, TimedDualFocus)
    assert ours.weights == 'shipped' and ours.parameters > 10**5
    noise, setting = Noise(), StackShape(4, 64, 48)
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


def test_dfv_and_the_classical_methods_run():
    for name in ('dfv', 'sml', 'rdf'):
        method = open_timed_method(name, ComputeConfig('cpu', 'auto', 1))
        assert method.run(Noise().stack(StackShape(2, 70, 50))).total_ms > 0.0
        assert (method.name, method.precision) == (name, 'fp32')


def test_a_stack_survives_the_way_to_another_process(tmp_path):
    stack = Noise().stack(StackShape(3, 64, 48))
    write_stack(tmp_path / 'stack.npz', stack)
    back = read_stack(tmp_path / 'stack.npz')
    assert np.array_equal(back.focus_dioptres, stack.focus_dioptres)
    for ours, theirs in zip(back.planes, stack.planes, strict=True):
        assert np.array_equal(ours.image, theirs.image) and ours.camera == theirs.camera


@pytest.mark.parametrize('name', ['sml', 'auto'])
def test_a_process_of_its_own(tmp_path, name):
    file = tmp_path / 'stack.npz'
    write_stack(file, Noise().stack(StackShape(2, 64, 48)))
    found = run_in_subprocess(name, file, 'cpu', 'auto', 1, 0.01)
    assert 5 * 10**7 < found['imported_bytes'] <= found['peak_bytes'] < 10**10
    assert found['device_peak_bytes'] is None
    times = {key: value for key, value in found.items() if key.endswith('_ms')}
    assert set(times) == (set() if name == 'sml' else {'whole_ms', 'sliding_ms'})
    assert all(
        0.0 < time['p50'] < 1e5 and time['repeats'] >= MIN_REPEATS for time in times.values()
    )


def test_what_fails_in_a_process_of_its_own_says_why(tmp_path):
    found = run_in_subprocess('auto', tmp_path / 'none.npz', 'cpu', 'auto', 1, 0.01)
    assert 'none.npz' in found['error']


def test_a_processor_that_works_is_seen():
    busy = machine_info.busy_processors(0.05)
    assert busy is None or 0.0 <= busy <= 1.01 * machine_info.os.cpu_count()


def test_the_camera_leaves_the_node_time():
    sweep, sliding = (camera_rate(report(), mode, 5) for mode in ('sweep', 'sliding'))
    assert sweep < 1e3 / (120 / 5) and sliding < 1e3 / 54
    fast = report(methods=[model(cells=[cell(1.0)])])
    assert camera_rate(fast, 'sweep', 5) == 30.0


def test_transport_is_compared_where_most_images_came():
    sent = {False: 4, True: 4}
    found = compare_transports('reliable', {False: [12.0] * 4, True: [3.0] * 4}, sent)
    assert found['speed_up'] == pytest.approx(4.0)
    assert found['default']['loss'] == found['ours']['loss'] == 0.0
    lossy = compare_transports('best_effort', {False: [2.0], True: [3.0] * 4}, sent)
    assert lossy['default']['loss'] == pytest.approx(0.75)
    assert lossy['speed_up'] is None, 'the median of the few that came says nothing'
    nothing = compare_transports('best_effort', {False: [], True: [3.0]}, sent)
    assert nothing['default']['delay_ms'] is None


def test_the_command_writes_three_files(fakes, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark_run, 'Sweep', Noise)
    out = tmp_path / 'out'
    words = [
        'benchmark',
        '-o',
        str(out),
        '--planes',
        '2',
        '3',
        '--sizes',
        '64x48',
        '96x64',
        '--methods',
        'a',
        'bb',
        '--seconds',
        '1e-6',
        '--device',
        'cpu',
        '--threads',
        '1',
    ]
    assert main([*words, '--json']) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / 'benchmark.json').read_text())
    assert [m['name'] for m in printed['methods']] == ['a', 'bb']
    assert (out / 'benchmark.md').read_text().startswith('# Benchmark\n')
    assert cv2.imread(str(out / 'benchmark.png')).shape[1] > 1000


@pytest.mark.parametrize(
    ('words', 'status', 'text'),
    [
        (['--planes', '1'], 2, '2 to 32 planes, got 1'),
        (['--sizes', '640'], 2, 'WIDTHxHEIGHT'),
        (['--sizes', '640x4'], 2, '32 to 8192'),
        (['--seconds', '0'], 2, 'positive'),
        (['--threads', '-1'], 2, 'negative'),
        (['--device', 'toaster'], 1, 'toaster'),
        (['--device', 'cpu', '--precision', 'fp16'], 1, 'fp16'),
    ],
)
def test_what_it_refuses(words, status, text, capsys):
    assert main(['benchmark', *words]) == status
    message = capsys.readouterr().err
    assert text in message and 'Traceback' not in message
