# SPDX-License-Identifier: Apache-2.0
"""Concatenation of data sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from dualfocus_ros.datasets.samples import Dataset
from dualfocus_ros.exceptions import DataError


def join_datasets(datasets: Sequence[Dataset], limit: int = 0) -> Dataset:
    """Return several data sets as one.

    :param limit: samples of each to use, evenly spread; 0 for all.
    :raises DataError: if there are no samples.
    """
    places = [
        (data, step * len(data) // count)
        for data in datasets
        for count in [min(limit, len(data)) if limit else len(data)]
        for step in range(count)
    ]
    if not places:
        raise DataError('no samples in ' + ', '.join(data.name for data in datasets))
    about = '; '.join(data.description for data in datasets)
    if len(datasets) == 1:
        return replace(datasets[0], length=len(places), load=lambda i: datasets[0][places[i][1]])
    return Dataset(
        ' + '.join(data.name for data in datasets),
        'joined',
        about,
        len(places),
        lambda index: places[index][0][places[index][1]],
    )
