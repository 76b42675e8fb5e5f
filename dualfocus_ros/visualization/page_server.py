# SPDX-License-Identifier: Apache-2.0
"""Serves a page and, live, the sweeps that come. Standard library, this machine only."""

from __future__ import annotations

from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import json
import logging
import socket
import threading
import time
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlsplit

logger = logging.getLogger(__name__)

_LOOPBACK = ('127.0.0.1', 'localhost', '::1')
_POLL_TIMEOUT = 5.0  # seconds that a page waits for a sweep before it asks again
_VIEWER_TIMEOUT = 5.0  # a page that has not asked for so long is not looked at


class PageServer:
    """Serves ``/`` and, for live pages, ``/sweeps?after=NUMBER``; a context manager.

    :param host: address; names other than it are refused, so that no page of elsewhere can ask
        by a name that it has pointed here.
    :param port: 0 for any that is free.
    :raises OSError: if the address cannot be used.
    """

    def __init__(self, page: str, host: str, port: int) -> None:
        self.page = page
        self._newest: bytes | None = None
        self._number = 0
        self._waiting_for = 'waiting for the first sweep'
        self._changed = threading.Condition()
        self._closing = False
        self._asking = 0
        self._asked = -_VIEWER_TIMEOUT
        self._names = {*_LOOPBACK, host} if host in _LOOPBACK else None
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = 'HTTP/1.1'
            timeout = 60

            def do_GET(self) -> None:
                owner.answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                logger.debug('%s', format % args)

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            address_family = socket.AF_INET6 if ':' in host else socket.AF_INET

            def handle_error(self, request: Any, client_address: Any) -> None:
                # A browser that goes away in the middle is no news.
                logger.debug('%s', client_address, exc_info=True)

        self._server = Server((host, port), Handler)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={'poll_interval': 0.1}, daemon=True
        )

    @property
    def url(self) -> str:
        """Where the page is."""
        host, port = self._server.server_address[:2]
        name = f'[{host!s}]' if ':' in str(host) else str(host)
        return f'http://{name}:{port}/'

    @property
    def has_viewers(self) -> bool:
        """Whether a page asks for sweeps."""
        return self._asking > 0 or time.monotonic() - self._asked < _VIEWER_TIMEOUT

    def __enter__(self) -> PageServer:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def wait(self) -> None:
        """Serve until KeyboardInterrupt, which ends it and is no failure."""
        try:
            while self._thread.is_alive():
                self._thread.join(1.0)
        except KeyboardInterrupt:
            logger.info('ended by a signal')

    def show(self, sweep: dict[str, Any]) -> None:
        """Hand a sweep to the pages that wait for one."""
        with self._changed:
            self._number += 1
            text = json.dumps({'number': self._number, 'sweep': sweep}, allow_nan=False)
            self._newest = text.encode('utf-8')
            self._changed.notify_all()

    def state(self, text: str) -> None:
        """Set what pages say while nothing comes."""
        self._waiting_for = text

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        host = urlsplit(f'//{request.headers.get("Host", "")}').hostname
        if self._names is not None and host not in self._names:
            _send(request, HTTPStatus.FORBIDDEN, 'text/plain', b'not by this name\n')
            return
        url = urlsplit(request.path)
        if url.path == '/':
            _send(request, HTTPStatus.OK, 'text/html; charset=utf-8', self.page.encode())
        elif url.path == '/sweeps':
            after = parse_qs(url.query).get('after', ['0'])[0]
            self._send_newest(request, int(after) if after.isdecimal() else 0)
        else:
            _send(request, HTTPStatus.NOT_FOUND, 'text/plain', b'no such page\n')

    def _send_newest(self, request: BaseHTTPRequestHandler, after: int) -> None:
        """Send the newest sweep, once there is one that the page does not have."""
        with self._changed:
            # A number from before this server was started counts as none.
            after = after if after <= self._number else 0
            # Until the first sweep the page says what is missing, which may change soon.
            patience = _POLL_TIMEOUT if self._number else 1.0
            self._asking += 1
            self._changed.wait_for(lambda: self._closing or self._number > after, patience)
            self._asking -= 1
            self._asked = time.monotonic()
            newest = self._newest if self._number > after else None
        if newest is None:
            text = self._waiting_for.encode('utf-8')
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
