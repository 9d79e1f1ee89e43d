"""The same pictures by every method, for one concept: those that should no longer show it, and those that should stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw
from torch import Tensor

from cad_engine.report.fonts import picture_font, text_width
from cad_engine.report.plot_style import INK, NEGATIVE, POSITIVE, SOFT
from cad_engine.report.text import shortened

_SIZE, _SPACE, _BETWEEN, _MARGIN, _FRAME, _TEXT, _NAME_LIMIT = 96, 8, 40, 20, 4, 14, 32
_HEAD = 62


@dataclass(frozen=True)
class MethodPictures:
    """What one method's model paints.

    Attributes:
        target: float [N, 3, H, W] in [0, 1], of the concept's prompts, and `shown`, whether each shows it.
        rest: float [M, 3, H, W], of other prompts, and `right`, whether everything asked for is there.
    """

    method: str
    target: Tensor
    shown: Sequence[bool]
    rest: Tensor
    right: Sequence[bool]


def picture_grid(concept: str, rows: Sequence[MethodPictures]) -> Image.Image:
    """One picture (RGB): a line for each of `rows`; columns are prompts and seeds, the same in every line.

    A frame is blue where the judge sees what an eraser should leave: no concept on the left, everything right on the right; else orange.
    Raises ValueError without rows, or when numbers of pictures and verdicts differ.
    """
    if not rows:
        raise ValueError("a grid needs at least one row")
    for row in rows:
        counts = len(row.target), len(row.shown), len(row.rest), len(row.right)
        if counts != (len(rows[0].target),) * 2 + (len(rows[0].rest),) * 2:
            raise ValueError(
                f"{row.method} has {counts} pictures and verdicts, {rows[0].method} {len(rows[0].target)}, {len(rows[0].rest)}"
            )
    names = [shortened(row.method, _NAME_LIMIT) for row in rows]
    left = _MARGIN + int(max(text_width(name, _TEXT) for name in names)) + 16
    cell = _SIZE + 2 * _FRAME + _SPACE
    second = left + len(rows[0].target) * cell + _BETWEEN
    image = Image.new("RGB", (second + len(rows[0].rest) * cell + _MARGIN, _HEAD + len(rows) * cell + 28 + _MARGIN), "white")
    draw = ImageDraw.Draw(image)
    bold = picture_font(concept, _TEXT, bold=True)
    draw.text((left, _MARGIN), f"“{shortened(concept, _NAME_LIMIT)}” asked for", fill=INK, font=bold)
    draw.text((second, _MARGIN), "other things asked for", fill=INK, font=bold)
    for number, (name, row) in enumerate(zip(names, rows, strict=True)):
        y = _HEAD + number * cell
        draw.text((_MARGIN, y + cell / 2), name, fill=INK, font=picture_font(name, _TEXT), anchor="lm")
        good = [not shown for shown in row.shown], list(row.right)
        for x_0, pictures, verdicts in ((left, row.target, good[0]), (second, row.rest, good[1])):
            for column, (picture, fine) in enumerate(zip(pictures, verdicts, strict=True)):
                x = x_0 + column * cell
                draw.rectangle((x, y, x + _SIZE + 2 * _FRAME - 1, y + _SIZE + 2 * _FRAME - 1), fill=NEGATIVE if fine else POSITIVE)
                image.paste(_pixels(picture), (x + _FRAME, y + _FRAME))
    _key(draw, left, _HEAD + len(rows) * cell + 10)
    return image


def _key(draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
    for colour, text in ((NEGATIVE, "as erasing should leave it: concept gone, other things right"), (POSITIVE, "not so")):
        draw.rectangle((x, y, x + 14, y + 14), fill=colour)
        draw.text((x + 22, y + 7), text, fill=SOFT, font=picture_font(text, 13), anchor="lm")
        x += 22 + int(text_width(text, 13)) + 28


def _pixels(picture: Tensor) -> Image.Image:
    array = picture.mul(255).round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(array).resize((_SIZE, _SIZE), Image.Resampling.BICUBIC)
