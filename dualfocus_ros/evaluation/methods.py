# SPDX-License-Identifier: Apache-2.0
"""Registry of the methods that are compared; evaluation, benchmark and studies open them here.

A new method implements :class:`~dualfocus_ros.evaluation.method_interface.Method` and gets an
entry in :data:`METHODS`. Every other name is a DualFocus model or a weights file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
import typing

import torch

from dualfocus_ros.evaluation.classical import ClassicalMethod
from dualfocus_ros.evaluation.dfv_method import DFVMethod
from dualfocus_ros.evaluation.dualfocus_method import DualFocusMethod
from dualfocus_ros.evaluation.method_interface import Method
from dualfocus_ros.evaluation.protocols import ProtocolB, StackProtocol
from dualfocus_ros.evaluation.range_only import RANGE_ONLY, RangeOnlyMethod
from dualfocus_ros.evaluation.single_image import SINGLE_IMAGE, SingleImageMethod
from dualfocus_ros.exceptions import WeightsError
from dualfocus_ros.models.dfv import DFV, load_dfv
from dualfocus_ros.models.weights import shipped_models


@dataclass(frozen=True)
class MethodOptions:
    """Options for opening methods.

    :param protocol: renders the views that ``single-image`` is fitted on.
    :param dtype: number format of timed runs, where a method has a choice.
    :param random_weights: whether methods without shipped weights get random ones, for timing.
    """

    device: torch.device
    protocol: StackProtocol = field(default_factory=ProtocolB)
    dtype: torch.dtype = torch.float32
    random_weights: bool = False


@dataclass(frozen=True)
class MethodEntry:
    """Registered method.

    :param open: called with the text after the colon of ``NAME:ARGUMENT``, and the options.
    :param usage: names as users type them.
    :param evaluated: whether ``evaluate`` compares it by default.
    :param benchmarked: whether ``benchmark`` times it by default.
    """

    open: Callable[[str, MethodOptions], Method]
    usage: str
    evaluated: bool = False
    benchmarked: bool = False


def _open_dfv(path: str, options: MethodOptions) -> Method:
    if path:
        file = Path(path).expanduser()
        network, name, source = load_dfv(file), f'dfv:{file.stem}', file.name
    elif options.random_weights:
        torch.manual_seed(0)
        network, name, source = DFV(), 'dfv', 'random weights'
    else:
        raise WeightsError(
            'no DFV weights are shipped: train them (dualfocus train --config dfv) and give their '
            "file as 'dfv:PATH'"
        )
    return DFVMethod(network, name, source, options.device, options.dtype)


METHODS: dict[str, MethodEntry] = {
    'dfv': MethodEntry(_open_dfv, 'dfv:PATH', benchmarked=True),
    'sml': MethodEntry(lambda _, __: ClassicalMethod('sml'), 'sml', True, True),
    'rdf': MethodEntry(lambda _, __: ClassicalMethod('rdf'), 'rdf', True, True),
    RANGE_ONLY: MethodEntry(lambda _, __: RangeOnlyMethod(), RANGE_ONLY, evaluated=True),
    SINGLE_IMAGE: MethodEntry(
        lambda data, options: SingleImageMethod(data, options.protocol),
        f'{SINGLE_IMAGE}[:KIND:PLACE]',
    ),
}
USAGE = ', '.join(entry.usage for entry in METHODS.values())


def default_methods() -> list[str]:
    """Return the names that are evaluated by default: shipped models, baselines, control."""
    return [*shipped_models(), *(name for name, entry in METHODS.items() if entry.evaluated)]


def find_entry(name: str) -> tuple[MethodEntry, str] | None:
    """Return the entry and the argument of ``NAME[:ARGUMENT]``; None for a DualFocus model."""
    key, _, argument = name.partition(':')
    return (METHODS[key], argument) if key in METHODS else None


def open_method(name: str, options: MethodOptions) -> Method:
    """Open a method by its registered name, a shipped model or a ``.safetensors`` file.

    :raises ValueError: for an unknown name or unusable weights.
    """
    found = find_entry(name)
    if found is not None:
        entry, argument = found
        return entry.open(argument, options)
    if name != 'auto' and not name.endswith('.safetensors') and name not in shipped_models():
        raise ValueError(
            f"unknown method '{name}': expected a shipped model ({', '.join(shipped_models())}), "
            f'the path of a .safetensors file, or one of {USAGE}'
        )
    return DualFocusMethod(name, options.device)


def open_methods(
    names: Sequence[str], device: torch.device, protocol: StackProtocol | None = None
) -> list[Method]:
    """Open methods by name; without names, the default methods.

    :param protocol: renders the views that ``single-image`` is fitted on; default protocol B.
    :raises ValueError: for an unknown name, unusable weights, or two methods of one name.
    """
    options = MethodOptions(device, protocol or ProtocolB())
    opened = open_unique(names or default_methods(), lambda name: open_method(name, options))
    return list(opened.values())


class _Named(typing.Protocol):
    name: str


_AnyMethod = typing.TypeVar('_AnyMethod', bound=_Named)


def open_unique(
    requested: Iterable[str], open_one: Callable[[str], _AnyMethod]
) -> dict[str, _AnyMethod]:
    """Open each requested name once; refuse methods with equal names in tables.

    :returns: methods by requested name.
    :raises ValueError: if two requested names open methods of one name.
    """
    opened: dict[str, _AnyMethod] = {}
    owners: dict[str, str] = {}
    for request in dict.fromkeys(requested):
        method = open_one(request)
        if method.name in owners:
            raise ValueError(
                f"'{owners[method.name]}' and '{request}' are both called '{method.name}' in "
                'tables: leave one out, or rename one weights file'
            )
        owners[method.name] = request
        opened[request] = method
    return opened
