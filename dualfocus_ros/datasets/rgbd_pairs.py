# SPDX-License-Identifier: Apache-2.0
"""Data sets of pairs of a colour image file and a depth file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from dualfocus_ros.datasets.samples import Dataset, RgbdSample
from dualfocus_ros.io.depth_files import read_depth
from dualfocus_ros.io.image_files import read_rgb

Pair = tuple[Path, Path]


def pairs_dataset(
    name: str,
    kind: str,
    description: str,
    pairs: Sequence[Pair],
    sample_names: Sequence[str],
    *,
    clean: Callable[[np.ndarray], np.ndarray] | None = None,
    size: tuple[int, int] | None = None,
) -> Dataset:
    """Return a data set of colour and depth files.

    :param clean: conversion of the depth (H, W) in metres that was read.
    :param size: width and height of the samples; by default those of the colour image.
    """

    def load(index: int) -> RgbdSample:
        colour, depth = read_rgb(pairs[index][0]), read_depth(pairs[index][1])
        if clean is not None:
            depth = clean(depth).astype(np.float32)
        if size is not None:
            colour = cv2.resize(colour, size, interpolation=cv2.INTER_AREA)
        if depth.shape != colour.shape[:2]:
            depth = _resize_depth(depth, colour.shape[:2])
        return RgbdSample(sample_names[index], colour, depth)

    return Dataset(name, kind, description, len(pairs), load)


def _resize_depth(depth: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Average the valid pixels of each cell; cells with less than half of them become NaN."""
    size, valid = (shape[1], shape[0]), np.isfinite(depth).astype(np.float32)
    interpolation = cv2.INTER_AREA if shape[0] < depth.shape[0] else cv2.INTER_LINEAR
    weight = cv2.resize(valid, size, interpolation=interpolation)
    total = cv2.resize(np.nan_to_num(depth), size, interpolation=interpolation)
    return np.where(weight >= 0.5, total / np.maximum(weight, 1e-6), np.nan).astype(np.float32)
