# SPDX-License-Identifier: Apache-2.0
"""``dualfocus view`` of a running node: pages, subscriptions only while one is open, Ctrl-C."""

from collections.abc import Callable
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
import urllib.request

import numpy as np
import pytest
from sensor_msgs.msg import Image

from browser import find_browser, running_browser
from sweep_pages import depth_of

CAMERA = {'width': 160, 'height': 120, 'rate': 12.0, 'threads': 1, 'settling_time': 0.06}
SWEEP = {'count': 4, 'far_dioptres': 0.3}


class View:
    """``dualfocus view`` as a process."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, '-m', 'dualfocus_ros.cli.main', 'view', *arguments, '--port', '0'],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ.copy(),
        )

    def url(self) -> str:
        """Return where the page is, once it is there."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line.startswith('http://127.0.0.1:'), self.process.communicate(timeout=20)
        return line

    def interrupt(self) -> tuple[int, str]:
        """Press Ctrl-C; return exit status and output."""
        self.process.send_signal(signal.SIGINT)
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors


@pytest.fixture
def view():
    started: list[View] = []

    def run(*arguments: str) -> View:
        started.append(View(*arguments))
        return started[-1]

    yield run
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.communicate()


def sweep_after(url: str, number: int, patience: float = 90.0) -> dict:
    """Return the first sweep after a number."""
    end = time.monotonic() + patience
    said = ''
    while time.monotonic() < end:
        with urllib.request.urlopen(f'{url}sweeps?after={number}', timeout=30.0) as answer:
            body = answer.read().decode()
            if answer.status == 200:
                return json.loads(body)
            said = body
    pytest.fail(f'no sweep within {patience:g} s: {said}')


def until(condition: Callable[[], bool], what: str, patience: float = 40.0) -> None:
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.1)


@pytest.mark.slow
def test_live_page_shows_running_node(start, listener, view, tmp_path: Path):
    namespace = {'__ns': '/front'}
    viewer = view('--live', '/front', '--curves', '--device', 'cpu', '-p', 'threads:=1')
    url = viewer.url()
    with urllib.request.urlopen(f'{url}sweeps?after=0', timeout=30.0) as answer:
        assert answer.status == 202
        assert '/front/depth/image_rect has no publisher' in answer.read().decode()
    for name, parameters in (
        ('sim_camera_node', CAMERA),
        ('focus_sweep_node', SWEEP),
        ('depth_node', {'threads': 1}),
    ):
        start(name, namespace, **parameters)
    heard = listener.collect(Image, '/front/depth/image_rect')
    first = sweep_after(url, 0)
    second = sweep_after(url, first['number'])
    assert second['number'] > first['number']
    sweep = second['sweep']
    # The first stacks may hold planes that this process had not yet subscribed to.
    while sweep['planes'] is None or sweep['curves'] is None:
        second = sweep_after(url, second['number'])
        sweep = second['sweep']
    assert len(sweep['planes']) == len(sweep['focus']) == 4
    assert (sweep['width'], sweep['height']) == (160, 120)
    assert sweep['camera'] is not None and sweep['confidence'] is not None

    def published() -> dict:
        return {f'{m.header.stamp.sec}.{m.header.stamp.nanosec // 10**6:03d}': m for m in heard}

    stamp = sweep['name'].split()[-2]
    listener.until(lambda: stamp in published(), what='for the depth that the page shows')
    expected = np.frombuffer(published()[stamp].data, np.float32).reshape(120, 160)
    assert depth_of(sweep) == pytest.approx(expected, rel=3e-4, nan_ok=True)

    if find_browser() is not None:
        with running_browser(tmp_path / 'profile') as new_page:
            page = new_page()
            page.open(url)
            shown = page.evaluate('document.body.dataset.shown')
            page.until(f'document.body.dataset.shown !== {shown!r}')
            assert page.evaluate('document.querySelectorAll("#curve circle").length') == 4
            assert page.pixels('#cloud')[..., 3].any()
            assert page.problems() == []
            assert all(asked.startswith(url) for asked in page.requests())
    count = len(listener.node.get_subscriptions_info_by_topic('/front/depth/sigma'))
    assert count == 1
    # Without viewers there are no subscriptions.
    until(
        lambda: not listener.node.get_subscriptions_info_by_topic('/front/depth/sigma'),
        'the subscriptions of a page that is closed remain',
        60.0,
    )
    status, errors = viewer.interrupt()
    assert status == 0, errors
    assert 'Traceback' not in errors


def test_a_source_without_depth_node_is_refused(view):
    viewer = view('/nothing/here')
    assert viewer.process.wait(30.0) == 2
    assert '/nothing/here is neither a bag nor the namespace of a running depth node' in (
        viewer.process.stderr.read()
    )
