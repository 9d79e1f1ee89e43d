"""The picture that the template browser shows of a workflow: what it made, or, where that is not known here, the graph itself."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

SIZE, MARGIN = 512, 16
PAPER, INK, FAINT = "#1e1e1e", "#f2f2f2", "#a8a8a8"
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
    """An empty thumbnail with its title; and where what follows may begin."""
    picture = Image.new("RGB", (SIZE, SIZE), PAPER)
    draw = ImageDraw.Draw(picture)
    text = "\n".join(textwrap.wrap(title, 30))
    draw.multiline_text((MARGIN, MARGIN), text, fill=INK, font=_font(30), spacing=6)
    return picture, draw, round(draw.multiline_textbbox((MARGIN, MARGIN), text, font=_font(30), spacing=6)[3]) + MARGIN


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
    thumbnail, draw, top = _titled(title)
    half, count = (SIZE - 3 * MARGIN) // 2, COLUMNS * (2 if len(rows) < 3 else 1)
    for side, word in enumerate(("before", "after")):
        draw.text((MARGIN + side * (half + MARGIN), top), word, fill=INK, font=_font(20))
    top += 28
    height = (SIZE - top) // len(rows)
    for number, row in enumerate(rows):
        y = top + number * height
        draw.text((MARGIN, y), row.prompt, fill=FAINT, font=_font(16))
        for side, shown in enumerate((row.before, row.after)):
            thumbnail.paste(_grid(shown[:count], half, height - 22 - MARGIN // 2), (MARGIN + side * (half + MARGIN), y + 22))
    return thumbnail


def graph_thumbnail(title: str, graph: Image.Image) -> Image.Image:
    """A picture of the graph."""
    thumbnail, _, top = _titled(title)
    fitting = graph.convert("RGB")
    fitting.thumbnail((SIZE, SIZE - top - MARGIN), Image.Resampling.LANCZOS)
    thumbnail.paste(fitting, ((SIZE - fitting.width) // 2, top + (SIZE - top - fitting.height) // 2))
    return thumbnail


def save_thumbnail(thumbnail: Image.Image, path: Path) -> None:
    thumbnail.save(path, "JPEG", quality=88, optimize=True)
