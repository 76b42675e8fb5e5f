# SPDX-License-Identifier: Apache-2.0
"""Panels: rows of titled images with legends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dualfocus_ros.visualization.colour_scales import INVALID_COLOUR, LEVELS, ColourScale

MARGIN = 24
GAP = 16
BAR_WIDTH = 18
LEGEND_WIDTH = 84  # bar, ticks and gap to the image
TITLE_HEIGHT = 28
MAX_ROW_HEIGHT = 560
BACKGROUND = (255, 255, 255)
TEXT_COLOUR = (28, 31, 36)
MUTED_COLOUR = (105, 110, 118)


@dataclass(frozen=True, eq=False)
class Tile:
    """One image of a panel.

    :param image: (H, W, 3) or (H, W) uint8; with ``scale``, (H, W) float values.
    :param scale: colours of the values; adds a legend.
    """

    title: str
    image: np.ndarray
    scale: ColourScale | None = None

    @property
    def rgb(self) -> np.ndarray:
        """Image as (H, W, 3) uint8 RGB."""
        if self.scale is not None:
            return self.scale.apply(self.image)
        if self.image.ndim == 2:
            return np.repeat(self.image[..., None], 3, axis=2)
        return self.image


def compose_panel(
    rows: Sequence[Sequence[Tile]], *, title: str = '', subtitle: str = '', width: int = 1600
) -> np.ndarray:
    """Lay out rows of tiles under a heading, each row at one height.

    :returns: (H, width, 3) uint8 RGB.
    """
    heights = [_row_height(row, width) for row in rows]
    head = (40 if title else 0) + (28 if subtitle else 0)
    total = MARGIN + head + sum(h + TITLE_HEIGHT + GAP for h in heights) - GAP + MARGIN
    sheet = Image.new('RGB', (width, total), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    y = MARGIN
    if title:
        draw.text((MARGIN, y - 6), title, fill=TEXT_COLOUR, font=_font(28))
        y += 40
    if subtitle:
        draw.text((MARGIN, y - 6), subtitle, fill=MUTED_COLOUR, font=_font(18))
        y += 28
    for row, height in zip(rows, heights, strict=True):
        x = MARGIN
        for tile in row:
            x += _draw_tile(sheet, draw, tile, x, y, height) + GAP
        y += height + TITLE_HEIGHT + GAP
    return np.asarray(sheet)


def draw_with_legend(values: np.ndarray, scale: ColourScale) -> np.ndarray:
    """Return a map in colour at its own size, with the legend to the right.

    :returns: (H', W + legend, 3) uint8 RGB, H' >= H so that the legend fits.
    """
    height, width = values.shape
    sheet = Image.new('RGB', (width + LEGEND_WIDTH + GAP, max(height, 120) + 2 * GAP), BACKGROUND)
    sheet.paste(Image.fromarray(scale.apply(values)), (0, GAP))
    invalid = bool(np.isnan(values).any())
    _draw_legend(ImageDraw.Draw(sheet), scale, width + 12, GAP, max(height, 120), invalid)
    return np.asarray(sheet)


def _row_height(row: Sequence[Tile], width: int) -> int:
    fixed = 2 * MARGIN + GAP * (len(row) - 1) + sum(LEGEND_WIDTH for t in row if t.scale)
    aspects = sum(tile.image.shape[1] / tile.image.shape[0] for tile in row)
    return min(MAX_ROW_HEIGHT, int((width - fixed) / aspects))


def _draw_tile(
    sheet: Image.Image, draw: ImageDraw.ImageDraw, tile: Tile, x: int, y: int, height: int
) -> int:
    """Draw a tile; return its width."""
    rgb = tile.rgb
    width = round(height * rgb.shape[1] / rgb.shape[0])
    # Nearest neighbour for maps: no blending of values with invalid neighbours.
    shrinks = width < rgb.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST if tile.scale else cv2.INTER_CUBIC
    resized = cv2.resize(rgb, (width, height), interpolation=method)
    draw.text((x, y), tile.title, fill=TEXT_COLOUR, font=_font(18))
    sheet.paste(Image.fromarray(resized), (x, y + TITLE_HEIGHT))
    if tile.scale is None:
        return width
    invalid = bool(np.isnan(tile.image).any())
    _draw_legend(draw, tile.scale, x + width + 12, y + TITLE_HEIGHT, height, invalid)
    return width + LEGEND_WIDTH


def _draw_legend(
    draw: ImageDraw.ImageDraw, scale: ColourScale, x: int, y: int, height: int, invalid: bool
) -> None:
    """Draw a colour bar with ticks, unit above, and a swatch for invalid pixels below."""
    font = _font(15)
    draw.text((x + BAR_WIDTH + 10, y - 4), scale.unit, fill=MUTED_COLOUR, font=font)
    top = y + 22
    bottom = y + height - (30 if invalid else 6)
    bar = bottom - top
    # Near at the bottom, like the ground in most images.
    for line in range(bar):
        index = int((bar - 1 - line) / max(bar - 1, 1) * (LEVELS - 1))
        colour = tuple(int(c) for c in scale.colours[index])
        draw.line([(x, top + line), (x + BAR_WIDTH - 1, top + line)], fill=colour)
    for position, text in scale.ticks(spacing=max(0.04, 20 / max(bar, 1))):
        at = bottom - 1 - position * (bar - 1)
        draw.line([(x + BAR_WIDTH, at), (x + BAR_WIDTH + 5, at)], fill=TEXT_COLOUR)
        draw.text((x + BAR_WIDTH + 10, at), text, fill=TEXT_COLOUR, font=font, anchor='lm')
    if invalid:
        draw.rectangle([x, bottom + 12, x + BAR_WIDTH - 1, bottom + 28], fill=INVALID_COLOUR)
        draw.text(
            (x + BAR_WIDTH + 10, bottom + 20), 'none', fill=TEXT_COLOUR, font=font, anchor='lm'
        )


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has no scalable default font
        pass
    try:
        return ImageFont.truetype('DejaVuSans.ttf', size)
    except OSError:
        return ImageFont.load_default()
