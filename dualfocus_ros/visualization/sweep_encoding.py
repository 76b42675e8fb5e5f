# SPDX-License-Identifier: Apache-2.0
"""Encoding of sweeps as compact JSON: JPEG images, 16-bit logarithmic lengths, 8-bit p_n.

``codec.js`` decodes them on the page.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any
import zlib

import cv2
import numpy as np

from dualfocus_ros.visualization.colour_scales import (
    FARTHER_COLOUR,
    INVALID_COLOUR,
    NEARER_COLOUR,
    ColourScale,
    confidence_scale,
    depth_scale,
    log_depth_scale,
    sigma_scale,
)
from dualfocus_ros.visualization.sweep_view import SweepView

PLANE_QUALITY, ALL_IN_FOCUS_QUALITY = 85, 92
# Codes of a length: invalid, nearer, farther, then equal ratios from MIN_LENGTH metres on.
CODE_INVALID, CODE_NEARER, CODE_FARTHER, FIRST_LENGTH_CODE = 0, 1, 2, 3
MIN_LENGTH = 1e-4
DEPTH_STEP = 0.0005  # of the logarithm: 0.025 % error of depth
SIGMA_STEP = 0.04  # 2 % error of sigma
MAX_CURVE_WIDTH = 320  # pixels; wider p_n is averaged over blocks
PROBABILITY_SUM = 255


def encode_sweep(sweep: SweepView, scales: dict[str, Any]) -> dict[str, Any]:
    """Return one sweep as JSON values for the page.

    :param scales: result of :func:`encode_scales`.
    """
    height, width = sweep.depth.shape
    camera, sharp, focus = sweep.camera, sweep.all_in_focus, sweep.focus_dioptres
    return {
        'name': sweep.name,
        'width': width,
        'height': height,
        'scales': scales,
        'depth': _encode_map(sweep.depth, DEPTH_STEP),
        'sigma': None if sweep.sigma is None else _encode_map(sweep.sigma, SIGMA_STEP),
        'confidence': None if sweep.confidence is None else _pack(sweep.confidence),
        'sharp': None if sharp is None else _encode_jpeg(sharp, ALL_IN_FOCUS_QUALITY),
        'focus': None if focus is None else [round(float(q), 5) for q in focus],
        'planes': sweep.planes and [_encode_jpeg(plane, PLANE_QUALITY) for plane in sweep.planes],
        'curves': None if sweep.probability is None else _encode_curves(sweep.probability),
        'camera': None if camera is None else [camera.fx, camera.fy, camera.cx, camera.cy],
        'limits': sweep.limits,
        'facts': sweep.facts,
    }


def encode_scales(
    sweeps: Sequence[SweepView], depth_range: tuple[float, float] | None = None
) -> dict[str, Any]:
    """Return scales of depth, sigma and confidence that fit several sweeps."""
    depths = [sweep.depth for sweep in sweeps]
    depth = depth_scale(*depths) if depth_range is None else log_depth_scale(*depth_range)
    sigmas = [s.sigma[np.isfinite(s.sigma)] for s in sweeps if s.sigma is not None]
    return {
        'depth': _encode_scale(depth),
        'confidence': _encode_scale(confidence_scale()),
        'sigma': _encode_scale(sigma_scale(np.concatenate(sigmas))) if sigmas else None,
        'special': {'none': INVALID_COLOUR, 'nearer': NEARER_COLOUR, 'farther': FARTHER_COLOUR},
    }


def encode_lengths(values: np.ndarray, step: float) -> np.ndarray:
    """Return uint16 codes of lengths in metres and the special values of REP 117."""
    with np.errstate(invalid='ignore', divide='ignore'):
        logarithm = np.log(values.astype(np.float64) / MIN_LENGTH) / step
        codes = np.clip(np.rint(logarithm) + FIRST_LENGTH_CODE, FIRST_LENGTH_CODE, 65535)
    codes = np.where(np.isfinite(values), codes, CODE_INVALID)
    codes[np.isneginf(values)] = CODE_NEARER
    codes[np.isposinf(values)] = CODE_FARTHER
    return codes.astype(np.uint16)


def quantise_probability(probability: np.ndarray) -> np.ndarray:
    """Return (N, h, w) uint8 that sum to PROBABILITY_SUM in each pixel.

    Values are rounded down; the rest goes to the planes with the largest remainders.
    """
    scaled = np.maximum(probability, 0.0).astype(np.float64)
    scaled *= PROBABILITY_SUM / np.maximum(scaled.sum(axis=0), 1e-12)
    whole = np.floor(scaled + 1e-9)
    missing = PROBABILITY_SUM - whole.sum(axis=0)
    rank = np.argsort(np.argsort(whole - scaled, axis=0, kind='stable'), axis=0, kind='stable')
    return np.asarray(whole + (rank < missing), np.uint8)


def _encode_curves(probability: np.ndarray) -> dict[str, Any]:
    height, width = probability.shape[1:]
    factor = -(-width // MAX_CURVE_WIDTH)
    size = -(-width // factor), -(-height // factor)
    small = np.stack(
        [cv2.resize(np.float32(p), size, interpolation=cv2.INTER_AREA) for p in probability]
    )
    return {'width': size[0], 'height': size[1], 'data': _pack(quantise_probability(small))}


def _encode_map(values: np.ndarray, step: float) -> dict[str, Any]:
    return {'step': step, 'data': _pack(encode_lengths(values, step))}


def _pack(values: np.ndarray) -> str:
    """Return deflated differences of integers, high bytes before low bytes, in base 64."""
    flat = values.reshape(-1)
    steps = np.diff(flat, prepend=flat.dtype.type(0))  # wraps around, as the sum does
    bytes_of_steps = steps.astype(steps.dtype.newbyteorder('>')).view(np.uint8)
    high_first = bytes_of_steps.reshape(-1, steps.dtype.itemsize).T
    return _base64(zlib.compress(high_first.tobytes(), 9))


def _encode_jpeg(image: np.ndarray, quality: int) -> str:
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode('.jpg', image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise OSError('an image could not be encoded as JPEG')
    return _base64(data.tobytes())


def _encode_scale(scale: ColourScale) -> dict[str, Any]:
    return {
        'low': scale.low,
        'high': scale.high,
        'log': scale.logarithmic,
        'unit': scale.unit,
        'ticks': [[round(position, 5), text] for position, text in scale.ticks(0.12)],
        'colours': scale.colours.astype(np.uint8).tobytes().hex(),
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode('ascii')
