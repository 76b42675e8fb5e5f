# SPDX-License-Identifier: Apache-2.0
"""Ratios derived from a report."""

import pytest

from benchmark_fakes import make_report, model_report
from dualfocus_ros.benchmark import ratios
from dualfocus_ros.benchmark.benchmark_report import as_markdown


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
    found = {r.name: r for r in ratios.derive_ratios(make_report(node=node, precisions=formats))}
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


def test_process_memory_has_no_limit_on_a_gpu():
    ours = model_report(
        alone={'imported_bytes': 10**9, 'peak_bytes': 3 * 10**9, 'device_peak_bytes': 5 * 10**8}
    )
    found = {
        r.name: r for r in ratios.derive_ratios(make_report(methods=[ours], device_kind='cuda'))
    }
    assert found['peak_memory'].met is None
    assert found['device_memory'].value == pytest.approx(0.5)
    assert 'whole_vs_dfv' not in found


def test_reports_failure_in_a_separate_process():
    failed = make_report(methods=[model_report(alone={'error': 'killed'})])
    assert 'ours failed in a separate process: killed' in as_markdown(failed)
    assert {'peak_memory', 'sliding_vs_whole'}.isdisjoint(
        r.name for r in ratios.derive_ratios(failed)
    )
