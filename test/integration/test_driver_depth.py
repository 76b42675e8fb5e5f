# SPDX-License-Identifier: Apache-2.0
"""Depth from cameras that are driven through the parameters of their drivers, over DDS."""

import math
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import pytest
from rcl_interfaces.srv import GetParameters
from rclpy.parameter import parameter_value_to_python
from sensor_msgs.msg import Image

from dualfocus_ros.msg import FocusCommand, FocusState, StackInfo
from stand_in_driver import CONTROLS, LOCKS, NODES, TABLES

DRIVER = str(Path(__file__).parents[1] / 'support' / 'stand_in_driver.py')
SWEEP = {'count': 5, 'near_dioptres': 2.2, 'far_dioptres': 0.4, 'settle_frames': 1}
# The stand-in's lens does 98 % of a step in this time, starting two to three frames of 50 ms
# after the command. Without reports the model covers both, with margins for the rest of the step
# and for a busy machine.
SETTLING = 0.1
MODEL = {
    'camera_ros': {'camera_ros__latency_frames': 1, 'camera_ros__settling_time': 0.25},
    'v4l2': {'command__latency_frames': 6, 'command__settling_time': 0.4},
    'depthai': {'command__latency_frames': 6, 'command__settling_time': 0.4},
}
SOURCE = {'camera_ros': 'camera_ros', 'v4l2': 'command', 'depthai': 'command'}
METADATA = {'metadata': '/diagnostics'}


def calibration(kind):
    """Return the parameters of a table that `dualfocus calibrate focus` would find."""
    if kind not in TABLES:
        return {}
    positions, dioptres = TABLES[kind]
    return {'calibration__positions': list(positions), 'calibration__dioptres': list(dioptres)}


def stamp(message):
    return message.sec, message.nanosec


def parameters_of(listener, kind, names):
    """Return parameters of the driver."""
    request = GetParameters.Request(names=list(names))
    answer = listener.call(GetParameters, f'/{NODES[kind]}/get_parameters', request)
    return [parameter_value_to_python(value) for value in answer.values]


@pytest.mark.parametrize('kind', ['camera_ros', 'v4l2', 'depthai'])
@pytest.mark.slow
def test_depth_from_a_driver(start, listener, kind):
    truth = listener.collect(FocusState, 'truth/focus_state', 200)
    truths = listener.collect(Image, 'truth/depth', 200)
    depths = listener.collect(Image, 'depth/image_rect')
    stacks = listener.collect(StackInfo, 'stack_info')
    commands = listener.collect(FocusCommand, 'focus_command')
    diagnostics = listener.collect(DiagnosticArray, '/diagnostics', 200)
    programs = [
        start(
            DRIVER,
            {'__node': NODES[kind]},
            stand_in__kind=kind,
            stand_in__scene='floor',
            stand_in__settling_time=SETTLING,
            stand_in__size='[160, 120]',
        ),
        start(
            'depth_node',
            METADATA,
            focus_source=SOURCE[kind],
            device='cpu',
            threads=1,
            breathing__model='thin_lens',
            lens__focal_length=0.016,
            lens__f_number=1.4,
            lens__pixel_pitch=7.2e-3 / 160,
            **MODEL[kind],
        ),
        start(
            'focus_sweep_node', METADATA, driver=kind, **SWEEP, **calibration(kind), **MODEL[kind]
        ),
    ]
    sweep = programs[-1]
    listener.until(
        lambda: len(stacks) >= 3 and len(depths) >= 3,
        '\n'.join(program.output for program in programs),
        120.0,
    )
    switches = [name for name in LOCKS if name in CONTROLS[kind]]
    during = parameters_of(listener, kind, switches)
    assert sweep.stop() == 0, sweep.output
    after = parameters_of(listener, kind, switches)
    assert all(a != b for a, b in zip(during, after, strict=True))
    for program in programs:
        assert program.stop() == 0 and 'Traceback' not in program.output, program.output

    # No image with a focus that the lens had not: neither moving nor a neighbour's.
    lens = {stamp(state.header.stamp): state for state in truth}
    checked = 0
    for stack in stacks:
        for at, focus in zip(stack.stamps, stack.focus_dioptres, strict=True):
            state = lens.get(stamp(at))
            if state is not None:
                assert state.state == FocusState.SETTLED
                assert state.focus_dioptres == pytest.approx(focus, abs=0.015)
                checked += 1
    assert checked >= 10
    assert any(math.isnan(c.focus_dioptres) for c in commands)

    scene = {stamp(image.header.stamp): image for image in truths}
    errors = []
    for depth in depths:
        true = scene.get(stamp(depth.header.stamp))
        if true is not None:
            found, right = (np.frombuffer(i.data, np.float32) for i in (depth, true))
            known = np.isfinite(found) & (right > 1 / 2.2) & (right < 1 / 0.4)
            assert known.mean() > 0.3
            errors.append(np.mean(np.abs(found - right)[known] / right[known]))
    print(f'{kind}: AbsRel {np.mean(errors):.3f} over {len(errors)} depths')
    assert errors and np.mean(errors) < 0.08
    if kind == 'camera_ros':
        check_exposure(diagnostics)


def check_exposure(diagnostics):
    """Once held still, the exposure is the one that was found and stays until the end."""
    times = [
        int(value.value)
        for array in diagnostics
        for status in array.status
        for value in status.values
        if value.key == 'ExposureTime'
    ]
    changes = [n for n in range(1, len(times)) if times[n] != times[n - 1]]
    longest = max(b - a for a, b in zip([0, *changes], [*changes, len(times)], strict=True))
    assert longest > 30 and min(times) >= 9000
