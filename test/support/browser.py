# SPDX-License-Identifier: Apache-2.0
"""Headless Chromium, controlled by the DevTools protocol over two pipes."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
import io
import json
import os
from pathlib import Path
import select
import shutil
import signal
import subprocess
import time
from typing import Any

import numpy as np
from PIL import Image

NAMES = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
_TIMEOUT = 60.0


def find_browser() -> str | None:
    """Return the path of Chromium, None if it is not installed."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Page:
    """One page of a running browser."""

    def __init__(self, read: int, write: int) -> None:
        self._read = read
        self._write = write
        self._buffer = b''
        self._last = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        attached = self.call('Target.attachToTarget', targetId=target, flatten=True)
        self._session = attached['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.call(f'{domain}.enable')

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        self._last += 1
        message: dict[str, Any] = {'id': self._last, 'method': method, 'params': parameters}
        if self._session is not None:
            message['sessionId'] = self._session
        os.write(self._write, json.dumps(message).encode() + b'\0')
        end = time.monotonic() + _TIMEOUT
        while True:
            answer = self._receive(end - time.monotonic())
            if answer.get('id') != self._last:
                self.events.append(answer)
            elif 'error' in answer:
                raise RuntimeError(f'{method}: {answer["error"]}')
            else:
                return dict(answer['result'])

    def _receive(self, seconds: float) -> dict[str, Any]:
        end = time.monotonic() + seconds
        while b'\0' not in self._buffer:
            if not select.select([self._read], [], [], max(0.0, end - time.monotonic()))[0]:
                raise TimeoutError('no answer from the browser')
            data = os.read(self._read, 1 << 20)
            if not data:
                raise RuntimeError('the browser has exited')
            self._buffer += data
        message, self._buffer = self._buffer.split(b'\0', 1)
        return dict(json.loads(message))

    def open(self, url: str, width: int = 1300, height: int = 1700, dark: bool = False) -> None:
        """Load a page and wait until it shows a sweep."""
        self.call(
            'Emulation.setDeviceMetricsOverride',
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}
        self.call('Emulation.setEmulatedMedia', features=[scheme])
        self.call('Page.navigate', url=url)
        self.until('!!document.body && !!document.body.dataset.shown')
        self.settle()

    def settle(self) -> None:
        """Wait until the requested state is painted."""
        self.evaluate(
            'new Promise(d => requestAnimationFrame(() => requestAnimationFrame(() => d(1))))'
        )

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression in the page; promises are awaited."""
        answer = self.call(
            'Runtime.evaluate', expression=expression, returnByValue=True, awaitPromise=True
        )
        if 'exceptionDetails' in answer:
            raise RuntimeError(f'{expression}: {answer["exceptionDetails"]}')
        return answer['result'].get('value')

    def until(self, condition: str, timeout: float = _TIMEOUT) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + timeout
        while not self.evaluate(condition):
            if time.monotonic() > end:
                raise TimeoutError(f'{condition}; {self.problems()}')
            time.sleep(0.05)

    def box(self, selector: str) -> tuple[float, float, float, float]:
        """Return left, top, width and height of an element, in CSS pixels of the window."""
        box = self.evaluate(
            f'(b => [b.left, b.top, b.width, b.height])'
            f'(document.querySelector({selector!r}).getBoundingClientRect())'
        )
        return tuple(box)  # type: ignore[return-value]

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Dispatch a mouse event (Moved, Pressed, Released, Wheel) and wait for the repaint."""
        name = f'mouse{kind}'
        self.call('Input.dispatchMouseEvent', type=name, x=x, y=y, **more)
        self.settle()

    def drag(self, x: float, y: float, dx: float, dy: float, button: str = 'left') -> None:
        """Drag with a button held."""
        held = {'button': button, 'buttons': {'left': 1, 'right': 2}[button]}
        self.mouse('Pressed', x, y, clickCount=1, **held)
        self.mouse('Moved', x + dx, y + dy, **held)
        self.mouse('Released', x + dx, y + dy, button=button, clickCount=1)

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """Dispatch a touch event (Start, Move, End) with the given points."""
        self.call(
            'Input.dispatchTouchEvent',
            type=f'touch{kind}',
            touchPoints=[{'x': x, 'y': y, 'id': n} for n, (x, y) in enumerate(points)],
        )
        self.settle()

    def pixels(self, selector: str) -> np.ndarray:
        """Return the pixels of a canvas, (H, W, 4) uint8."""
        url = self.evaluate(f'document.querySelector({selector!r}).toDataURL("image/png")')
        data = base64.b64decode(url.split(',', 1)[1])
        return np.asarray(Image.open(io.BytesIO(data)).convert('RGBA'))

    def screenshot(self) -> np.ndarray:
        """Return a screenshot of the window, (H, W, 3) uint8."""
        data = base64.b64decode(self.call('Page.captureScreenshot', format='png')['data'])
        return np.asarray(Image.open(io.BytesIO(data)).convert('RGB'))

    def problems(self) -> list[str]:
        """Return console errors, console warnings and exceptions of the page."""
        self.evaluate('1')
        found = []
        for event in self.events:
            method, params = event.get('method'), event.get('params', {})
            if method == 'Runtime.exceptionThrown':
                details = params['exceptionDetails']
                found.append(str(details.get('exception', {}).get('description', details)))
            elif method == 'Runtime.consoleAPICalled' and params['type'] in ('error', 'warning'):
                found.append(str([a.get('value') for a in params['args']]))
            elif method == 'Log.entryAdded' and params['entry']['level'] in ('error', 'warning'):
                found.append(params['entry']['text'])
        return found

    def requests(self) -> list[str]:
        """Return the requested URLs, without ``data:`` and ``blob:`` URLs."""
        urls = [
            event['params']['request']['url']
            for event in self.events
            if event.get('method') == 'Network.requestWillBeSent'
        ]
        return [url for url in urls if not url.startswith(('data:', 'blob:'))]


@contextmanager
def running_browser(profile: Path) -> Iterator[Callable[[], Page]]:
    """Start a browser; yield a function that opens a new page.

    :param profile: empty folder for the browser profile.
    """
    command = find_browser()
    assert command is not None
    read, to_read = os.pipe()
    from_write, write = os.pipe()
    # The protocol uses file descriptors 3 and 4. The sandbox does not work in containers.
    shell = f'exec "$0" "$@" 3<&{from_write} 4>&{to_read}'
    process = subprocess.Popen(
        [
            'bash',
            '-c',
            shell,
            command,
            '--headless=new',
            '--remote-debugging-pipe',
            '--no-sandbox',
            '--use-angle=swiftshader',
            '--enable-unsafe-swiftshader',
            '--no-first-run',
            '--disable-background-networking',
            '--disable-component-update',
            '--disable-extensions',
            '--hide-scrollbars',
            f'--user-data-dir={profile}',
            'about:blank',
        ],
        pass_fds=(from_write, to_read),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    os.close(to_read)
    os.close(from_write)
    try:
        yield lambda: Page(read, write)
    finally:
        os.close(write)
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        os.close(read)
