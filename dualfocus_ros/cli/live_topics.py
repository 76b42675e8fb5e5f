# SPDX-License-Identifier: Apache-2.0
"""Topics of a running depth node, found in the ROS graph for ``dualfocus view --live``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
import logging
import time
from typing import Any

from dualfocus_ros.cli.bag_arguments import parse_remaps
from dualfocus_ros.exceptions import UsageError
from dualfocus_ros.topics import CAMERA_INFO_TYPE, COMPRESSED_IMAGE, DEPTH, IMAGE
from dualfocus_ros.visualization.output_collector import OUTPUTS

logger = logging.getLogger(__name__)

_DISCOVERY_TIMEOUT = 3.0  # s


@dataclass(frozen=True)
class InputTopics:
    """Inputs of a depth node.

    :param image: topic of the planes; None if they come on several topics.
    :param camera_info: topic of their calibration; None if absent or ambiguous.
    """

    image: str | None = None
    image_type: str = IMAGE
    camera_info: str | None = None


def find_outputs(node: Any, arguments: argparse.Namespace, names: Sequence[str]) -> dict[str, str]:
    """Return absolute names by relative name of the outputs of the depth node.

    :param names: namespaces or topics that select the node.
    :raises UsageError: if names select no node, or several run and none is selected.
    """
    remap = parse_remaps(arguments.remap)
    bases = {base for base in map(_output_namespace, names) if base is not None}
    deadline = time.monotonic() + _DISCOVERY_TIMEOUT
    while True:
        known = dict(node.get_topic_names_and_types())
        depths = sorted(
            n for n, types in known.items() if n.endswith(f'/{DEPTH.name}') and IMAGE in types
        )
        if depths or time.monotonic() > deadline:
            break
        time.sleep(0.1)
    # A name that is neither an output nor a topic is a namespace.
    bases |= {
        f'{name.rstrip("/")}/'
        for name in names
        if _output_namespace(name) is None and name not in known
    }
    if len(bases) > 1:
        raise UsageError(f'{", ".join(sorted(bases))} are several depth nodes; give one')
    if arguments.depth_topic is not None:
        remap[f'/{DEPTH.name}'] = arguments.depth_topic
    base = next(iter(bases), None)
    if base is None:
        if len(depths) > 1 and f'/{DEPTH.name}' not in remap:
            choices = ', '.join(depth.removesuffix(DEPTH.name) for depth in depths)
            raise UsageError(f'several depth nodes are running; give a namespace: {choices}')
        base = depths[0].removesuffix(DEPTH.name) if depths else '/'
    if not arguments.live and not any(name.startswith(base) for name in depths):
        raise UsageError(
            f'{names[0]} is neither a bag nor the namespace of a running depth node '
            f'({", ".join(depths) or "none is running"}); --live waits for one'
        )
    return {relative: remap.get(f'/{relative}', f'{base}{relative}') for relative in OUTPUTS}


def _output_namespace(name: str) -> str | None:
    """Return the namespace of a depth node's output, with a slash; None for other names."""
    for relative in OUTPUTS:
        if name.endswith(f'/{relative}'):
            return name.removesuffix(relative)
    return name.removesuffix('depth') if name.endswith('/depth') else None


def find_inputs_of_publisher(node: Any, depth: str, selected: set[str]) -> InputTopics | None:
    """Return the inputs of the node that publishes ``depth``; None until it is discovered.

    :param selected: image topics that the user named.
    """
    publishers = node.get_publishers_info_by_topic(depth)
    if not publishers:
        return None
    peer = publishers[0]
    try:
        subscribed = dict(
            node.get_subscriber_names_and_types_by_node(peer.node_name, peer.node_namespace)
        )
    except Exception:  # topics of a node are discovered before its name
        return None
    if not subscribed:
        return None
    types = {name: kinds[0] for name, kinds in subscribed.items()}
    images = {name: kind for name, kind in types.items() if kind in (IMAGE, COMPRESSED_IMAGE)}
    images = {name: kind for name, kind in images.items() if name in selected} or images
    cameras = [name for name, kind in types.items() if kind == CAMERA_INFO_TYPE]
    if len(images) != 1:
        logger.info(
            'no planes are shown: the depth node subscribes to images on %s',
            ', '.join(sorted(images)) or 'no topic',
        )
        return InputTopics()
    image, kind = next(iter(images.items()))
    return InputTopics(image, kind, cameras[0] if len(cameras) == 1 else None)
