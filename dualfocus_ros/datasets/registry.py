# SPDX-License-Identifier: Apache-2.0
"""Registry of data sets, opened from a text such as ``nyu:FOLDER,list=FILE``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
import re
from typing import Any

from dualfocus_ros.datasets.generated_sets import open_indoor, open_shapes, open_synthetic
from dualfocus_ros.datasets.published_stacks import open_ddff12, open_fod500, open_middlebury_fs
from dualfocus_ros.datasets.rgbd_sets import open_arkitscenes, open_nyu, open_rgbd_folder
from dualfocus_ros.datasets.samples import Dataset, Options
from dualfocus_ros.datasets.stack_folder import STACK_OPTIONS, open_stack_folder
from dualfocus_ros.exceptions import DataError


@dataclass(frozen=True)
class DatasetKind:
    """Kind of data set.

    :param open: opener; its arguments are the path, or the seed if generated, and the options.
    :param options: names of the options.
    :param generated: whether the data are generated from a seed.
    """

    open: Callable[[Any, Options], Dataset]
    options: tuple[str, ...]
    generated: bool = False


KINDS = {
    'synthetic': DatasetKind(open_synthetic, ('count', 'size'), generated=True),
    'indoor': DatasetKind(open_indoor, ('count', 'width'), generated=True),
    'shapes': DatasetKind(open_shapes, ('count', 'size'), generated=True),
    'nyu': DatasetKind(open_nyu, ('list',)),
    'arkitscenes': DatasetKind(open_arkitscenes, ('list', 'split')),
    'rgbd': DatasetKind(open_rgbd_folder, ('depth-scale',)),
    'ddff12': DatasetKind(open_ddff12, ('split',)),
    'fod500': DatasetKind(open_fod500, ('split',)),
    'middlebury-fs': DatasetKind(open_middlebury_fs, ('list',)),
    'stack': DatasetKind(open_stack_folder, tuple(STACK_OPTIONS)),
}


def open_dataset(text: str) -> Dataset:
    """Open a data set.

    :param text: ``KIND:PATH``, or ``KIND:SEED`` for generated data, then options as
        ``,name=value``; kinds are the keys of :data:`KINDS`.
    :raises DataError: for an unknown kind or option, and for missing data.
    """
    name, colon, rest = text.partition(':')
    if name not in KINDS or not colon or not rest:
        kinds = ', '.join(KINDS)
        raise DataError(f"data must be KIND:FOLDER or KIND:SEED, got '{text}'; kinds: {kinds}")
    kind = KINDS[name]
    # Folder names may contain commas: only ',name=' starts an option.
    location, *pairs = re.split(r',(?=[a-z][a-z-]*=)', rest)
    options = dict(pair.split('=', 1) for pair in pairs)
    unknown = sorted(set(options) - set(kind.options))
    if unknown:
        known = ', '.join(sorted(kind.options))
        raise DataError(f"{name}: unknown option '{unknown[0]}' (known: {known})")
    if kind.generated:
        if not location.isdigit():
            raise DataError(f"{name}: expected a seed (a whole number), got '{location}'")
        return kind.open(int(location), options)
    path = Path(location).expanduser()
    if not path.exists():
        raise DataError(f'{path}: no such file or folder')
    return kind.open(path, options)
