# SPDX-License-Identifier: Apache-2.0
"""Server of sweep pages."""

import json
import re
import urllib.error
import urllib.request

import pytest

from dualfocus_ros.visualization.page_server import PageServer


def get(url: str, **headers: str):
    request = urllib.request.Request(url, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=20.0) as answer:
            return answer.status, answer.read().decode(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode(), dict(error.headers)


def test_server_serves_its_page_and_each_sweep_once():
    with PageServer('<p>here</p>', '127.0.0.1', 0) as server:
        assert re.fullmatch(r'http://127\.0\.0\.1:\d+/', server.url)
        status, body, headers = get(server.url)
        assert (status, body) == (200, '<p>here</p>')
        assert headers['Cache-Control'] == 'no-store'
        assert not server.has_viewers
        server.status = 'waiting for depth'
        assert get(f'{server.url}sweeps?after=0')[:2] == (202, 'waiting for depth')
        assert server.has_viewers
        for name in ('first', 'second'):
            server.publish({'name': name})
        status, body, _ = get(f'{server.url}sweeps?after=1')
        assert status == 200 and json.loads(body) == {'number': 2, 'sweep': {'name': 'second'}}
        # A page that was opened before a restart of the server.
        assert json.loads(get(f'{server.url}sweeps?after=900')[1])['number'] == 2
        for path in ('etc/passwd', '../setup.py', 'sweeps/x'):
            assert get(server.url + path)[0] == 404
        # DNS rebinding: a foreign name that resolves to this machine.
        assert get(server.url, Host='evil.example:80')[0] == 403
        assert get(server.url, Host=server.url.split('/')[2])[0] == 200
        url = server.url
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=2.0)
