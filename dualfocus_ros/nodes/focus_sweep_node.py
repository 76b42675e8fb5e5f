# SPDX-License-Identifier: Apache-2.0
"""``focus_sweep_node``: drives a lens through the planes of a focal sweep."""

from __future__ import annotations

from typing import Any

from dualfocus_ros.nodes.node_runner import run


def main(args: list[str] | None = None) -> int:
    """Run the node until a signal; returns the exit code."""
    return run(create_node, args)


def create_node() -> Any:
    # Late, so that signals are handled while these are loaded.
    from dualfocus_ros.nodes.focus_sweep import FocusSweepNode

    return FocusSweepNode()
