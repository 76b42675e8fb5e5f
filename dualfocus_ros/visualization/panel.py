# SPDX-License-Identifier: Apache-2.0
"""Panels: rows of titled images with legends; tiles of planes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dualfocus_ros.io.image_files import to_rgb
from dualfocus_ros.visualization.colour_scales import INVALID_COLOUR, LEVELS, ColourScale

MARGIN = 24
GAP = 16
BAR_WIDTH = 18
LEGEND_WIDTH = 84  # bar, ticks and gap to the image
TITLE_HEIGHT = 28
MAX_ROW_HEIGHT = 560
MAX_PLANE_TILES = 5
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


def compose_panel(
    rows: Sequence[Sequence[Tile]], *, title: str = '', subtitle: str = '', width: int = 1600
) -> np.ndarray:
    """Lay out rows of tiles under a heading, each row at one height.

    :returns: (H, width, 3) uint8 RGB.
    """
    heights = [_row_height(row, width) for row in rows]
    # Text, font size, colour and line height.
    head = [(title, 28, TEXT_COLOUR, 40), (subtitle, 18, MUTED_COLOUR, 28)]
    head = [line for line in head if line[0]]
    total = 2 * MARGIN + sum(line[3] for line in head) - GAP
    total += sum(height + TITLE_HEIGHT + GAP for height in heights)
    sheet = Image.new('RGB', (width, total), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    y = MARGIN
    for text, size, colour, line_height in head:
        draw.text((MARGIN, y - 6), text, fill=colour, font=_font(size))
        y += line_height
    for row, height in zip(rows, heights, strict=True):
        x = MARGIN
        for tile in row:
            draw.text((x, y), tile.title, fill=TEXT_COLOUR, font=_font(18))
            x += _draw_tile(sheet, tile, x, y + TITLE_HEIGHT, height) + GAP
        y += height + TITLE_HEIGHT + GAP
    return np.asarray(sheet)


def draw_with_legend(values: np.ndarray, scale: ColourScale) -> np.ndarray:
    """Return a map in colour at its own size, with the legend to the right.

    :returns: (H', W + legend, 3) uint8 RGB, H' >= H so that the legend fits.
    """
    height, width = values.shape
    sheet = Image.new('RGB', (width + LEGEND_WIDTH + GAP, max(height, 120) + 2 * GAP), BACKGROUND)
    sheet.paste(Image.fromarray(scale.apply(values)), (0, GAP))
    _draw_legend(sheet, values, scale, width + 12, GAP, max(height, 120))
    return np.asarray(sheet)


def plane_tiles(images: Sequence[np.ndarray], focus_dioptres: Sequence[float]) -> list[Tile]:
    """Return up to MAX_PLANE_TILES planes from near to far, titled with their focus distance."""
    order = np.argsort(focus_dioptres, kind='stable')[::-1]
    picks = np.linspace(0, len(order) - 1, min(MAX_PLANE_TILES, len(order))).round().astype(int)
    return [
        Tile(f'Focused at {format_focus_distance(focus_dioptres[n])}', images[n])
        for n in order[picks]
    ]


def format_focus_distance(dioptres: float) -> str:
    """Return the focus distance as text, ``infinity`` for 0 dioptres."""
    return f'{1.0 / dioptres:.2f} m' if dioptres > 1e-3 else 'infinity'


def _row_height(row: Sequence[Tile], width: int) -> int:
    fixed = 2 * MARGIN + GAP * (len(row) - 1) + sum(LEGEND_WIDTH for t in row if t.scale)
    aspects = sum(tile.image.shape[1] / tile.image.shape[0] for tile in row)
    return min(MAX_ROW_HEIGHT, int((width - fixed) / aspects))


def _draw_tile(sheet: Image.Image, tile: Tile, x: int, y: int, height: int) -> int:
    """Draw a tile; return its width."""
    rgb = to_rgb(tile.image) if tile.scale is None else tile.scale.apply(tile.image)
    width = round(height * rgb.shape[1] / rgb.shape[0])
    # Nearest neighbour for maps: no blending of values with invalid neighbours.
    shrinks = width < rgb.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST if tile.scale else cv2.INTER_CUBIC
    resized = cv2.resize(rgb, (width, height), interpolation=method)
    sheet.paste(Image.fromarray(resized), (x, y))
    if tile.scale is None:
        return width
    _draw_legend(sheet, tile.image, tile.scale, x + width + 12, y, height)
    return width + LEGEND_WIDTH


def _draw_legend(
    sheet: Image.Image, values: np.ndarray, scale: ColourScale, x: int, y: int, height: int
) -> None:
    """Draw a colour bar with ticks, unit above, and a swatch for invalid pixels below."""
    draw, font = ImageDraw.Draw(sheet), _font(15)
    draw.text((x + BAR_WIDTH + 10, y - 4), scale.unit, fill=MUTED_COLOUR, font=font)
    invalid = bool(np.isnan(values).any())
    top, bottom = y + 22, y + height - (30 if invalid else 6)
    bar = bottom - top
    # Near at the bottom, like the ground in most images.
    levels = np.linspace(LEVELS - 1, 0, bar).astype(int)
    sheet.paste(Image.fromarray(scale.colours[levels][:, None].repeat(BAR_WIDTH, 1)), (x, top))
    for position, text in scale.ticks(spacing=max(0.04, 20 / max(bar, 1))):
        line = bottom - 1 - position * (bar - 1)
        draw.line([(x + BAR_WIDTH, line), (x + BAR_WIDTH + 5, line)], fill=TEXT_COLOUR)
        draw.text((x + BAR_WIDTH + 10, line), text, fill=TEXT_COLOUR, font=font, anchor='lm')
    if invalid:
        draw.rectangle([x, bottom + 12, x + BAR_WIDTH - 1, bottom + 28], fill=INVALID_COLOUR)
        at = x + BAR_WIDTH + 10, bottom + 20
        draw.text(at, 'none', fill=TEXT_COLOUR, font=font, anchor='lm')


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    try:
        return ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has no scalable default font
        pass
    try:
        return ImageFont.truetype('DejaVuSans.ttf', size)
    except OSError:
        return ImageFont.load_default()
