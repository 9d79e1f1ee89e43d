"""The picture that the template browser shows of a workflow: what it made, or, where that is not known here, the graph itself."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

SIZE, MARGIN, TOP = 512, 16, 64
PAPER, INK, FAINT, BRAND = "#1e1e1e", "#f2f2f2", "#a8a8a8", "#7fbf7f"
COLUMNS = 3
"""Pictures side by side in a grid."""


@dataclass(frozen=True)
class Row:
    """Pictures of one prompt, before and after, as many of each."""

    prompt: str
    before: Sequence[Image.Image]
    after: Sequence[Image.Image]


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _titled(title: str) -> tuple[Image.Image, ImageDraw.ImageDraw, int]:
    """A thumbnail with its title at the bottom and CAD's name at the top; and where the title begins.

    The template browser writes over the left half of the topmost `TOP` pixels.
    """
    picture = Image.new("RGB", (SIZE, SIZE), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((SIZE - MARGIN, TOP // 2), "CAD", fill=BRAND, font=_font(30), anchor="rm")
    text, font = "\n".join(textwrap.wrap(title, 32)), _font(28)
    height = draw.multiline_textbbox((0, 0), text, font=font, spacing=6)[3]
    place = (MARGIN, SIZE - MARGIN - height)
    draw.multiline_text(place, text, fill=INK, font=font, spacing=6)
    return picture, draw, round(place[1])


def _grid(pictures: Sequence[Image.Image], width: int, height: int) -> Image.Image:
    """`pictures` in rows of COLUMNS, as large as fits."""
    rows = -(-len(pictures) // COLUMNS)
    side = min(width // COLUMNS, height // rows)
    grid = Image.new("RGB", (side * COLUMNS, side * rows), PAPER)
    for number, picture in enumerate(pictures):
        place = (number % COLUMNS * side, number // COLUMNS * side)
        grid.paste(picture.resize((side - 2, side - 2), Image.Resampling.LANCZOS), place)
    return grid


def before_after_thumbnail(title: str, rows: Sequence[Row]) -> Image.Image:
    """The first pictures of each prompt, before on the left and after on the right; six of each, or three where there are many prompts."""
    thumbnail, draw, bottom = _titled(title)
    half, count = (SIZE - 3 * MARGIN) // 2, COLUMNS * (2 if len(rows) < 3 else 1)
    height = (bottom - MARGIN - TOP) // len(rows)
    for number, row in enumerate(rows):
        y = TOP + number * height
        for side, (word, shown) in enumerate((("before", row.before), ("after", row.after))):
            x = MARGIN + side * (half + MARGIN)
            draw.text((x, y), word if side else f"{row.prompt}: {word}", fill=FAINT, font=_font(15))
            thumbnail.paste(_grid(shown[:count], half, height - 20 - MARGIN // 2), (x, y + 20))
    return thumbnail


def graph_thumbnail(title: str, graph: Image.Image) -> Image.Image:
    """The upper left part of a picture of the graph, as much of it as fits."""
    thumbnail, _, bottom = _titled(title)
    size = (SIZE - 2 * MARGIN, bottom - MARGIN - TOP)
    thumbnail.paste(ImageOps.fit(graph.convert("RGB"), size, Image.Resampling.LANCZOS, centering=(0, 0)), (MARGIN, TOP))
    return thumbnail


def save_thumbnail(thumbnail: Image.Image, path: Path) -> None:
    thumbnail.save(path, "JPEG", quality=88, optimize=True)
