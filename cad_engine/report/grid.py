"""Pictures before and after an edit, side by side, as one picture: a block for each prompt, a column for each seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw
from PIL.ImageFont import FreeTypeFont
from torch import Tensor

from .fonts import picture_font
from .text import ELLIPSIS, shortened

SMALLEST, LARGEST = 128, 256
"""Pixels: smaller pictures are enlarged by a whole factor with sharp pixels, larger ones are reduced smoothly."""
CAPTION_LINES, CAPTION_LIMIT, KEY_LIMIT = 2, 400, 90

_MARGIN, _GUTTER, _SPACE, _BETWEEN, _AFTER_CAPTION, _BETWEEN_ROWS = 24, 64, 8, 8, 10, 30
_CAPTION_SIZE, _TEXT_SIZE, _BADGE, _SHARPNESS = 16, 13, 20, 4
_PAPER, _INK, _SOFT, _LINE = "#ffffff", "#1c2230", "#5b6474", "#dfe3ea"
_TICK, _CROSS = "#2166ac", "#d9710b"


@dataclass(frozen=True)
class GridRow:
    """The pictures of one prompt.

    Attributes:
        caption: the prompt or concept.
        before, after: pictures of the same seeds, float [N, 3, H, W] in [0, 1].
        before_ok, after_ok: the judge's verdict on each picture, None where there is none.
    """

    caption: str
    before: Tensor
    after: Tensor
    before_ok: Sequence[bool] | None = None
    after_ok: Sequence[bool] | None = None


def before_after_grid(
    rows: Sequence[GridRow],
    *,
    columns: Sequence[str] | None = None,
    labels: tuple[str, str] = ("before", "after"),
    verdict: str = "the judge sees what the prompt asks for",
) -> Image.Image:
    """One picture (RGB) of all `rows`, on white.

    Args:
        columns: a heading for each column, e.g. "seed 0".
        labels: what the two lines of a row are called.
        verdict: what a tick means; explained below the grid when any row has verdicts.

    Raises:
        ValueError: without rows or pictures, or when pictures, verdicts or columns do not match in number or shape.
    """
    if not rows:
        raise ValueError("a grid needs at least one row")
    for row in rows:
        _check(row)
    count = max(len(row.before) for row in rows)
    if columns is not None and len(columns) != count:
        raise ValueError(f"{len(columns)} column headings for {count} columns")
    cells = [[[_cell(picture) for picture in side] for side in (row.before, row.after)] for row in rows]
    cell_width = max(cell.width for row in cells for side in row for cell in side)
    cell_heights = [max(cell.height for side in row for cell in side) for row in cells]

    bold = [picture_font(row.caption, _CAPTION_SIZE, bold=True) for row in rows]
    plain = picture_font("".join((*labels, verdict, *(columns or ()))), _TEXT_SIZE)
    content = _GUTTER + count * cell_width + (count - 1) * _SPACE
    judged = any(verdicts is not None for row in rows for verdicts in (row.before_ok, row.after_ok))
    key = _key(verdict, plain) if judged else None
    if key:
        content = max(content, key.width)
    captions = [_wrapped(row.caption, font, content, CAPTION_LINES) for row, font in zip(rows, bold, strict=True)]
    line = _CAPTION_SIZE + 6
    heights = [len(lines) * line + _AFTER_CAPTION + 2 * height + _BETWEEN for lines, height in zip(captions, cell_heights, strict=True)]
    top = _MARGIN + (_TEXT_SIZE + 14 if columns else 0)
    total = top + sum(heights) + (len(rows) - 1) * _BETWEEN_ROWS + (key.height + 20 if key else 0) + _MARGIN
    image = Image.new("RGB", (content + 2 * _MARGIN, total), _PAPER)
    draw = ImageDraw.Draw(image)

    left = _MARGIN + _GUTTER
    for number, heading in enumerate(columns or ()):
        text = _wrapped(heading, plain, cell_width, 1)[0]
        draw.text((left + number * (cell_width + _SPACE) + cell_width / 2, _MARGIN), text, fill=_SOFT, font=plain, anchor="mt")
    y = top
    for number, row in enumerate(rows):
        if number:
            draw.line((_MARGIN, y - _BETWEEN_ROWS / 2, image.width - _MARGIN, y - _BETWEEN_ROWS / 2), fill=_LINE)
        for text in captions[number]:
            draw.text((_MARGIN, y), text, fill=_INK, font=bold[number], anchor="la")
            y += line
        y += _AFTER_CAPTION
        for label, side, verdicts in zip(labels, cells[number], (row.before_ok, row.after_ok), strict=True):
            fitting = _wrapped(label, plain, _GUTTER - 10, 1)[0]
            draw.text((_MARGIN, y + cell_heights[number] / 2), fitting, fill=_SOFT, font=plain, anchor="lm")
            for column, cell in enumerate(side):
                corner = (left + column * (cell_width + _SPACE), y)
                image.paste(cell, corner)
                if verdicts is not None:
                    badge = _badge(bool(verdicts[column]))
                    image.paste(badge, (corner[0] + cell.width - badge.width - 4, corner[1] + cell.height - badge.height - 4), badge)
            y += cell_heights[number] + _BETWEEN
        y += _BETWEEN_ROWS - _BETWEEN
    if key:
        image.paste(key, (_MARGIN, y - _BETWEEN_ROWS + 20))
    return image


def _check(row: GridRow) -> None:
    shape = tuple(row.before.shape)
    if row.before.ndim != 4 or shape[1] != 3 or 0 in shape or tuple(row.after.shape) != shape:
        raise ValueError(f"pictures must be two of [N, 3, H, W], got {list(shape)} before and {list(row.after.shape)} after")
    for verdicts in (row.before_ok, row.after_ok):
        if verdicts is not None and len(verdicts) != len(row.before):
            raise ValueError(f"{len(verdicts)} verdicts for {len(row.before)} pictures")


def _cell(picture: Tensor) -> Image.Image:
    """A picture [3, H, W] as it stands in the grid; what is not finite is black."""
    pixels = picture.detach().float().cpu().nan_to_num(0.0, 0.0, 0.0).clamp(0, 1).mul(255).round().byte()
    image = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
    longest = max(image.size)
    if longest > LARGEST:
        factor = LARGEST / longest
        return image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))), Image.Resampling.LANCZOS)
    factor = max(1, SMALLEST // longest)
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def _wrapped(text: str, font: FreeTypeFont, width: float, lines: int) -> list[str]:
    """`text` in at most `lines` lines of `width` pixels, broken between words where possible, with an ellipsis where cut."""
    rest = shortened(text, CAPTION_LIMIT)
    result: list[str] = []
    while len(result) < lines - 1 and font.getlength(rest) > width:
        fitting = _fitting(rest, font, width)
        head, space, _ = rest[: fitting + 1].rpartition(" ")
        cut = len(head) if space else fitting
        result.append(rest[:cut])
        rest = rest[cut:].lstrip()
    if font.getlength(rest) > width:
        rest = rest[: _fitting(rest, font, width - font.getlength(ELLIPSIS))].rstrip() + ELLIPSIS
    return [*result, rest]


def _fitting(text: str, font: FreeTypeFont, width: float) -> int:
    """How many letters from the start fit into `width` pixels; at least one."""
    count = 1
    while count < len(text) and font.getlength(text[: count + 1]) <= width:
        count += 1
    return count


def _badge(ok: bool) -> Image.Image:
    """A round mark with a tick or a cross, RGBA; drawn large and reduced, which makes its edges smooth."""
    size = _BADGE * _SHARPNESS
    image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.ellipse((0, 0, size - 1, size - 1), fill="white")
    rim = 1.5 * _SHARPNESS
    draw.ellipse((rim, rim, size - 1 - rim, size - 1 - rim), fill=_TICK if ok else _CROSS)
    strokes = [[(0.29, 0.52), (0.44, 0.67), (0.71, 0.36)]] if ok else [[(0.34, 0.34), (0.66, 0.66)], [(0.66, 0.34), (0.34, 0.66)]]
    for stroke in strokes:
        draw.line([(x * size, y * size) for x, y in stroke], fill="white", width=round(0.1 * size), joint="curve")
    return image.resize((_BADGE, _BADGE), Image.Resampling.LANCZOS)


def _key(verdict: str, font: FreeTypeFont) -> Image.Image:
    """What the marks mean, in one line."""
    texts = [(True, shortened(verdict, KEY_LIMIT)), (False, "it does not")]
    widths = [_BADGE + 6 + math.ceil(font.getlength(text)) for _, text in texts]
    image = Image.new("RGB", (sum(widths) + 24, _BADGE), _PAPER)
    draw, x = ImageDraw.Draw(image), 0
    for (ok, text), width in zip(texts, widths, strict=True):
        badge = _badge(ok)
        image.paste(badge, (x, 0), badge)
        draw.text((x + _BADGE + 6, _BADGE / 2), text, fill=_SOFT, font=font, anchor="lm")
        x += width + 24
    return image
