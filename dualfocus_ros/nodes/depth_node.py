# SPDX-License-Identifier: Apache-2.0
"""The executable ``depth_node``: metric depth from a camera whose focus moves."""

from __future__ import annotations

from typing import Any

from dualfocus_ros.nodes.runner import run


def main(args: list[str] | None = None) -> int:
    """Run the node until a signal; return the exit code."""
    return run(_create, args)


def _create() -> Any:
    from dualfocus_ros.nodes.depth import DepthNode

    return DepthNode()
