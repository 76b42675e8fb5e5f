# SPDX-License-Identifier: Apache-2.0
"""Report section on the measurements over DDS."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dualfocus_ros.evaluation.tables import markdown_table


def node_section(node: Mapping[str, Any]) -> list[str]:
    """Return the lines of the section, from the result of ``measure_node``."""
    lines = ['## Over DDS, between processes', '']
    rows = []
    for mode in node['modes']:
        latency, inference = mode.get('latency_ms'), mode.get('inference_ms')
        callbacks = mode.get('callbacks')
        rows.append(
            {
                'mode': mode['mode'],
                'camera': mode['camera_hz'],
                'sent': mode['frames_sent'],
                'depths': mode['depths'],
                'rate': mode.get('depth_hz'),
                'p50': latency and latency['p50'],
                'p90': latency and latency['p90'],
                'inference': inference and inference['p50'],
                'assemble': mode['assemble_ms'] and mode['assemble_ms']['p50'],
                'publish': mode['publish_ms'] and mode['publish_ms']['p50'],
                'busy_99': callbacks and callbacks['busy'][1],
                'busy_most': callbacks and callbacks['busy'][2],
                'clock_most': callbacks and callbacks['elapsed'][2],
            }
        )
    columns = [
        ('camera', 'camera, Hz', 2),
        ('sent', 'frames sent', 0),
        ('depths', 'depths', 0),
        ('rate', 'depths, Hz', 2),
        ('p50', 'latency, ms', 1),
        ('p90', 'p90', 1),
        ('inference', 'node: inference, ms', 1),
        ('assemble', 'assemble', 1),
        ('publish', 'publish', 1),
        ('busy_99', 'callbacks, 99 %', 2),
        ('busy_most', 'longest', 2),
        ('clock_most', 'longest, wall clock', 2),
    ]
    at, newest = node['setting'], node['modes'][-1]
    lines += [
        *markdown_table(rows, columns, 'mode'),
        '',
        f'{newest["model"]} on {newest["device"]}, {at["planes"]} planes of {at["width"]} x '
        f'{at["height"]}. Latency: from the stamp of the last plane, taken before it is '
        'published, to the depth image in the callback of another process. Medians. Callbacks: '
        "processor time of at most the newest 1000 on the executor's thread; the wall-clock time "
        'includes other work of the processor.',
        '',
    ]
    transport = node['transport']
    if not transport['compared']:
        return [*lines, f'Transport: not measured ({transport["why_not"]}).', '']
    rows = [
        {
            'subscriber': entry['reliability'],
            'default': entry['default']['delay_ms'] and entry['default']['delay_ms']['p50'],
            'default_loss': entry['default']['loss'],
            'ours': entry['ours']['delay_ms'] and entry['ours']['delay_ms']['p50'],
            'ours_loss': entry['ours']['loss'],
            'speed_up': entry['speed_up'],
        }
        for entry in transport['compared']
    ]
    columns = [
        ('default', 'default, ms', 2),
        ('default_loss', 'lost, %', -1),
        ('ours', 'package profile, ms', 2),
        ('ours_loss', 'lost, %', -1),
        ('speed_up', 'default / package', 1),
    ]
    size = f'{transport["width"]} x {transport["height"]} rgb8 at {transport["rate"]:g} Hz'
    return [
        *lines,
        '### Transport',
        '',
        *markdown_table(rows, columns, 'subscriber'),
        '',
        f'{size} ({transport["rmw"]}), publish to callback between two processes, median; runs '
        'with the two profiles are interleaved.',
        '',
    ]
