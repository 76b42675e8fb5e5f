# SPDX-License-Identifier: Apache-2.0
"""The executable ``depth_node``: metric depth from a camera whose focus moves."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

from dualfocus_ros.nodes.node_runner import run

if TYPE_CHECKING:
    from dualfocus_ros.nodes.depth_parameters import DepthNodeSettings
    from dualfocus_ros.nodes.stack_processor import Estimator


def main(args: list[str] | None = None) -> int:
    """Run the node until a signal; return the exit code."""
    return run(_create, args)


def _create() -> Any:
    from dualfocus_ros.nodes.depth import DepthNode
    from dualfocus_ros.nodes.stack_processor import load_estimator

    def load(settings: DepthNodeSettings) -> Estimator:
        estimator = load_estimator(settings)
        # What is there now stays: to look through all of it for garbage, again and again, would
        # keep every thread for a tenth of a second. For this process to decide, not for a node
        # that may be one of many; and of a model loaded before, what was frozen is garbage now.
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        return estimator

    return DepthNode(load=load)
