# SPDX-License-Identifier: Apache-2.0
"""Procedural surface textures in linear light, with filtered look-up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

Albedo = np.ndarray


@dataclass(frozen=True, eq=False)
class Texture:
    """Seamless texture: albedo and its mip levels.

    :param albedo: (S, S, 3) float32 linear reflectance in [0, 1]; S a power of two.
    :param extent: width of one repetition in metres; 0 stretches the texture over a face.
    """

    albedo: Albedo
    extent: float = 0.0
    levels: list[np.ndarray] = field(init=False, repr=False, default_factory=list)

    def __post_init__(self) -> None:
        self.levels.append(self.albedo.astype(np.float32))
        while (half := len(self.levels[-1]) // 2) >= 4:
            level = self.levels[-1].reshape(half, 2, half, 2, 3).mean(axis=(1, 3))
            self.levels.append(level)

    def sample(self, u: np.ndarray, v: np.ndarray, footprint: np.ndarray) -> np.ndarray:
        """Return (n, 3) albedo at texture coordinates (n,), by trilinear look-up.

        :param u, v: texture coordinates in repetitions.
        :param footprint: (n,) width of a pixel on the surface in repetitions: the look-up
            averages over it, so that distant texture is not aliased.
        """
        detail = np.log2(np.maximum(footprint * self.albedo.shape[0], 1.0))
        detail = np.minimum(detail, len(self.levels) - 1.001)
        lower = detail.astype(np.int32)
        blend = (detail - lower)[:, None].astype(np.float32)
        result = np.empty((len(u), 3), np.float32)
        for index in np.unique(lower):
            chosen = lower == index
            fine = _bilinear(self.levels[index], u[chosen], v[chosen])
            coarse = _bilinear(self.levels[index + 1], u[chosen], v[chosen])
            result[chosen] = fine + (coarse - fine) * blend[chosen]
        return result


def _bilinear(level: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    size = level.shape[0]
    x, y = u * size - 0.5, v * size - 0.5
    x0, y0 = np.floor(x), np.floor(y)
    fx, fy = (x - x0)[:, None].astype(np.float32), (y - y0)[:, None].astype(np.float32)
    left, top = x0.astype(np.int64) & (size - 1), y0.astype(np.int64) & (size - 1)
    right, bottom = (left + 1) & (size - 1), (top + 1) & (size - 1)
    flat = level.reshape(-1, 3)
    upper = flat[top * size + left] * (1 - fx) + flat[top * size + right] * fx
    lower = flat[bottom * size + left] * (1 - fx) + flat[bottom * size + right] * fx
    return upper * (1 - fy) + lower * fy


class TextureGenerator:
    """Generator of random textures; noise fields are drawn once and shared.

    Each kind of texture is a method; all return (S, S, 3) float32 linear reflectance.

    :param rng: source of all random choices.
    :param size: side S of a texture in texels, a power of two.
    :raises ValueError: for another size.
    """

    def __init__(self, rng: np.random.Generator, size: int = 256) -> None:
        if size < 16 or size & (size - 1):
            raise ValueError(f'texture size must be a power of two, 16 or more, got {size}')
        self.rng = rng
        self.size = size
        self.v, self.u = np.mgrid[0:size, 0:size].astype(np.float32) / size
        self._fields = {slope: self._spectral_noise(slope) for slope in (0.0, 1.0, 1.6)}

    def _spectral_noise(self, slope: float, stretch: float = 1.0) -> np.ndarray:
        """Return periodic noise with amplitude 1/f^slope, mean 0, standard deviation 1."""
        size = self.size
        fy = np.fft.fftfreq(size)[:, None] * size
        fx = np.fft.rfftfreq(size)[None, :] * size
        frequency = np.hypot(fy, fx * stretch)
        frequency[0, 0] = 1.0
        white = self.rng.standard_normal((size, size), dtype=np.float32)
        spectrum = np.fft.rfft2(white) * frequency**-slope
        spectrum[0, 0] = 0.0
        noise = np.fft.irfft2(spectrum, s=(size, size)).astype(np.float32)
        return noise / noise.std()

    def noise(self, slope: float = 1.0) -> np.ndarray:
        """Return (S, S) periodic 1/f^slope noise; slope 0 (white), 1 or 1.6 (clouds)."""
        shift = tuple(int(s) for s in self.rng.integers(0, self.size, 2))
        noise = np.roll(self._fields[slope], shift, axis=(0, 1))
        return noise.T if self.rng.random() < 0.5 else noise

    def colour(self, low: float = 0.1, high: float = 0.8, saturation: float = 0.6) -> np.ndarray:
        """Return a random (3,) linear colour."""
        value = self.rng.uniform(low, high)
        hue = self.rng.random() * 6.0
        ramp = np.clip(np.abs((hue + np.array([0.0, 4.0, 2.0])) % 6.0 - 3.0) - 1.0, 0.0, 1.0)
        strength = saturation * self.rng.random()
        return (value * (1.0 - strength * (1.0 - ramp))).astype(np.float32)

    def grey(self, low: float, high: float, tint: float = 0.08) -> np.ndarray:
        """Return a (3,) colour near grey."""
        tinted = self.rng.uniform(low, high) * (1.0 + self.rng.uniform(-tint, tint, 3))
        return tinted.astype(np.float32)

    def _shade(self, base: np.ndarray, gain: np.ndarray) -> Albedo:
        return np.clip(base * gain[..., None], 0.01, 0.95).astype(np.float32)

    def paint(self) -> Albedo:
        """Return a painted wall: nearly plain, with roller marks and stains."""
        gain = 1.0 + 0.035 * self.noise(1.0) + 0.02 * self.noise(0.0) + 0.05 * self.noise(1.6)
        return self._shade(self.grey(0.4, 0.75), gain)

    def concrete(self) -> Albedo:
        """Return concrete with pores and stains."""
        gain = 1.0 + 0.12 * self.noise(1.6) + 0.09 * self.noise(1.0)
        pores = self.noise(0.0) > 2.4
        pores |= np.roll(pores, 1, axis=1)
        return self._shade(self.grey(0.22, 0.45), gain * np.where(pores, 0.45, 1.0))

    def terrazzo(self) -> Albedo:
        """Return a polished floor with chips of several colours."""
        image = np.tile(self.grey(0.35, 0.6), (self.size, self.size, 1))
        for threshold in (1.35, 1.5, 1.7):
            blobs = self.noise(1.0) * 0.8 + 0.35 * self.noise(0.0) > threshold
            image[blobs] = self.colour(0.08, 0.85, 0.5)
        return self._shade(image, 1.0 + 0.05 * self.noise(0.0))

    def wood(self) -> Albedo:
        """Return planks along u, with individual grain and shade."""
        size, planks = self.size, 4
        base = np.array([0.42, 0.24, 0.11], np.float32) * self.rng.uniform(0.5, 1.5)
        base = base * (1.0 + self.rng.uniform(-0.12, 0.12, 3)).astype(np.float32)
        index = np.minimum((self.v * planks).astype(int), planks - 1)
        tone = self.rng.uniform(0.72, 1.2, planks)[index]
        shift = self.rng.integers(0, size, planks)[index]
        rows, columns = np.mgrid[0:size, 0:size]
        warp = self.noise(1.6)[rows, (columns + shift) % size]
        rings = np.sin((self.v * self.rng.uniform(20, 34) + 0.45 * warp) * 2.0 * np.pi)
        fibre = self._spectral_noise(0.7, stretch=9.0)[rows, (columns + shift) % size]
        gain = tone * (1.0 + 0.16 * rings + 0.16 * fibre)
        edge = (self.v * planks) % 1.0
        joint = np.minimum(edge, 1.0 - edge) * size / planks < 1.2
        butt = (columns + shift) % size < 2
        return self._shade(base, gain * np.where(joint | butt, 0.35, 1.0))

    def carpet(self) -> Albedo:
        """Return loop pile in two or three yarn colours."""
        pile = 1.0 + 0.30 * self.noise(0.0) + 0.12 * self.noise(1.0)
        first, second = self.colour(0.06, 0.35), self.colour(0.08, 0.45)
        mix = (self.noise(1.0) + 0.6 * self.noise(0.0) > self.rng.uniform(0.1, 0.9))[..., None]
        image = np.where(mix, first, second)
        if self.rng.random() < 0.5:
            cells = int(self.rng.choice([2, 4]))
            checker = ((self.u * cells).astype(int) + (self.v * cells).astype(int)) % 2
            image = image * np.where(checker, 1.0, 0.72)[..., None]
        return self._shade(image, pile)

    def tiles(self) -> Albedo:
        """Return square ceramic tiles with grout, in slightly different shades."""
        count = int(self.rng.choice([2, 3, 4]))
        u, v = self.u * count, self.v * count
        column, row = np.minimum(u.astype(int), count - 1), np.minimum(v.astype(int), count - 1)
        base, other = self.colour(0.25, 0.8, 0.25), self.colour(0.15, 0.8, 0.3)
        chequered = ((column + row) % 2 == 0) & (self.rng.random() < 0.5)
        image = np.where(chequered[..., None], base, 0.5 * base + 0.5 * other)
        gain = self.rng.uniform(0.86, 1.1, (count, count))[row, column]
        gain = gain * (1.0 + 0.10 * self.noise(1.6) + 0.05 * self.noise(0.0))
        distance = np.minimum(np.minimum(u % 1, 1 - u % 1), np.minimum(v % 1, 1 - v % 1)) / count
        grout = distance < 0.006
        image = np.where(grout[..., None], self.grey(0.12, 0.4), image)
        return self._shade(image, gain)

    def brick(self) -> Albedo:
        """Return a brick wall in running bond."""
        rows, columns = 8, 4
        v = self.v * rows
        row = np.minimum(v.astype(int), rows - 1)
        u = self.u * columns + 0.5 * (row % 2)
        column = u.astype(int) % columns
        base = np.array([0.36, 0.14, 0.09], np.float32) * self.rng.uniform(0.7, 1.5)
        gain = self.rng.uniform(0.65, 1.25, (rows, columns))[row, column]
        gain = gain * (1.0 + 0.16 * self.noise(1.0) + 0.08 * self.noise(0.0))
        joint = np.minimum(v % 1, 1 - v % 1) / 2.0
        joint = np.minimum(joint, np.minimum(u % 1, 1 - u % 1)) < 0.035
        image = np.where(joint[..., None], self.grey(0.4, 0.55), base)
        return self._shade(image, np.where(joint, 1.0 + 0.1 * self.noise(0.0), gain))

    def fabric(self) -> Albedo:
        """Return woven cloth with stripes in both directions."""
        image = np.tile(self.colour(0.15, 0.7), (self.size, self.size, 1))
        for axis in (self.u, self.v):
            for _ in range(int(self.rng.integers(1, 5))):
                start, width = self.rng.random(), self.rng.uniform(0.02, 0.14)
                stripe = ((axis - start) % 1.0 < width)[..., None]
                image = np.where(stripe, 0.5 * image + 0.5 * self.colour(0.05, 0.9), image)
        threads = self.size // 4
        weave = np.sin(self.u * threads * 2 * np.pi) * np.sin(self.v * threads * 2 * np.pi)
        return self._shade(image, 1.0 + 0.14 * weave + 0.09 * self.noise(0.0))

    def cardboard(self) -> Albedo:
        """Return a parcel: brown cardboard, tape and a printed address label."""
        base = np.array([0.36, 0.22, 0.12], np.float32) * self.rng.uniform(0.75, 1.25)
        flutes = np.sin(self.v * self.size / 5.0 * np.pi)
        gain = 1.0 + 0.05 * flutes + 0.08 * self.noise(1.0) + 0.05 * self.noise(0.0)
        image = self._shade(base, gain)
        tape = np.abs(self.u - 0.5) < 0.055
        image[tape] = image[tape] * 0.55 + np.array([0.27, 0.2, 0.12], np.float32)
        left, top = self.rng.uniform(0.06, 0.5), self.rng.uniform(0.08, 0.5)
        self._label(image, (left, left + 0.4, top, top + 0.36), self.grey(0.72, 0.85))
        return image

    def print(self) -> Albedo:
        """Return packaging or a poster: coloured areas, figures, headlines and lines of text."""
        image = np.tile(self.colour(0.2, 0.9, 0.8), (self.size, self.size, 1))
        ramp = self.u if self.rng.random() < 0.5 else self.v
        image = image + (self.colour(0.1, 0.9, 0.8) - image) * ramp[..., None]
        for _ in range(int(self.rng.integers(2, 6))):
            self._figure(image)
        image = image * (1.0 + 0.06 * self.noise(1.6) + 0.03 * self.noise(0.0))[..., None]
        for _ in range(int(self.rng.integers(1, 4))):
            left, top = self.rng.uniform(0.03, 0.55, 2)
            right = left + self.rng.uniform(0.25, 0.42)
            bottom = top + self.rng.uniform(0.12, 0.42)
            paper = self.grey(0.75, 0.9) if self.rng.random() < 0.6 else None
            self._label(image, (left, right, top, bottom), paper)
        return np.clip(image, 0.01, 0.95).astype(np.float32)

    def _figure(self, image: Albedo) -> None:
        cx, cy, size = self.rng.random(), self.rng.random(), self.rng.uniform(0.06, 0.35)
        dx = np.abs((self.u - cx + 0.5) % 1.0 - 0.5)
        dy = np.abs((self.v - cy + 0.5) % 1.0 - 0.5)
        kind = self.rng.integers(0, 4)
        if kind == 0:
            inside = np.hypot(dx, dy) < size
        elif kind == 1:
            inside = np.abs(np.hypot(dx, dy) - size) < 0.3 * size
        elif kind == 2:
            inside = (dx < size) & (dy < size * self.rng.uniform(0.2, 1.0))
        else:
            inside = ((self.u + self.v) * self.rng.integers(3, 9)) % 1.0 < 0.5
            inside &= (dx < size) & (dy < size)
        image[inside] = self.colour(0.03, 0.95, 0.9)

    def _label(
        self, image: Albedo, area: tuple[float, float, float, float], paper: np.ndarray | None
    ) -> None:
        """Draw text-like marks in left, right, top, bottom; on paper if its colour is given."""
        x0, x1, y0, y1 = (int(p * self.size) for p in area)
        patch = image[y0:y1, x0:x1]
        if paper is not None:
            patch[:] = paper * (1.0 + 0.02 * self.noise(0.0)[y0:y1, x0:x1, None])
        ink = self.grey(0.02, 0.12) if paper is not None else self.colour(0.02, 0.95, 0.3)
        height, width = patch.shape[:2]
        row, margin = max(height // 16, 2), max(width // 16, 2)
        while row < height - 3:
            headline = self.rng.random() < 0.2
            tall = min(int(self.rng.integers(7, 14)) if headline else 4, height - row)
            column, end = margin, int(width * self.rng.uniform(0.55, 0.97))
            while column < end - 2:
                letter = int(self.rng.integers(4, 8)) if headline else int(self.rng.integers(2, 4))
                if self.rng.random() < 0.85:
                    glyph = patch[row : row + tall, column : column + letter - 1]
                    glyph[self.rng.random(glyph.shape[:2]) < 0.8] = ink
                column += letter
            row += tall + (4 if headline else 3)

    def speckle(self) -> Albedo:
        """Return one colour with fine speckles: stoneware, fruit peel or leather."""
        image = np.tile(self.colour(0.15, 0.85, 0.9), (self.size, self.size, 1))
        dots = self.noise(0.0) + 0.8 * self.noise(1.0) > self.rng.uniform(1.3, 2.2)
        image[dots] = image[dots] * self.rng.uniform(0.15, 0.6)
        return self._shade(image, 1.0 + 0.08 * self.noise(1.6) + 0.05 * self.noise(0.0))

    def panel(self) -> Albedo:
        """Return a door or cabinet: frame, recessed fields and a handle."""
        base = self.colour(0.15, 0.7, 0.45)
        gain = 1.0 + 0.05 * self.noise(1.6) + 0.04 * self.noise(0.0)
        for top, bottom in ((0.07, 0.42), (0.5, 0.93)):
            inside = (abs(self.u - 0.5) < 0.34) & (self.v > top) & (self.v < bottom)
            core = (abs(self.u - 0.5) < 0.32) & (self.v > top + 0.012) & (self.v < bottom - 0.012)
            gain = gain * np.where(inside & ~core, self.rng.uniform(0.5, 0.7), 1.0)
        image = self._shade(base, gain)
        handle = (abs(self.u - 0.88) < 0.035) & (abs(self.v - 0.5) < 0.012)
        image[handle] = self.grey(0.5, 0.8)
        return image

    def random_texture(self, kinds: tuple[str, ...]) -> Albedo:
        """Return a texture of one of the kinds, names of methods of this class."""
        generate: Callable[[], Albedo] = getattr(self, str(self.rng.choice(kinds)))
        return generate()
