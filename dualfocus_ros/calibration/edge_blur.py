# SPDX-License-Identifier: Apache-2.0
"""Width of the blur at a slanted edge (ISO 12233), with the point spread of a thin lens.

Pixels along a slightly slanted edge sample its profile at sub-pixel spacing. The model of the
profile is an edge convolved with a disc, the circle of confusion, and a Gaussian.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
import math

import cv2
import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import least_squares

_STEP = 0.25  # px, spacing of the super-sampled profile
_MIN_CONTRAST = 0.08  # of linear light, 0 to 1
_MAX_UNEVENNESS = 0.12  # of the two sides, relative to the step between them
_MIN_SLANT = math.tan(math.radians(1.0))
_MIN_REACH = 12.0  # px on either side


@dataclass(frozen=True)
class Edge:
    """Straight edge between two uniform areas.

    :param x: of a point on the edge, in pixels; ``y`` likewise.
    :param angle: of the normal to the x axis, in radians.
    :param half_length: half the used length of the edge, in pixels.
    :param reach: used width of the uniform area on either side, in pixels.
    """

    x: float
    y: float
    angle: float
    half_length: float
    reach: float


def find_edge(light: np.ndarray) -> Edge | None:
    """Return the best slanted edge of a sharp (H, W) image, None without any."""
    side = int(np.clip(0.2 * min(light.shape), 24, 160))
    if min(light.shape) < 2 * side:
        return None
    best: tuple[float, Edge] | None = None
    smooth = cv2.GaussianBlur(light, (0, 0), 1.0)
    for top in range(0, light.shape[0] - side + 1, side // 3):
        for left in range(0, light.shape[1] - side + 1, side // 3):
            if np.ptp(smooth[top : top + side, left : left + side]) < _MIN_CONTRAST:
                continue
            x, y = left + 0.5 * (side - 1), top + 0.5 * (side - 1)
            start = Edge(x, y, 0.0, 0.4 * side, 0.5 * side)
            edge = _fit_line(smooth, start, any_direction=True)
            score = None if edge is None else _unevenness(smooth, edge)
            if edge is not None and score is not None and (best is None or score < best[0]):
                best = score, edge
    return None if best is None else _extend_reach(smooth, best[1])


def edge_width(light: np.ndarray, edge: Edge) -> tuple[float, np.ndarray, np.ndarray] | None:
    """Measure the blur of an (H, W) image of linear light at an edge known from a sharp image.

    :returns: standard deviation of the line spread in pixels, and distances and values (0 to 1)
        of the profile; None for an edge that is lost or too blurred.
    """
    smooth = cv2.GaussianBlur(light, (0, 0), 1.0)
    found = _fit_line(smooth, edge)
    if found is None:
        return None
    distance, values = _profile_samples(light, found, edge.reach)
    bins = np.round(distance / _STEP).astype(int)
    low = bins.min()
    count = np.bincount(bins - low)
    known = count > 0
    at = (np.arange(len(count)) + low)[known] * _STEP
    mean = np.bincount(bins - low, values)[known] / count[known]
    weight = np.sqrt(count[known])

    def fit_levels(state: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the residuals, and the levels of the dark side and of the step."""
        profile = disc_edge(at - state[0], math.exp(state[1]), math.exp(state[2]))
        design = np.stack([np.ones_like(profile), profile], axis=1) * weight[:, None]
        levels = np.linalg.lstsq(design, mean * weight, rcond=None)[0]
        return design @ levels - mean * weight, levels

    reach, limit = edge.reach, math.log(0.95 * edge.reach)
    low = -0.3 * reach, math.log(0.1), math.log(0.15)
    high = 0.3 * reach, limit, math.log(4.0)
    solutions = []
    for start in (0.7, 0.2 * reach, 0.5 * reach):
        state = 0.0, min(math.log(start), limit - 0.01), math.log(0.7)
        solutions.append(least_squares(lambda at: fit_levels(at)[0], state, bounds=(low, high)))
    best = min(solutions, key=lambda solution: float(solution.cost)).x
    radius = math.exp(best[1])
    dark, step = fit_levels(best)[1]
    # A larger spot extends beyond the uniform areas.
    if radius > 0.8 * reach or abs(step) < 0.5 * _MIN_CONTRAST:
        return None
    return math.hypot(0.5 * radius, math.exp(best[2])), at - best[0], (mean - dark) / step


def disc_edge(distance: np.ndarray, radius: float, sigma: float) -> np.ndarray:
    """Return the profile of an edge blurred by a disc and a Gaussian, 0 to 1.

    A disc of radius r has the line spread 2 / (pi r^2) sqrt(r^2 - x^2) of variance r^2 / 4.
    """
    reach = radius + 5.0 * sigma + 1.0
    step = min(0.1, 0.25 * sigma)
    fine = np.arange(-reach, reach + step, step)
    at = np.clip(fine / radius, -1.0, 1.0)
    sharp = 0.5 + (np.arcsin(at) + at * np.sqrt(1.0 - at * at)) / math.pi
    profile = gaussian_filter1d(sharp, sigma / step, mode='nearest', truncate=5.0)
    return np.interp(distance, fine, profile, left=0.0, right=1.0)


def _profile_samples(light: np.ndarray, edge: Edge, reach: float) -> tuple[np.ndarray, np.ndarray]:
    """Return signed distances to the edge and values of the pixels near it."""
    c, s = math.cos(edge.angle), math.sin(edge.angle)
    size = math.hypot(reach, edge.half_length)
    left, right = max(int(edge.x - size), 0), min(int(edge.x + size) + 2, light.shape[1])
    top, bottom = max(int(edge.y - size), 0), min(int(edge.y + size) + 2, light.shape[0])
    y, x = np.mgrid[top:bottom, left:right]
    distance = (x - edge.x) * c + (y - edge.y) * s
    along = (y - edge.y) * c - (x - edge.x) * s
    near = (np.abs(distance) <= reach) & (np.abs(along) <= edge.half_length)
    return distance[near], light[top:bottom, left:right][near].astype(np.float64)


def _fit_line(smooth: np.ndarray, edge: Edge, any_direction: bool = False) -> Edge | None:
    """Fit a line to the gradients around an edge, refining or estimating its direction."""
    reach = edge.reach
    size = reach if any_direction else math.hypot(reach, edge.half_length)
    left, right = max(int(edge.x - size), 1), min(int(edge.x + size) + 2, smooth.shape[1] - 1)
    top, bottom = max(int(edge.y - size), 1), min(int(edge.y + size) + 2, smooth.shape[0] - 1)
    if right - left < 8 or bottom - top < 8:
        return None
    part = smooth[top - 1 : bottom + 1, left - 1 : right + 1]
    gx = 0.5 * (part[1:-1, 2:] - part[1:-1, :-2])
    gy = 0.5 * (part[2:, 1:-1] - part[:-2, 1:-1])
    y, x = np.mgrid[top:bottom, left:right].astype(np.float64)
    energy = gx.astype(np.float64) ** 2 + gy.astype(np.float64) ** 2
    angle, cx, cy = edge.angle, edge.x, edge.y
    if any_direction:
        xx, yy, xy = (float((a * b).sum()) for a, b in ((gx, gx), (gy, gy), (gx, gy)))
        if math.hypot(xx - yy, 2.0 * xy) / max(xx + yy, 1e-12) < 0.8:  # coherence
            return None
        angle = 0.5 * math.atan2(2.0 * xy, xx - yy)
    for _ in range(4):
        c, s = math.cos(angle), math.sin(angle)
        distance, along = (x - cx) * c + (y - cy) * s, (y - cy) * c - (x - cx) * s
        inside = np.abs(distance) <= reach
        if not any_direction:
            inside &= np.abs(along) <= edge.half_length
        # Gradients across the edge only; others are texture and noise.
        slope = gx * c + gy * s
        across = slope if slope[inside].sum() >= 0.0 else -slope
        weight = np.where(inside, np.maximum(across, 0.0), 0.0) * np.sqrt(energy)
        total = float(weight.sum())
        if total <= 0.0:
            return None
        offset = float((weight * distance).sum()) / total
        middle = float((weight * along).sum()) / total
        spread = float((weight * (along - middle) ** 2).sum())
        tilt = float((weight * (along - middle) * (distance - offset)).sum()) / max(spread, 1e-12)
        if abs(tilt) > 0.5:
            return None
        cx, cy = cx + offset * c - middle * s, cy + offset * s + middle * c
        if any_direction:
            reach = max(0.7 * reach, 8.0)
        else:  # keep the known part of the edge
            back = (edge.y - cy) * c - (edge.x - cx) * s
            cx, cy = cx - back * s, cy + back * c
        angle -= math.atan(tilt)
    return Edge(cx, cy, angle, edge.half_length, edge.reach)


def _unevenness(smooth: np.ndarray, edge: Edge) -> float | None:
    """Return the deviation within the two sides over their contrast; None if too large."""
    slope = abs(math.tan(edge.angle))
    if min(slope, 1.0 / (slope or 1e-9)) < _MIN_SLANT:
        return None
    distance, values = _profile_samples(smooth, edge, edge.reach)
    sides = [values[side] for side in (distance < -4.0, distance > 4.0)]
    if min(len(side) for side in sides) < 50:
        return None
    step = abs(float(sides[0].mean() - sides[1].mean()))
    uneven = max(float(side.std()) for side in sides)
    if step < _MIN_CONTRAST or uneven > _MAX_UNEVENNESS * step:
        return None
    return uneven / step


def _extend_reach(smooth: np.ndarray, edge: Edge) -> Edge | None:
    """Return the edge with the reach within which both sides are uniform."""
    c, s = math.cos(edge.angle), math.sin(edge.angle)
    offsets = np.linspace(-edge.half_length, edge.half_length, 15)
    far = np.arange(4.0, 0.5 * min(smooth.shape))
    reach = far[-1]
    lines = []
    for sign in (-1.0, 1.0):
        x = (edge.x + sign * far[:, None] * c - offsets * s).astype(np.float32)
        y = (edge.y + sign * far[:, None] * s + offsets * c).astype(np.float32)
        lines.append(cv2.remap(smooth, x, y, cv2.INTER_LINEAR, borderValue=float('nan')))
    levels = [float(np.nanmean(line[:8])) for line in lines]
    step = abs(levels[1] - levels[0])
    for line, level in zip(lines, levels, strict=True):
        off = ~(np.abs(line - level) < 0.2 * step)  # also true outside the image
        uneven = np.nonzero(off.mean(axis=1) > 0.1)[0]
        if len(uneven):
            reach = min(reach, float(far[uneven[0]]) - 2.0)
    # A spot of radius r includes light from a distance of r: fit half of the uniform width.
    return None if 0.5 * reach < _MIN_REACH else replace(edge, reach=0.5 * reach)
