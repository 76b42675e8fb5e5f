# SPDX-License-Identifier: Apache-2.0
"""Options for parameters of the depth node: ``--params-file``, ``--param`` and others."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from dualfocus_ros.exceptions import UsageError
from dualfocus_ros.nodes.parameters.depth_parameters import SPECS
from dualfocus_ros.nodes.parameters.parameter_reader import DepthNodeParameters, read_parameters


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
    parameter = group.add_argument(
        '-p',
        '--param',
        action='append',
        default=[],
        metavar='NAME:=VALUE',
        help='one parameter, such as depth.max:=5.0; overrides files',
    )
    _set_completions(parameter, (f'{name}:=' for name in SPECS))
    group.add_argument('--model', metavar='NAME', help='the parameter model')
    device = group.add_argument('--device', metavar='DEVICE', help='the parameter device')
    _set_completions(device, ('auto', 'cpu', 'cuda'))


def parameters_from(arguments: argparse.Namespace) -> DepthNodeParameters:
    """Return the parameters that the options give.

    :raises UsageError: for an unreadable file, an unknown name or an invalid value.
    """
    overrides: dict[str, Any] = {}
    for text in arguments.param:
        name, separator, value = text.partition(':=')
        if not separator or not name:
            raise UsageError(f'--param takes NAME:=VALUE, got {text!r}')
        try:
            overrides[name] = yaml.safe_load(value)
        except yaml.YAMLError:
            overrides[name] = value
    for name in ('model', 'device'):
        if getattr(arguments, name) is not None:
            overrides[name] = getattr(arguments, name)
    try:
        return read_parameters(arguments.params_file, overrides)
    except ValueError as error:
        raise UsageError(str(error)) from None


def _set_completions(action: argparse.Action, words: Iterable[str]) -> None:
    """Set the words that argcomplete offers for an argument without choices."""
    offered = [*words]
    action.completer = lambda **_: offered  # type: ignore[attr-defined]
