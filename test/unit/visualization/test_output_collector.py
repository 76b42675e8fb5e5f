# SPDX-License-Identifier: Apache-2.0
"""Outputs of the depth node grouped by stamp."""

from types import SimpleNamespace

import numpy as np
import pytest

from dualfocus_ros.visualization.output_collector import (
    OUTPUTS,
    OutputCollector,
    OutputMessages,
    format_stamp,
)

TOPICS = {relative: f'/front/{relative}' for relative in OUTPUTS}


def stamp(nanoseconds: int) -> SimpleNamespace:
    return SimpleNamespace(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9)


def image(values: np.ndarray, encoding: str, at: int = 7) -> SimpleNamespace:
    data = np.frombuffer(values.tobytes(), np.uint8)
    height, width = values.shape[:2]
    return SimpleNamespace(
        header=SimpleNamespace(stamp=stamp(at)),
        height=height,
        width=width,
        step=data.size // height,
        encoding=encoding,
        is_bigendian=False,
        data=data,
    )


def stack_info(focus: list[float]) -> SimpleNamespace:
    return SimpleNamespace(
        header=SimpleNamespace(stamp=stamp(7)),
        stamps=[stamp(5), stamp(7)],
        focus_dioptres=focus,
        sweep_id=3,
        sweep_duration=0.25,
        flags=1,
        model='lite',
        device='cpu',
        inference_ms=51.2,
        latency_ms=float('nan'),
    )


def test_messages_are_grouped_by_stamp_and_the_oldest_dropped():
    collector = OutputCollector(TOPICS, max_stamps=2)
    depth = np.ones((2, 3), np.float32)
    first = collector.add('/front/depth/image_rect', image(depth, '32FC1', at=1))
    same = collector.add('/front/depth/sigma', image(depth, '32FC1', at=1))
    assert same is first and set(first.messages) == {'depth/image_rect', 'depth/sigma'}
    for at in (2, 3):
        collector.add('/front/depth/image_rect', image(depth, '32FC1', at=at))
    assert collector.add('/front/depth/sigma', image(depth, '32FC1', at=1)) is not first


def test_a_sweep_has_all_outputs_of_its_stamp():
    depth = np.arange(6, dtype=np.float32).reshape(2, 3)
    outputs = OutputMessages(
        7,
        {
            'depth/image_rect': image(depth, '32FC1'),
            'depth/confidence': image(np.full((2, 3), 200, np.uint8), 'mono8'),
            'stack_info': stack_info([2.0, 0.5]),
        },
    )
    assert outputs.plane_stamps_ns == [5, 7]
    sweep = outputs.sweep('first')
    assert sweep.name == 'first' and np.array_equal(sweep.depth, depth)
    assert sweep.confidence is not None and sweep.sigma is None and sweep.camera is None
    assert sweep.focus_dioptres.tolist() == [2.0, 0.5]
    assert sweep.facts['flags'] == 'plane missing' and sweep.facts['inference'] == '51 ms'
    assert 'latency' not in sweep.facts


def test_outputs_that_do_not_fit_are_left_out():
    depth = np.ones((2, 3), np.float32)
    messages = {
        'depth/image_rect': image(depth, '32FC1'),
        'depth/sigma': image(np.ones((4, 3), np.float32), '32FC1'),
        'rgb/image_rect': image(depth, '64FC1'),
        'stack_info': stack_info([2.0, float('nan')]),
    }
    sweep = OutputMessages(7, messages).sweep('partial')
    assert sweep.sigma is None and sweep.all_in_focus is None and sweep.focus_dioptres is None
    messages['depth/image_rect'] = image(depth, '64FC1')
    with pytest.raises(ValueError, match='64FC1'):
        OutputMessages(7, messages).sweep('unreadable')
    assert OutputMessages(7).plane_stamps_ns == []


def test_stamps_are_shown_to_the_millisecond():
    assert format_stamp(12_034_567_890) == '12.034 s'
