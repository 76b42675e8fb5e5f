# SPDX-License-Identifier: Apache-2.0
"""Association of images and focus over DDS: faults are counted by reason, no pair is wrong.

The grey value of an image encodes its focus, which shows a wrong pair.
"""

from __future__ import annotations

from collections import Counter
import itertools

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import pytest
from sensor_msgs.msg import Image

from depth_node_harness import MS, START, camera_info, command, focus_state, header, image
from dualfocus_ros.msg import FocusState
from dualfocus_ros.sweep.stage_counter import Stage

PERIOD = 33 * MS
FOCUS = (0.5, 0.8, 1.1, 1.4, 1.7, 2.0)
WHOLE = len(FOCUS)
SETTLED, MOVING = FocusState.SETTLED, FocusState.MOVING
sweeps = itertools.count(1)


def grey(dioptres):
    """Return the grey value of an image that was taken at this focus."""
    return round(100 * dioptres)


class Sweep:
    """One sweep of a camera with a lens that reports, as messages that a fault may change."""

    def __init__(self, number, focus=FOCUS, start=None):
        self.number, self.focus = number, focus
        start = START + number * 10**9 if start is None else start
        self.stamps = [start + n * PERIOD for n in range(len(focus))]

    def image(self, n, **changes):
        return 'image_raw', changed(image(self.stamps[n], grey(self.focus[n])), changes)

    def state(self, n, stamp=None, state=SETTLED, focus=None):
        stamp = self.stamps[n] if stamp is None else stamp
        focus = self.focus[n] if focus is None else focus
        return 'focus_state', focus_state(stamp, focus, self.number, n, len(self.focus), state)

    def extra(self, n, after, state):
        """Return image and state of one more frame ``after`` the n-th, at another focus."""
        stamp, focus = self.stamps[n] + after, self.focus[n] - 0.1
        shown = image(stamp, grey(focus))
        return [self.state(n, stamp, state, focus), ('image_raw', shown)]

    def all(self, replace=None, without=()):
        """Return all messages, frame by frame; ``replace`` has others instead of some states."""
        messages = []
        for n in range(len(self.focus)):
            messages += (replace or {}).get(n, [self.state(n)])
            if n not in without:
                messages.append(self.image(n))
        return messages


def changed(message, changes):
    for name, value in changes.items():
        setattr(message, name, value)
    return message


def larger(stamp):
    """Return an image of another size."""
    message = Image(header=header(stamp), height=30, width=40, encoding='mono8', step=40)
    message.data = bytes(1200)
    return 'image_raw', message


def late(s):
    """Return everything, with the report of one frame long after its image."""
    return [*s.all({3: []}), 'wait for no_focus', s.state(3)]


def too_early(s):
    return [s.state(3), 'wait for no_image', *s.all({3: []})]


def moving(s):
    return [
        m
        for n in range(WHOLE)
        for m in (*s.extra(n, -PERIOD // 2, MOVING), s.state(n), s.image(n))
    ]


# Fault; messages of a sweep with it; expected counts; planes of that sweep's stack.
TABLE = [
    ('none', lambda s: s.all(), {}, WHOLE),
    ('report missing', lambda s: s.all({3: []}), {'no_focus': 1}, 5),
    ('image missing', lambda s: s.all(without=[3]), {'no_image': 1}, 5),
    (
        'reports late',
        lambda s: [m for m in s.all() if m[0] == 'image_raw'] + [s.state(n) for n in range(WHOLE)],
        {},
        WHOLE,
    ),
    ('report later than the window', late, {'no_focus': 1}, 5),
    (
        'reports early',
        lambda s: [s.state(n) for n in range(WHOLE)] + [s.image(n) for n in range(WHOLE)],
        {},
        WHOLE,
    ),
    ('report earlier than the window', too_early, {'no_image': 1, 'no_focus': 1}, 5),
    ('moving between the planes', moving, {'moving': WHOLE}, WHOLE),
    ('moving at one plane', lambda s: s.all({3: [s.state(3, state=MOVING)]}), {'moving': 1}, 5),
    (
        'lens fault',
        lambda s: s.all({3: [s.state(3, state=FocusState.FAULT)]}),
        {'lens_fault': 1},
        5,
    ),
    (
        'focus not known',
        lambda s: s.all({3: [s.state(3, focus=float('nan'))]}),
        {'focus_unknown': 1},
        5,
    ),
    (
        'wrong stamp, by 1 ns',
        lambda s: s.all({3: [s.state(3, s.stamps[3] + 1)]}),
        {'no_focus': 1, 'no_image': 1},
        5,
    ),
    (
        "wrong stamp, the next image's",
        lambda s: s.all({3: [s.state(3, s.stamps[4])]}),
        {'no_focus': 1, 'focus_disputed': 1},
        4,
    ),
    ('stamp of zero', lambda s: s.all({3: [s.state(3, 0)]}), {'zero_stamp': 1, 'no_focus': 1}, 5),
    (
        'image twice',
        lambda s: [*s.all()[:8], s.image(3), *s.all()[8:]],
        {'duplicate_stamp': 1},
        WHOLE,
    ),
    (
        'plane twice',
        lambda s: [
            *s.all()[:8],
            *[
                s.state(3, s.stamps[3] + MS),
                ('image_raw', image(s.stamps[3] + MS, grey(FOCUS[3]))),
            ],
            *s.all()[8:],
        ],
        {},
        WHOLE,
    ),
    (
        'another image size',
        lambda s: [*s.all()[:8], larger(s.stamps[3] + MS), *s.all()[8:]],
        # The image itself, which had no focus yet, and the sweep.
        {'format_changed': 2, 'too_few_planes': 1},
        None,
    ),
]


@pytest.fixture
def make(connect):
    """Return a function that makes a harness with a subscriber."""

    def make_connected(inputs, **arguments):
        harness = connect(
            'depth/image_rect',
            inputs=inputs,
            stack__pairing_window=0.3,
            stack__timeout=20.0,
            **arguments,
        )
        # Every stack, also those that the network has no time for.
        harness.stacks, emit = [], harness.input.emit_stack

        def note(stack):
            harness.stacks.append(stack)
            emit(stack)

        harness.input.emit_stack = note
        return harness

    return make_connected


def counts(harness):
    """Return the number of rejections by reason, over all stages."""
    found = Counter()
    for rejection in harness.counts().rejections:
        found[rejection.reason] += rejection.count
    return found


def send(harness, messages):
    """Publish messages in this order; a text among them says which count to wait for."""
    before = counts(harness)
    for message in messages:
        if isinstance(message, str):
            reason = message.split()[-1]
            harness.until(lambda r=reason: counts(harness).get(r, 0) > before.get(r, 0), message)
            continue
        # DDS keeps the order of one topic only.
        taken = seen(harness)
        harness.publish(*message)
        harness.until(
            lambda t=taken: seen(harness) != t, f'for a message on {message[0]} to be taken'
        )


def seen(harness):
    """Return what changes with every message that the node takes."""
    received = harness.counts().counts[Stage.RECEIVED]
    return received, id(harness.input.lens), sum(counts(harness).values())


def pairs(stack):
    """Return focus as assembled, and as the image says, of each plane."""
    return [(grey(p.focus_dioptres), int(p.image.flat[0])) for p in stack.planes]


def run_row(harness, fault):
    """Run a sweep with a fault and one without; return counts and both stacks."""
    before, done = counts(harness), len(harness.stacks)
    sweep, following = Sweep(next(sweeps)), Sweep(next(sweeps))
    send(harness, fault(sweep))
    send(harness, following.all())
    stacks = {stack.sweep_id: stack for stack in harness.stacks[done:]}
    found = {r: n - before.get(r, 0) for r, n in counts(harness).items() if n > before.get(r, 0)}
    found.pop('superseded', None)
    return found, stacks.get(sweep.number), stacks[following.number]


@pytest.mark.fault(2, 3, 4, 5, 7)
def test_faults_are_counted_and_never_mispaired(make):
    harness = make(('image_raw', 'focus_state'))
    wrong, lines = [], []
    for name, fault, expected, planes in TABLE:
        found, stack, following = run_row(harness, fault)
        counted = ', '.join(f'{r} {n}' for r, n in found.items()) or '-'
        size = None if stack is None else len(stack.planes)
        lines.append(f'{name:32} | {counted:30} | {size} of {WHOLE} planes')
        if (found, size, len(following.planes)) != (expected, planes, WHOLE):
            wrong.append((name, found, size, len(following.planes)))
        for s in filter(None, (stack, following)):
            wrong += [(name, pair) for pair in pairs(s) if pair[0] != pair[1]]
    print('\n'.join([f'{"fault":32} | {"counted":30} | stack', *lines]))
    assert not wrong


def test_focus_after_next_sweep_started_is_late_once(make):
    harness = make(('image_raw', 'focus_state'))
    for _ in range(2):
        first = Sweep(next(sweeps))
        second = Sweep(next(sweeps), start=first.stamps[-1] + PERIOD)
        following = second.all()
        last = first.state(5)
        send(harness, [*first.all({5: []}), *following[:2], last, *following[2:]])
    assert all(a == b for stack in harness.stacks for a, b in pairs(stack))
    # The second sweep is kept open for late messages.
    assert [len(stack.planes) for stack in harness.stacks] == [5, 6, 6, 6]
    assert counts(harness)['late'] == 1
    assert set(counts(harness)) <= {'late', 'superseded'}


@pytest.mark.fault(8)
def test_no_pairs_across_backward_clock_jump(make):
    harness = make(('image_raw', 'focus_state'))
    first = Sweep(next(sweeps), start=START + 50 * 10**9)
    send(
        harness, first.all()[:7]
    )  # the last is an image that lacks its report, or has it unpaired
    again = Sweep(next(sweeps), start=START)
    send(harness, again.all())
    (stack,) = harness.stacks
    assert stack.sweep_id == again.number
    assert all(a == b for a, b in pairs(stack))
    assert counts(harness)['clock_jump'] == 1


def test_unnumbered_sweeps_use_both_directions(make):
    harness = make(('image_raw', 'focus_state'), stack__min_size=2)
    up = list(FOCUS)
    start = START
    for name, turns, expected in (
        ('triangle', [*up, *up[-2::-1], *up[1:], *up[-2::-1], up[1]], [1, -1, 1, -1]),
        ('sawtooth', [*up, *up, *up, up[0]], [1, 1, 1]),
        ('sawtooth down', [*up[::-1], *up[::-1], *up[::-1], up[-1]], [-1, -1, -1]),
    ):
        harness.stacks.clear()
        for n, focus in enumerate(turns):
            stamp = start + n * PERIOD
            state = FocusState(header=header(stamp), focus_dioptres=focus, state=SETTLED)
            send(harness, [('focus_state', state), ('image_raw', image(stamp, grey(focus)))])
        directions = [
            1 if s.focus_dioptres[-1] > s.focus_dioptres[0] else -1 for s in harness.stacks
        ]
        assert directions == expected, name
        assert all(len(s.planes) == WHOLE for s in harness.stacks), name
        assert all(a == b for s in harness.stacks for a, b in pairs(s)), name
        start += 100 * 10**9
        harness.depth_node.reset()


def metadata(stamp, dioptres, camera_id='/base/soc/i2c0mux/i2c@1/imx708@1a'):
    """Return what camera_ros 0.7 publishes with a frame: all of libcamera's metadata, as text."""
    values = {
        'SensorTimestamp': stamp,
        'ExposureTime': 9981,
        'AnalogueGain': 2.0,
        'Lux': 312.4,
        'AfState': 0,
        'AfPauseState': 0,
        'LensPosition': dioptres,
        'FocusFoM': 4211,
        'FrameDuration': 33333,
        'ColourGains': [1.8, 1.6],
    }
    status = DiagnosticStatus(
        name='',
        hardware_id=camera_id,
        values=[KeyValue(key=k, value=str(v)) for k, v in values.items()],
    )
    message = DiagnosticArray(status=[status])
    message.header = header(stamp)
    return 'metadata', message


def test_camera_ros_metadata(make):
    harness = make(
        ('image_raw', 'metadata'),
        focus_source='camera_ros',
        camera_ros__latency_frames=1,
        stack__size=WHOLE,
        stack__min_size=2,
    )
    stamps = itertools.count(START, PERIOD)
    for fault in ('none', 'metadata missing', 'metadata late', 'no LensPosition'):
        lost = fault in ('metadata missing', 'no LensPosition')
        before = counts(harness)
        harness.stacks.clear()
        messages = []
        for n, focus in enumerate(FOCUS):
            moved, rests = next(stamps), next(stamps)
            # The lens moves during the first image after the command, regardless of the report.
            messages += [metadata(moved, focus), ('image_raw', image(moved, grey(focus) - 9))]
            described = metadata(rests, focus)
            if fault == 'no LensPosition' and n == 3:
                described[1].status[0].values = described[1].status[0].values[:3]
            pair = [described, ('image_raw', image(rests, grey(focus)))]
            if fault == 'metadata missing' and n == 3:
                pair = pair[1:]
            if fault == 'metadata late':
                pair.reverse()
            messages += pair
        send(harness, [*messages, *(['wait for no_focus'] if lost else [])])
        assert all(a == b for stack in harness.stacks for a, b in pairs(stack))
        assert [len(stack.planes) for stack in harness.stacks] == ([] if lost else [WHOLE])
        found = {r: n - before.get(r, 0) for r, n in counts(harness).items()}
        assert found.get('no_focus', 0) == int(lost)
        assert found.get('no_lens_position', 0) == int(fault == 'no LensPosition')
        if not lost:
            harness.until(lambda: harness.depths, 'for depth')
        harness.depths.clear()
        harness.depth_node.reset()
        for _ in range(20):
            next(stamps)


def test_five_synchronised_cameras(make):
    focus = [0.2, 0.6, 1.0, 1.4, 1.8]
    inputs = [f'plane_{n}/image_raw' for n in range(5)]
    harness = make(
        [*inputs, 'camera_info'],
        input='planes',
        planes__focus_dioptres=focus,
        stack__sync_tolerance=0.004,
        stack__min_size=4,
    )
    harness.publish('camera_info', camera_info(START, 42.0))

    def shoot(at, offsets=(0,) * 5, order=range(5), without=()):
        send(
            harness,
            [
                (f'plane_{n}/image_raw', image(at + round(offsets[n] * MS), grey(focus[n])))
                for n in order
                if n not in without
            ],
        )

    shoot(START, order=(3, 0, 4, 2, 1))
    shoot(START + 10**9, offsets=(0, 1, 2, 3, 3.9))
    shoot(START + 2 * 10**9, without=[2])
    shoot(START + 3 * 10**9, offsets=(0, 0, 0, 0, 30))
    shoot(START + 30 * 10**9)
    assert [len(stack.planes) for stack in harness.stacks] == [5, 5, 4, 4, 5]
    assert all(a == b for stack in harness.stacks for a, b in pairs(stack))
    # The image that came too late for its stack found no other.
    assert counts(harness)['unsynchronised'] == 1
    assert set(counts(harness)) <= {'unsynchronised', 'superseded'}
    harness.until(lambda: harness.depths)


def test_commanded_focus_without_reports(make):
    harness = make(
        ('image_raw', 'focus_command'),
        focus_source='command',
        command__latency_frames=2,
        command__settling_time=0.05,
    )
    send(harness, [('image_raw', image(START - 10**9, 0)), 'wait for no_focus'])
    for n, focus in enumerate(FOCUS):
        at = START + n * 5 * PERIOD
        harness.publish('focus_command', command(at, focus, 7, n, WHOLE))
        harness.until(lambda n=n: len(harness.input.commanded_focus.commands) == n + 1)
        before = FOCUS[max(n - 1, 0)]
        shown = (before, 0.5 * (before + focus), focus, focus)
        send(
            harness,
            [('image_raw', image(at + (k + 1) * PERIOD, grey(q))) for k, q in enumerate(shown)],
        )
    (stack,) = harness.stacks
    assert len(stack.planes) == WHOLE
    assert all(a == b for a, b in pairs(stack))
    assert counts(harness) == {'no_focus': 1, 'moving': 2 * WHOLE}


def test_command_later_than_its_images(make):
    harness = make(
        ('image_raw', 'focus_command'),
        focus_source='command',
        command__latency_frames=0,
        command__settling_time=0.0,
        stack__min_size=2,
    )
    for sweep, late in ((1, 3), (2, None)):
        for n, focus in enumerate(FOCUS):
            at = START + (10 * sweep + n) * 5 * PERIOD
            order = command(at, focus, sweep, n, WHOLE)
            shown = ('image_raw', image(at + PERIOD, grey(focus)))
            orders = len(harness.input.commanded_focus.commands)
            if n == late:
                send(harness, [shown])
            harness.publish('focus_command', order)
            harness.until(lambda o=orders: len(harness.input.commanded_focus.commands) > o)
            if n != late:
                send(harness, [shown])
    # The image was taken for one of the plane before; the sweep that has it is dropped.
    (stack,) = [stack for stack in harness.stacks if len(stack.planes) == WHOLE]
    assert stack.sweep_id == 2
    assert all(a == b for stack in harness.stacks for a, b in pairs(stack))
    assert counts(harness)['late_command'] == 1
