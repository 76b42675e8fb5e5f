# SPDX-License-Identifier: Apache-2.0
"""Playback of a bag on a simulated clock: pace, loops, clock messages."""

import pytest

from dualfocus_ros.bags.player import BagPlayer, PlaybackSettings
from dualfocus_ros.bags.reader import BagError, BagReader
from dualfocus_ros.cli.main import main
from small_bags import PERIOD, START, wall_bag

FRAMES = 15
LENGTH = (FRAMES - 1) * PERIOD * 1e-9


def play(path, **settings):
    """Return (wall time, topic or None for the clock, bag time) of everything sent, and counts."""
    wall, sent = 100.0, []

    def sleep(seconds):
        nonlocal wall
        wall += seconds

    with BagReader(path) as bag:
        player = BagPlayer(
            bag,
            list(bag.topics),
            PlaybackSettings(**{'settle': 0.0, **settings}),
            lambda m: sent.append((wall - 100.0, m.topic, m.stamp_ns)),
            lambda stamp: sent.append((wall - 100.0, None, stamp)),
            sleep,
            lambda: wall,
        )
        counts = player.run()
    return sent, counts


def images(sent):
    return [(at, stamp) for at, topic, stamp in sent if topic == '/image_raw']


def clocks(sent):
    return [stamp for _, topic, stamp in sent if topic is None]


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    return wall_bag(tmp_path_factory.mktemp('replay') / 'in')


@pytest.mark.parametrize('rate', [0.5, 1.0, 4.0])
def test_publishes_messages_when_due(bag, rate):
    sent, counts = play(bag, rate=rate)
    assert (counts.messages, counts.loops) == (3 * FRAMES, 1)
    for at, stamp in images(sent):
        assert at == pytest.approx((stamp - START) * 1e-9 / rate, abs=1e-6)
    # The clock never goes back, is never ahead of a message, nor far behind.
    times = clocks(sent)
    assert times == sorted(times) and times[0] == START
    newest = START
    for _, topic, stamp in sent:
        if topic is None:
            newest = stamp
        else:
            assert 0 <= stamp - newest <= 25e6 * max(1.0, rate)


def test_rate_0_does_not_wait(bag):
    sent, _ = play(bag, rate=0.0)
    assert {at for at, _ in images(sent)} == {0.0}
    assert len(clocks(sent)) > 5


def test_loops_jump_back_after_the_delay(bag):
    sent, counts = play(bag, loops=3, loop_delay=0.5, settle=0.1)
    assert (counts.messages, counts.loops) == (9 * FRAMES, 3)
    stamps = [stamp for _, stamp in images(sent)]
    assert stamps == 3 * sorted(set(stamps))
    firsts = [at for at, stamp in images(sent) if stamp == START]
    assert firsts == pytest.approx([0.1 + n * (LENGTH + 0.6) for n in range(3)], abs=1e-6)
    # The clock jumps before the first message of a loop, and only there.
    times = clocks(sent)
    back = [n for n in range(1, len(times)) if times[n] < times[n - 1]]
    assert len(back) == 2 and all(times[n] == START for n in back)


def test_plays_a_part(bag):
    sent, _ = play(bag, start_offset=0.1, duration=0.2)
    stamps = [stamp for _, stamp in images(sent)]
    assert stamps == [START + n * PERIOD for n in range(4, 10)]
    with pytest.raises(BagError, match='a start offset of 9 s leaves nothing'):
        play(bag, start_offset=9.0)


@pytest.mark.parametrize(
    ('words', 'text'),
    [
        (('--rate', '-1'), '--rate: must be 0 or more'),
        (('--loops', '0'), '--loops: must be 1 or more'),
        (('--start-offset', '-1'), '--start-offset: must be 0 or more'),
        (('--topics', '/no'), 'has no topic /no; it has /camera_info, /focus_state, /image_raw'),
    ],
)
def test_reports_usage_errors(bag, capsys, words, text):
    assert main(['replay', str(bag), *words]) == 2
    assert text in capsys.readouterr().err
