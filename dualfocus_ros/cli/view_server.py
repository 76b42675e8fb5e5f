# SPDX-License-Identifier: Apache-2.0
"""Server of ``dualfocus view``: start, and announcement of its address."""

from __future__ import annotations

import argparse
import logging
from typing import Any
import webbrowser

from dualfocus_ros.cli.console import echo, echo_json
from dualfocus_ros.exceptions import CommandError
from dualfocus_ros.visualization.page_server import PageServer

logger = logging.getLogger(__name__)


def start_server(arguments: argparse.Namespace, page: str) -> PageServer:
    """Return a server at ``--host`` and ``--port``.

    :raises CommandError: if the address cannot be used.
    """
    try:
        return PageServer(page, arguments.host, arguments.port)
    except OSError as error:
        raise CommandError(
            f'cannot serve at {arguments.host}:{arguments.port}: {error.strerror or error}; '
            'choose another --port, or 0 for any'
        ) from None


def announce(arguments: argparse.Namespace, url: str, summary: dict[str, Any]) -> None:
    """Print the address or the summary, and open a browser on request."""
    if arguments.json:
        echo_json(summary)
    else:
        echo(url)
    logger.info('stop with Ctrl-C')
    if arguments.open:
        webbrowser.open(url)
