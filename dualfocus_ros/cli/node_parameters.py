# SPDX-License-Identifier: Apache-2.0
"""The depth node's parameters on the command line, without a node: ``--params-file``, ``--param``.

Files and values have the form that ``ros2 run … --ros-args`` takes, and the same table
(``nodes/depth_parameters.py``) says what is allowed.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from dualfocus_ros.cli.completers import offer
from dualfocus_ros.exceptions import UsageError
from dualfocus_ros.nodes.depth_parameters import (
    SPECS,
    DepthNodeSettings,
    settings_from,
    validate,
)

# Parameters that every node has; they mean nothing without one.
_OF_EVERY_NODE = ('use_sim_time', 'qos_overrides', 'start_type_description_service')
_EVERY_NODE_KEYS = ('/**', '/*')
_NODE_KEYS = (*_EVERY_NODE_KEYS, 'dualfocus', '/dualfocus', '/**/dualfocus')


@dataclass(frozen=True)
class DepthNodeParameters:
    """Values of the parameters, and which of them the user gave."""

    settings: DepthNodeSettings
    given: frozenset[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    group = parser.add_argument_group('parameters of the depth node')
    group.add_argument(
        '--params-file',
        action='append',
        default=[],
        type=Path,
        metavar='YAML',
        help='ROS parameter file, as for the node; may be repeated, the last one wins',
    )
    one = group.add_argument(
        '-p',
        '--param',
        action='append',
        default=[],
        metavar='NAME:=VALUE',
        help='one parameter, such as depth.max:=5.0; wins over files',
    )
    offer(one, (f'{name}:=' for name in SPECS))
    group.add_argument('--model', metavar='NAME', help='the parameter model')
    device = group.add_argument('--device', metavar='DEVICE', help='the parameter device')
    offer(device, ('auto', 'cpu', 'cuda'))


def read_parameters(arguments: argparse.Namespace) -> DepthNodeParameters:
    """Return the parameters that files and options give, checked as the node checks them.

    :raises UsageError: for a file that is not a parameter file, an unknown name, a wrong value.
    """
    values: dict[str, Any] = {}
    for path in arguments.params_file:
        values.update(_from_file(path))
    for text in arguments.param:
        name, separator, value = text.partition(':=')
        if not separator or not name:
            raise UsageError(f'--param takes NAME:=VALUE, got {text!r}')
        try:
            values[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            values[name] = value
    for name in ('model', 'device'):
        if getattr(arguments, name) is not None:
            values[name] = getattr(arguments, name)
    values = {
        name: value
        for name, value in values.items()
        if name.partition('.')[0] not in _OF_EVERY_NODE
    }
    unknown = sorted(set(values) - set(SPECS))
    if unknown:
        raise UsageError(
            f'the depth node has no parameter {", ".join(unknown)}; it has {", ".join(SPECS)}'
        )
    try:
        settings = settings_from(values)
    except ValueError as error:
        raise UsageError(str(error)) from None
    wrong = validate(settings)
    if wrong:
        raise UsageError('; '.join(wrong))
    return DepthNodeParameters(settings, frozenset(values))


def _from_file(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text('utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f'{path} cannot be read as a parameter file: {error}') from None
    if not isinstance(document, dict):
        raise UsageError(f'{path} is not a parameter file: no node names at the top')
    values: dict[str, Any] = {}
    for key in _NODE_KEYS:
        node = document.get(key)
        if isinstance(node, dict) and isinstance(node.get('ros__parameters'), dict):
            found = _flat(node['ros__parameters'])
            if key in _EVERY_NODE_KEYS:  # what others have means nothing to this one, as in ROS
                found = {name: value for name, value in found.items() if name in SPECS}
            values.update(found)
    return values


def _flat(tree: dict[str, Any], prefix: str = '') -> dict[str, Any]:
    """Return nested groups as ``group.name``."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            found.update(_flat(value, f'{prefix}{key}.'))
        else:
            found[f'{prefix}{key}'] = value
    return found
