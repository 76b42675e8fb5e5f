# SPDX-License-Identifier: Apache-2.0
"""Words that Tab offers where argparse knows no choices."""

from __future__ import annotations

import argparse
from collections.abc import Iterable


def offer(action: argparse.Action, words: Iterable[str]) -> None:
    """Let Tab offer these words for an argument."""
    offered = [*words]
    # Where argcomplete looks for it.
    action.completer = lambda **_: offered  # type: ignore[attr-defined]
