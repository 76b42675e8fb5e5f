# SPDX-License-Identifier: Apache-2.0
"""Write docs/topics.md and docs/parameters.md from the tables of the nodes.

``python tools/reference_pages.py docs``. Needs the built messages.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
import sys

from dualfocus_ros.io.atomic_files import write_text
from dualfocus_ros.nodes.parameters import depth_parameters, sim_parameters, sweep_parameters
from dualfocus_ros.nodes.parameters.parameter_spec import ParameterSpec
from dualfocus_ros.nodes.qos import OUTPUT_QUEUE, input_queue
from dualfocus_ros.topics import DIAGNOSTIC_ARRAY, DIAGNOSTICS, INPUTS, OUTPUTS

_GENERATED = '<!-- Made by `python tools/reference_pages.py docs`; do not edit. -->'


def topics_page() -> str:
    """Return the page about the topics and services of the depth node."""
    lines = [
        '# Topics of the depth node',
        '',
        _GENERATED,
        '',
        'All names are relative to the namespace of the node and can be remapped.',
        '',
        '## Subscriptions',
        '',
        'Reliable as long as every publisher is, best effort as soon as one is not (REP 2003); '
        '`qos_overrides./TOPIC.subscription.reliability` (`as_offered`, `reliable`, '
        '`best_effort`), `…history` and `…depth` override it. Images, focus and '
        'calibration are matched by equal stamps.',
        '',
        *_table(
            ('topic', 'type', 'keeps last', 'when'),
            [
                (
                    f'`{topic.name}`',
                    f'`{topic.message_type}`',
                    str(input_queue(topic.message_type)),
                    topic.condition,
                )
                for topic in INPUTS
            ],
        ),
        '',
        '## Publishers',
        '',
        f'Reliable, volatile, keep last {OUTPUT_QUEUE}; '
        '`qos_overrides./TOPIC.publisher.reliability`, `…history`, `…depth` override it. '
        'All messages of one stack have the same header: the stamp by `stamp_policy`, the frame '
        'of the images, an optical frame (x right, y down, z forward). Outputs without a '
        'subscriber are not computed.',
        '',
        *_table(
            ('topic', 'type', 'content'),
            [
                (f'`{topic.name}`', f'`{topic.message_type}`', topic.description)
                for topic in OUTPUTS
            ]
            + [
                (
                    f'`{DIAGNOSTICS}`',
                    f'`{DIAGNOSTIC_ARRAY}`',
                    '1 Hz: images by stage, reasons of rejections, rate, latency, durations of '
                    'stages and callbacks, model, device, memory, clock, connections',
                )
            ],
        ),
        '',
        '## Services',
        '',
        *_table(
            ('service', 'type', 'effect'),
            [
                ('`~/reset`', '`std_srvs/Trigger`', 'Drop the stack in progress'),
                (
                    '`~/change_state`, `~/get_state`, …',
                    '`lifecycle_msgs`',
                    'Lifecycle: configure loads the model, activate subscribes, cleanup releases '
                    'the memory',
                ),
            ],
        ),
    ]
    return '\n'.join(lines) + '\n'


def parameters_page() -> str:
    """Return the page about the parameters of all nodes."""
    lines = [
        '# Parameters',
        '',
        _GENERATED,
        '',
        'Parameters marked *fixed* can only be set at start; the others apply from the next stack '
        'on. A change with wrong or contradictory values is refused as a whole, with a text that '
        'names the allowed values. [config/dualfocus.yaml](../config/dualfocus.yaml) contains all '
        'parameters of the depth node.',
    ]
    for node, table in (
        ('depth_node', depth_parameters.PARAMETERS),
        ('focus_sweep_node', sweep_parameters.PARAMETERS),
        ('sim_camera_node', sim_parameters.PARAMETERS),
    ):
        lines += ['', f'## {node}', '', *_table(_COLUMNS, [_row(spec) for spec in table])]
    return '\n'.join(lines) + '\n'


_COLUMNS = ('name', 'default', 'allowed', 'meaning')


def _row(spec: ParameterSpec) -> tuple[str, ...]:
    default = spec.default
    if isinstance(default, bool):
        shown = str(default).lower()
    elif isinstance(default, tuple):
        shown = f'[{", ".join(map(str, default))}]'
    else:
        shown = str(default)
    return (
        f'`{spec.name}`',
        f'`{shown}`' if shown else 'empty',
        spec.allowed,
        spec.description.rstrip('.') + (' *(fixed)*' if spec.read_only else ''),
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    escaped = [[cell.replace('|', '\\|') for cell in row] for row in rows]
    return [f'| {" | ".join(row)} |' for row in (columns, ['---'] * len(columns), *escaped)]


def write(folder: Path) -> None:
    """Write both pages."""
    write_text(folder / 'topics.md', topics_page())
    write_text(folder / 'parameters.md', parameters_page())


if __name__ == '__main__':
    write(Path(sys.argv[1]))
