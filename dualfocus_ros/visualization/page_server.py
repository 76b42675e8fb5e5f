# SPDX-License-Identifier: Apache-2.0
"""HTTP server of a sweep page and, for live pages, of its sweeps; standard library only."""

from __future__ import annotations

from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import logging
import socket
import threading
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

logger = logging.getLogger(__name__)

_LOOPBACK = ('127.0.0.1', 'localhost', '::1')
_POLL_TIMEOUT = 5.0  # s; a poll without a new sweep is answered after it
_STATUS_POLL_TIMEOUT = 1.0  # s; before the first sweep, when the status changes often
_VIEWER_TIMEOUT = 5.0  # s; a page that has not polled for so long is closed


class PageServer:
    """Server of ``/`` and, for live pages, ``/sweeps?after=NUMBER``; a context manager.

    The attribute ``status`` is the text that pages show while no sweep arrives.

    :param host: address. On a loopback address, requests with another Host header are refused:
        a foreign web page could otherwise read the sweeps by DNS rebinding.
    :param port: 0 for any free port.
    :raises OSError: if the address cannot be used.
    """

    def __init__(self, page: str, host: str, port: int) -> None:
        self.page = page
        self._newest: bytes | None = None
        self._number = 0
        self.status = 'waiting for the first sweep'
        self._changed = threading.Condition()
        self._closing = False
        self._open_polls = 0
        self._last_poll = -_VIEWER_TIMEOUT
        self._allowed_hosts = {*_LOOPBACK, host} if host in _LOOPBACK else None
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'
            timeout = 60

            def do_GET(self) -> None:
                owner.handle(self)

            def log_message(self, format: str, *args: Any) -> None:
                logger.debug('%s', format % args)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            address_family = socket.AF_INET6 if ':' in host else socket.AF_INET

            def handle_error(self, request: Any, client_address: Any) -> None:
                # A browser that disconnects during an answer is normal.
                logger.debug('%s', client_address, exc_info=True)

        self._server = Server((host, port), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={'poll_interval': 0.1}, daemon=True
        )

    @property
    def url(self) -> str:
        """Address of the page."""
        host, port = self._server.server_address[:2]
        name = f'[{host!s}]' if ':' in str(host) else str(host)
        return f'http://{name}:{port}/'

    @property
    def has_viewers(self) -> bool:
        """Whether a page polls for sweeps."""
        return self._open_polls > 0 or time.monotonic() - self._last_poll < _VIEWER_TIMEOUT

    def __enter__(self) -> PageServer:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self) -> None:
        """Serve until KeyboardInterrupt, the normal end."""
        try:
            while self._thread.is_alive():
                self._thread.join(1.0)
        except KeyboardInterrupt:
            logger.info('ended by a signal')

    def publish(self, sweep: dict[str, Any]) -> None:
        """Send a sweep to all pages that poll."""
        with self._changed:
            self._number += 1
            text = json.dumps({'number': self._number, 'sweep': sweep}, allow_nan=False)
            self._newest = text.encode('utf-8')
            self._changed.notify_all()

    def handle(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        host = urlsplit(f'//{request.headers.get("Host", "")}').hostname
        if self._allowed_hosts is not None and host not in self._allowed_hosts:
            _send(request, HTTPStatus.FORBIDDEN, 'text/plain', b'Host header not allowed\n')
            return
        url = urlsplit(request.path)
        if url.path == '/':
            _send(request, HTTPStatus.OK, 'text/html; charset=utf-8', self.page.encode())
        elif url.path == '/sweeps':
            after = parse_qs(url.query).get('after', ['0'])[0]
            self._answer_poll(request, int(after) if after.isdecimal() else 0)
        else:
            _send(request, HTTPStatus.NOT_FOUND, 'text/plain', b'no such page\n')

    def _answer_poll(self, request: BaseHTTPRequestHandler, after: int) -> None:
        """Send the newest sweep once its number exceeds ``after``; the status at the timeout."""
        with self._changed:
            # A larger number is from an earlier server: the page has no sweep of this one.
            after = after if after <= self._number else 0
            timeout = _POLL_TIMEOUT if self._number else _STATUS_POLL_TIMEOUT
            self._open_polls += 1
            self._changed.wait_for(lambda: self._closing or self._number > after, timeout)
            self._open_polls -= 1
            self._last_poll = time.monotonic()
            newest = self._newest if self._number > after else None
        if newest is None:
            text = self.status.encode('utf-8')
            _send(request, HTTPStatus.ACCEPTED, 'text/plain; charset=utf-8', text)
        else:
            _send(request, HTTPStatus.OK, 'application/json', newest)


def _send(request: BaseHTTPRequestHandler, status: HTTPStatus, kind: str, body: bytes) -> None:
    request.send_response(status)
    request.send_header('Content-Type', kind)
    request.send_header('Content-Length', str(len(body)))
    request.send_header('Cache-Control', 'no-store')
    request.send_header('X-Content-Type-Options', 'nosniff')
    request.send_header('Referrer-Policy', 'no-referrer')
    request.end_headers()
    request.wfile.write(body)
