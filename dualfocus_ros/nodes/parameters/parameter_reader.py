# SPDX-License-Identifier: Apache-2.0
"""Parameters of the depth node from ROS parameter files and values, without ROS.

Files have the form of ``ros2 run … --ros-args --params-file``; the checks are those of the node
(``depth_parameters.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dualfocus_ros.nodes.parameters.depth_parameters import SPECS, DepthNodeSettings, settings_from
from dualfocus_ros.nodes.parameters.derived_settings import validate

# Parameters of every node, without effect outside ROS.
_COMMON_PARAMETERS = ('use_sim_time', 'qos_overrides', 'start_type_description_service')
_WILDCARD_KEYS = ('/**', '/*')
_NODE_KEYS = (*_WILDCARD_KEYS, 'dualfocus', '/dualfocus', '/**/dualfocus')


@dataclass(frozen=True)
class DepthNodeParameters:
    """Parameter values, and the names of those given by the user."""

    settings: DepthNodeSettings
    given: frozenset[str]


def read_parameters(
    files: Iterable[Path] = (), overrides: Mapping[str, Any] | None = None
) -> DepthNodeParameters:
    """Return the parameters of files and overrides; later files and overrides win.

    :param overrides: value by parameter name, such as ``depth.max``.
    :raises ValueError: for an unreadable file, an unknown name or an invalid value.
    """
    values: dict[str, Any] = {}
    for path in files:
        values.update(_read_file(path))
    values.update(overrides or {})
    for name in list(values):
        if name.partition('.')[0] in _COMMON_PARAMETERS:
            del values[name]
    unknown = sorted(set(values) - set(SPECS))
    if unknown:
        raise ValueError(
            f'the depth node has no parameter {", ".join(unknown)}; it has {", ".join(SPECS)}'
        )
    settings = settings_from(values)
    contradictions = validate(settings)
    if contradictions:
        raise ValueError('; '.join(contradictions))
    return DepthNodeParameters(settings, frozenset(values))


def _read_file(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text('utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f'{path} cannot be read as a parameter file: {error}') from None
    if not isinstance(document, dict):
        raise ValueError(f'{path} is not a parameter file: expected node names at the top level')
    values: dict[str, Any] = {}
    for key in _NODE_KEYS:
        node = document.get(key)
        if isinstance(node, dict) and isinstance(node.get('ros__parameters'), dict):
            found = _flatten(node['ros__parameters'])
            if key in _WILDCARD_KEYS:  # as in ROS, parameters of other nodes are ignored
                found = {name: value for name, value in found.items() if name in SPECS}
            values.update(found)
    return values


def _flatten(tree: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    """Return nested groups as ``group.name``."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found.update(_flatten(value, f'{prefix}{key}.'))
        else:
            found[f'{prefix}{key}'] = value
    return found
