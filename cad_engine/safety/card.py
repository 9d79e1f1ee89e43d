"""The card that stands in the place of what is withheld: flat, light, and it says what it is."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw
from PIL.ImageFont import FreeTypeFont
from torch import Tensor

PAPER, INK, SOFT = "#c9ced6", "#1c2230", "#4a5263"
HEADLINE, LINE = "Withheld", "by CAD Safety Check"
SMALLEST_TEXT = 7
"""Pixels. Where it does not fit, the card is without words."""
_FILLED = 0.7  # of the card's width by the words, at most
_LINE_HEIGHT = 1.6  # in sizes of its font


def card(height: int, width: int) -> Tensor:
    """float [H, W, 3] in [0, 1]."""
    picture = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(picture)
    headline = _font(HEADLINE, width, height / _LINE_HEIGHT, bold=True)
    if headline is not None:
        line = _font(LINE, width, headline.size * 0.6, bold=False)
        both = line is not None and (headline.size + line.size) * _LINE_HEIGHT <= height
        middle = height / 2 - (headline.size * 0.45 if both else 0)
        draw.text((width / 2, middle), HEADLINE, fill=INK, font=headline, anchor="mm")
        if both and line is not None:
            draw.text((width / 2, middle + headline.size * 0.5 + line.size), LINE, fill=SOFT, font=line, anchor="mm")
    return torch.from_numpy(np.asarray(picture).astype(np.float32) / 255)


def _font(text: str, width: int, tallest: float, *, bold: bool) -> FreeTypeFont | None:
    """The font in which `text` takes its part of `width`, of a size of at most `tallest`; None where that is too small to read."""
    from ..report.fonts import picture_font  # loads matplotlib, which starting ComfyUI should not

    size = int(min(_FILLED * width / (picture_font(text, 100, bold=bold).getlength(text) / 100), tallest))
    return picture_font(text, size, bold=bold) if size >= SMALLEST_TEXT else None
