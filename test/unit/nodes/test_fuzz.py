# SPDX-License-Identifier: Apache-2.0
"""Fuzzing of all message callbacks: no exception, no large allocation, every message counted.

The ordinary run uses some hundred fixed examples, `make fuzz` ten thousand random ones
(DUALFOCUS_FUZZ=N; --hypothesis-seed=S repeats a run). test_hostile_messages.py has a test for each
finding.
"""

from collections import Counter
from functools import partial
import itertools
import os
from pathlib import Path
import re
import time
import tracemalloc

from hypothesis import HealthCheck, given, settings, strategies as st
import numpy as np
import pytest

pytest.importorskip('rclpy', reason='needs ROS 2: source its setup file')
pytest.importorskip('dualfocus_ros.msg', reason='needs the built messages: make build')

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from depth_node_harness import (
    DepthNodeHarness,
    FakeEstimator,
    camera_info,
    command,
    focus_state,
    image,
    stack_message,
)
from dualfocus_ros.inference.result import DepthResult
from dualfocus_ros.msg import FocalStack, FocusCommand, FocusState
from dualfocus_ros.nodes.inputs import SweepInput
from dualfocus_ros.nodes.messages import image_decoding
from dualfocus_ros.nodes.messages.image_decoding import MessageError
from dualfocus_ros.nodes.monitoring import diagnostics
from dualfocus_ros.sweep.stage_counter import Stage
import hostile_messages as hostile
from hostile_messages import MAX_PIXELS

EXAMPLES = int(os.environ.get('DUALFOCUS_FUZZ', '500'))
FULL = 'DUALFOCUS_FUZZ' in os.environ
SHARES = {
    'Image': 0.14,
    'Image data': 0.06,
    'CompressedImage': 0.2,
    'CompressedImage data': 0.1,
    'CameraInfo': 0.08,
    'FocusState': 0.08,
    'FocusCommand': 0.05,
    'FocalStack': 0.1,
    'DiagnosticArray': 0.04,
    'CDR': 0.05,
    'Sweep': 0.1,
}
# Allowed growth of the process memory: lazily loaded libraries, and pages returning from swap or
# page cache in a long run of tests. The sizes in the messages are gigabytes.
MOST_GROWTH = 384 * 1024 * 1024
GUARD = 4096
# Limit of the texts that /diagnostics repeats each second.
LONGEST_TEXT = 2000
# Reasons at the stage MATCHED that count images; the others count focus reports and
# calibrations.
OF_IMAGES = {
    'duplicate_stamp',
    'no_focus',
    'focus_unknown',
    'focus_out_of_range',
    'lens_fault',
    'focus_disputed',
    'format_changed',
    'clock_jump',
    'reset',
}

PLANES = {'input': 'planes', 'planes__focus_dioptres': (0.5, 1.0, 2.0)}
KINDS = (
    {'input': 'sweep'},
    {'input': 'sweep', 'focus_source': 'command'},
    {'input': 'sweep', 'focus_source': 'camera_ros'},
    {'input': 'sweep', 'image_transport': 'compressed'},
    {'input': 'stack'},
    PLANES,
)

pytestmark = pytest.mark.timeout(1800 if FULL else 180)


def fuzz(kind):
    """Return the hypothesis settings for one kind of message."""
    return settings(
        max_examples=max(10, round(SHARES[kind] * EXAMPLES)),
        deadline=None,
        database=None,
        derandomize=not FULL,
        suppress_health_check=list(HealthCheck),
    )


# Images without a stamp, by node; focus reports are counted under the same reason.
STAMPLESS = Counter()


class Tally:
    """Counts of given, accepted and rejected messages."""

    def __init__(self):
        self.given = Counter()
        self.accepted = Counter()
        self.rejected = Counter()

    def note(self, kind, reasons):
        self.given[kind] += 1
        if reasons:
            self.rejected.update((kind, reason) for reason in reasons)
        else:
            self.accepted[kind] += 1

    def lines(self):
        yield f'{sum(self.given.values())} hostile messages'
        for kind, count in self.given.items():
            reasons = ', '.join(
                f'{reason} {n}' for (k, reason), n in self.rejected.most_common() if k == kind
            )
            yield f'  {kind}: {count} given, {self.accepted[kind]} accepted; {reasons}'


class Constant(FakeEstimator):
    """An estimator that returns one metre."""

    def estimate(self, stack, outputs):
        depth = np.ones(stack.size, np.float32)
        return DepthResult(
            depth=depth,
            focus_dioptres=stack.focus_dioptres,
            reference=stack.reference,
            camera=stack.planes[stack.reference].camera,
        )


@pytest.fixture(scope='module')
def tally():
    return Tally()


@pytest.fixture(scope='module')
def nodes():
    """Return a function that returns the node with given parameters."""
    made = {}
    for parameters in KINDS:
        harness = DepthNodeHarness(
            load=lambda settings: Constant(),
            max_pixels=MAX_PIXELS,
            stack__min_size=2,
            **parameters,
        )
        made[tuple(parameters.items())] = harness
        for topic in ('depth/image_rect', 'depth/camera_info', 'stack_info'):
            harness.listen(topic)
        harness.ready()
    yield lambda **parameters: made[tuple(parameters.items())]
    for harness in made.values():
        harness.close()


def peak_memory():
    """Return the peak memory of this process since the last reset."""
    status = Path('/proc/self/status').read_text()
    return int(re.search(r'VmHWM:\s+(\d+)', status).group(1)) * 1024


def reset_peak():
    Path('/proc/self/clear_refs').write_text('5')


@pytest.fixture(autouse=True)
def bounded_memory(nodes):
    """Fail if the memory of the process grows beyond the limit."""
    try:
        reset_peak()
    except OSError:
        yield
        return
    before = peak_memory()
    yield
    assert peak_memory() - before < MOST_GROWTH


def rejections(harness):
    return Counter({(r.stage, r.reason): r.count for r in harness.counts().rejections})


def give(harness, message, callback):
    """Pass a message to a callback, then run the conversion and the tick of the timer.

    :returns: the immediate rejections of the message, and the changes of the counts.
    """
    before, counts = rejections(harness), harness.counts().counts
    callback(message)
    converter = harness.depth_node.converter
    while not converter.idle:
        time.sleep(0.0002)
        converter.deliver()
    new = rejections(harness) - before
    if isinstance(message, Image | CompressedImage):
        STAMPLESS[id(harness)] += new[Stage.MATCHED, 'zero_stamp']
    after = harness.counts().counts
    harness.depth_node._tick()
    balanced(harness)
    if sum(after.values()) % 50 == 0:
        harness.spin(0.0)
    return new, {stage: after[stage] - counts[stage] for stage in Stage}


def image_callback(source, plane=None):
    """Return the image callback of the camera, or of one of several cameras."""
    if plane is None:
        return partial(source.on_image, 'image_raw', source.on_frame)
    return partial(source.on_image, f'plane_{plane}/image_raw', source.frame_callback(plane))


def balanced(harness):
    """Check that every valid image of a camera is matched, dropped or pending."""
    source = harness.input
    if not isinstance(source, SweepInput):
        return
    snapshot = harness.counts()
    given_up = STAMPLESS[id(harness)] + sum(
        r.count for r in snapshot.rejections if r.stage is Stage.MATCHED and r.reason in OF_IMAGES
    )
    waiting = source.assembler.pending_frames
    assert snapshot.counts[Stage.VALID] == snapshot.counts[Stage.MATCHED] + given_up + waiting


def accounts(new, counted):
    """Check that one image message was received and then valid or rejected; return which."""
    refused = {reason: n for (stage, reason), n in new.items() if stage is Stage.VALID}
    assert counted[Stage.RECEIVED] == 1
    assert counted[Stage.VALID] + sum(refused.values()) == 1
    return list(refused)


@pytest.mark.fault(12, 13)
@given(
    message=hostile.images(), mode=st.sampled_from(['focus_state', 'command', 'planes', 'idle'])
)
@fuzz('Image')
def test_images(nodes, tally, message, mode):
    if mode == 'planes':
        harness = nodes(**PLANES)
        callback = image_callback(harness.input, message.header.stamp.nanosec % 3)
    else:
        harness = nodes(input='sweep', **({'focus_source': mode} if mode == 'command' else {}))
        callback = image_callback(harness.input)
    harness.input.enabled = mode != 'idle'
    tally.note('Image', accounts(*give(harness, message, callback)))


@pytest.mark.fault(12, 13)
@given(message=hostile.compressed_images, idle=st.booleans())
@fuzz('CompressedImage')
def test_compressed_images(nodes, tally, message, idle):
    harness = nodes(input='sweep', image_transport='compressed')
    harness.input.enabled = not idle
    callback = image_callback(harness.input)
    tally.note('CompressedImage', accounts(*give(harness, message, callback)))


@pytest.mark.fault(12, 13)
@given(message=hostile.focal_stacks(), idle=st.booleans())
@fuzz('FocalStack')
def test_focal_stacks(nodes, tally, message, idle):
    harness = nodes(input='stack')
    harness.input.enabled = not idle
    tally.note('FocalStack', accounts(*give(harness, message, harness.input.on_stack)))


@pytest.mark.fault(15)
@given(message=hostile.camera_infos(), kind=st.sampled_from(['sweep', 'planes', 'stack']))
@fuzz('CameraInfo')
def test_camera_infos(nodes, tally, message, kind):
    harness = nodes(**(PLANES if kind == 'planes' else {'input': kind}))
    new, _ = give(harness, message, harness.input.on_camera_info)
    reasons = [r for (_, r), n in new.items() if r in ('uncalibrated', 'camera_info')]
    assert len(reasons) == (harness.input.calibration_error is not None)
    tally.note('CameraInfo', reasons)


@given(message=hostile.focus_states)
@fuzz('FocusState')
def test_focus_states(nodes, tally, message):
    harness = nodes(input='sweep')
    new, _ = give(harness, message, harness.input.on_focus_state)
    tally.note('FocusState', [r for (_, r), n in new.items() if r == 'zero_stamp'])


@given(message=hostile.focus_commands)
@fuzz('FocusCommand')
def test_focus_commands(nodes, tally, message):
    harness = nodes(input='sweep', focus_source='command')
    new, _ = give(harness, message, harness.input.on_command)
    tally.note('FocusCommand', [r for _, r in new])


@given(message=hostile.metadata)
@fuzz('DiagnosticArray')
def test_metadata(nodes, tally, message):
    harness = nodes(input='sweep', focus_source='camera_ros')
    new, _ = give(harness, message, harness.input.on_metadata)
    tally.note('DiagnosticArray', [r for _, r in new])


# Clock of the damaged sweeps, which continues from one to the next.
CLOCK = itertools.count(1_800_000_000 * 10**9, 10**9)
PLANE_PERIOD = 100 * 10**6


@given(
    damage=st.lists(
        st.tuples(
            st.integers(0, 8), st.sampled_from(['drop', 'twice', 'late', 'stamp', 'strange'])
        ),
        max_size=4,
    ),
    strange=hostile.images(),
    report=hostile.focus_states,
    count=st.sampled_from([0, 3, 3, 3]),
    number=st.integers(0, 5),
)
@settings(fuzz('Sweep'), max_examples=max(10, round(SHARES['Sweep'] * EXAMPLES / 9)))
def test_damaged_sweeps(nodes, tally, damage, strange, report, count, number):
    harness = nodes(input='sweep')
    source = harness.input
    source.enabled = True
    start = next(CLOCK)
    messages = []
    for index in range(3):
        stamp = start + index * PLANE_PERIOD
        state = focus_state(stamp, 0.5 + 0.5 * index, number, index, count)
        messages += [camera_info(stamp, 50.0), state, image(stamp, index)]
    for at, what in damage:
        at = at % max(1, len(messages))
        if what == 'drop':
            del messages[at : at + 1]
        elif what == 'twice':
            messages[at:at] = messages[at : at + 1]
        elif what == 'late':
            messages += messages[at : at + 1]
            del messages[at : at + 1]
        elif what == 'stamp' and messages:
            messages[at].header.stamp = strange.header.stamp
        elif what == 'strange':
            messages.insert(at, strange if at % 2 else report)
    callbacks = {
        CameraInfo: source.on_camera_info,
        FocusState: source.on_focus_state,
        Image: image_callback(source),
    }
    for message in messages:
        new, counted = give(harness, message, callbacks[type(message)])
        if isinstance(message, Image):
            accounts(new, counted)
        tally.note('Sweep', [reason for _, reason in new])


def converted(convert, message):
    """Return the pixels or the reason of the rejection, and check the memory."""
    tracemalloc.start()
    try:
        image = convert(message, MAX_PIXELS)
    except MessageError as error:
        assert str(error) and re.fullmatch('[a-z_]+', error.reason)
        image = error.reason
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 32 * (MAX_PIXELS + len(message.data)) + 65536
    return image


def guarded(message, value):
    """Return the message with its data surrounded by memory filled with ``value``."""
    size = len(message.data)
    memory = np.full(size + 2 * GUARD, value, np.uint8)
    memory[GUARD : GUARD + size] = np.frombuffer(bytes(message.data), np.uint8)
    message._data = memory[GUARD : GUARD + size]
    return memory


def same_whatever_lies_around_it(convert, message):
    """Check that bytes outside the data are neither read nor written."""
    before = bytes(message.data)
    results = []
    for value in (0x00, 0xA5):
        message._data = np.frombuffer(before, np.uint8)
        memory = guarded(message, value)
        results.append(converted(convert, message))
        assert (memory[:GUARD] == value).all() and (memory[-GUARD:] == value).all()
        assert memory[GUARD : len(memory) - GUARD].tobytes() == before
    first, second = results
    if isinstance(first, str) or isinstance(second, str):
        assert first is second or first == second
        return [first]
    assert np.array_equal(first, second)
    assert first.dtype == np.uint8 and first.flags.c_contiguous
    assert 0 < first.size <= 3 * MAX_PIXELS
    return []


@pytest.mark.fault(12)
@given(message=hostile.images())
@fuzz('Image data')
def test_data_of_images(tally, message):
    tally.note('Image data', same_whatever_lies_around_it(image_decoding.image_to_array, message))


@pytest.mark.fault(12)
@given(message=hostile.compressed_images)
@fuzz('CompressedImage data')
def test_data_of_compressed_images(tally, message):
    reasons = same_whatever_lies_around_it(image_decoding.compressed_to_array, message)
    tally.note('CompressedImage data', reasons)


RIGHT = [
    image(10**18, 7),
    camera_info(10**18, 50.0),
    command(10**18, 1.0),
    stack_message(10**18),
    FocusState(focus_dioptres=1.0, plane_count=3),
    CompressedImage(format='png', data=bytes(20)),
    DiagnosticArray(),
]


@pytest.mark.fault(13)
@given(
    message=st.sampled_from(RIGHT),
    words=st.lists(
        st.tuples(
            st.integers(0, 200), st.sampled_from([0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1])
        ),
        max_size=3,
    ),
    cut=st.integers(0, 60),
)
@fuzz('CDR')
def test_sizes_in_serialised_messages(nodes, tally, message, words, cut):
    """Impossible sizes in serialised messages, through the middleware and the node."""
    data = bytearray(serialize_message(message))
    for at, word in words:
        at = 4 * (at % max(1, len(data) // 4))
        data[at : at + 4] = word.to_bytes(4, 'little')
    if cut < 30:
        del data[len(data) - cut :]
    try:
        received = deserialize_message(bytes(data), type(message))
    except Exception as error:
        assert 'deserialize' in str(error)
        tally.note('CDR', ['not_decodable'])
        return
    kind = {
        FocalStack: {'input': 'stack'},
        CompressedImage: {'image_transport': 'compressed'},
        FocusCommand: {'focus_source': 'command'},
        DiagnosticArray: {'focus_source': 'camera_ros'},
    }.get(type(received), {})
    harness = nodes(**{'input': 'sweep', **kind})
    source = harness.input
    if isinstance(received, Image | CompressedImage):
        callback = image_callback(source)
    else:
        callback = getattr(
            source,
            {
                CameraInfo: 'on_camera_info',
                FocusState: 'on_focus_state',
                FocusCommand: 'on_command',
                DiagnosticArray: 'on_metadata',
                FocalStack: 'on_stack',
            }[type(received)],
        )
    new, _ = give(harness, received, callback)
    tally.note('CDR', [r for (stage, r) in new if stage is Stage.VALID])


def shown(harness):
    """Return the counts of rejections in /diagnostics, and the longest text."""
    status = diagnostics.input_status(
        harness.input, harness.counts(), harness.depth_node._times, 0.0
    )
    counts, longest = Counter(), 0
    for pair in status.values:
        longest = max(longest, len(pair.key), len(pair.value))
        if pair.key.startswith('rejected '):
            for count, stage in re.findall(r'(?:^|; )(\d+) not (\w+): ', pair.value):
                counts[Stage(stage), pair.key.removeprefix('rejected ')] += int(count)
    return counts, longest


def test_diagnostics_account_for_every_image(nodes, tally):
    """Last in this file: the counts of every node must add up after all messages."""
    for parameters in KINDS:
        harness = nodes(**parameters)
        harness.spin(0.5)
        assert harness.state == 'active' and harness.worker.restarts == 0
        counts, longest = shown(harness)
        assert counts == rejections(harness)
        assert longest < LONGEST_TEXT
        snapshot = harness.counts()
        if parameters == {'input': 'sweep'}:
            assert snapshot.counts[Stage.STACKED] > 0 and snapshot.counts[Stage.PUBLISHED] > 0
        # Hostile messages stop here; valid ones are published.
        assert snapshot.rejected('inference_failed') == 0, snapshot


def test_fuzzing_ran_the_requested_examples(tally, capsys):
    if FULL:
        with capsys.disabled():
            print('', *tally.lines(), sep='\n')
    assert sum(tally.given.values()) >= EXAMPLES
    assert set(tally.given) == set(SHARES)
    # Some are rejected and some accepted, so that the checks and the code after them are reached.
    # Commands are accepted unchecked; their focus is checked with the image.
    for kind in SHARES:
        refused = tally.given[kind] - tally.accepted[kind]
        assert tally.accepted[kind] > 0.02 * tally.given[kind], kind
        assert refused > 0.02 * tally.given[kind] or kind == 'FocusCommand', kind
