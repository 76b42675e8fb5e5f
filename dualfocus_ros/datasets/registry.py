# SPDX-License-Identifier: Apache-2.0
"""Opens a data set from one string, as on the command line: ``KIND:PLACE[,option=value…]``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
import re

from dualfocus_ros.datasets import generated_sets, rgbd_sets, stack_folder, stack_sets
from dualfocus_ros.datasets.samples import Dataset
from dualfocus_ros.exceptions import DataError

Opener = Callable[[Path, Mapping[str, str]], Dataset]
GENERATED: dict[str, Callable[[int, Mapping[str, str]], Dataset]] = {
    'synthetic': generated_sets.open_synthetic,
    'indoor': generated_sets.open_indoor,
    'shapes': generated_sets.open_shapes,
}
ON_DISK: dict[str, Opener] = {
    'nyu': rgbd_sets.open_nyu,
    'arkitscenes': rgbd_sets.open_arkitscenes,
    'rgbd': rgbd_sets.open_rgbd_folder,
    'ddff12': stack_sets.open_ddff12,
    'fod500': stack_sets.open_fod500,
    'middlebury-fs': stack_sets.open_middlebury_fs,
    'stack': stack_folder.open_stack_folder,
}
KNOWN_OPTIONS = {
    'synthetic': {'count', 'size'},
    'indoor': {'count', 'width'},
    'shapes': {'count', 'size'},
    'nyu': {'list'},
    'arkitscenes': {'list', 'split'},
    'rgbd': {'depth-scale'},
    'ddff12': {'split'},
    'fod500': {'split'},
    'middlebury-fs': {'list'},
    'stack': set(stack_folder.OPTIONS),
}


def open_dataset(text: str) -> Dataset:
    """Open the data set that ``text`` names.

    :param text: ``synthetic:SEED``, ``indoor:SEED``, ``shapes:SEED`` or ``KIND:FOLDER``, then
        options as ``,name=value``.
    :raises DataError: for an unknown kind or option, and for data that is not there.
    """
    kind, colon, rest = text.partition(':')
    if kind not in KNOWN_OPTIONS or not colon or not rest:
        kinds = ', '.join(KNOWN_OPTIONS)
        raise DataError(f"data must be KIND:FOLDER or KIND:SEED, got '{text}'; kinds: {kinds}")
    # Commas are common in folder names: only ',name=' starts an option.
    place, *pairs = re.split(r',(?=[a-z][a-z-]*=)', rest)
    options = dict(pair.split('=', 1) for pair in pairs)
    unknown = sorted(set(options) - KNOWN_OPTIONS[kind])
    if unknown:
        known = ', '.join(sorted(KNOWN_OPTIONS[kind])) or 'none'
        raise DataError(f"{kind}: unknown option '{unknown[0]}' (known: {known})")
    if kind in GENERATED:
        if not place.isdigit():
            raise DataError(f"{kind}: expected a seed (a whole number), got '{place}'")
        return GENERATED[kind](int(place), options)
    path = Path(place).expanduser()
    if not path.exists():
        raise DataError(f'{path}: no such file or folder')
    return ON_DISK[kind](path, options)
