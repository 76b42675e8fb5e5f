# SPDX-License-Identifier: Apache-2.0
"""A hundred times through the life cycle, with the shipped network: memory stays flat."""

import os
from pathlib import Path

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
import numpy as np
import pytest
from rcl_interfaces.srv import ListParameters

from rendered_stacks import rendered_stack
from rep_client import Client

CYCLES, SETTLED = 100, 20
CYCLE = (
    Transition.TRANSITION_CONFIGURE,
    Transition.TRANSITION_ACTIVATE,
    Transition.TRANSITION_DEACTIVATE,
    Transition.TRANSITION_CLEANUP,
)
PAGE = os.sysconf('SC_PAGE_SIZE')


def resident_bytes(process):
    return int(Path(f'/proc/{process.pid}/statm').read_text().split()[1]) * PAGE


def open_files(process):
    return len(os.listdir(f'/proc/{process.pid}/fd'))


@pytest.mark.fault(18)
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_memory_is_constant_over_100_life_cycles(start, record_property):
    node = start('depth_node', threads=1, autostart=False)
    client = Client()
    stack, _ = rendered_stack('table', 3, 160, 120, 3)
    planes = [(plane.image, plane.focus_dioptres, 1.0) for plane in stack.planes]

    def change(transition):
        request = ChangeState.Request()
        request.transition.id = transition
        return client.call(ChangeState, 'dualfocus/change_state', request).success

    memory, files = [], []
    for cycle in range(CYCLES):
        for transition in CYCLE:
            assert change(transition)
            if transition == Transition.TRANSITION_ACTIVATE and cycle % 25 == 0:
                client.subscribe('depth/image_rect')
                client.sweep(planes, (355.0, 355.0, 79.5, 59.5), wait_for=['depth/image_rect'])
        memory.append(resident_bytes(node.process))
        files.append(open_files(node.process))
    growth = np.polyfit(np.arange(SETTLED, CYCLES), memory[SETTLED:], 1)[0]
    print(
        f'resident after cycle 1, {SETTLED}, {CYCLES}: '
        + ', '.join(f'{memory[n] / 1e6:.1f} MB' for n in (0, SETTLED - 1, CYCLES - 1))
        + f'; {growth / 1e3:.1f} kB a cycle from {SETTLED} on'
    )
    record_property('bytes_per_cycle', growth)
    assert files[-1] <= files[SETTLED] + 2
    # One leaked network would be 1 MB a cycle.
    assert growth < 300e3
    state = client.call(GetState, 'dualfocus/get_state', GetState.Request()).current_state
    assert state.label == 'unconfigured'
    names = client.call(
        ListParameters, 'dualfocus/list_parameters', ListParameters.Request()
    ).result.names
    assert len(names) == len(set(names))
    client.close()
    assert 'Traceback' not in node.output
    assert node.stop() == 0
