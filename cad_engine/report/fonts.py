"""Fonts of reports: DejaVu Sans, which matplotlib brings along, and where it lacks a script, what the machine has."""

from __future__ import annotations

from functools import lru_cache

from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from PIL.ImageFont import FreeTypeFont, truetype

_MAIN = "DejaVu Sans"
_OTHERS = (  # Chinese, Japanese, Korean and others; usual on Linux, Windows and macOS
    *("Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "WenQuanYi Zen Hei", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic"),
    *("PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Arial Unicode MS"),
)


@lru_cache
def families() -> list[str]:
    """Font families for matplotlib, which takes each letter from the first that has it."""
    installed = {entry.name for entry in fontManager.ttflist}
    return [_MAIN, *(name for name in _OTHERS if name in installed)]


@lru_cache
def _path(family: str, bold: bool) -> str:
    return str(findfont(FontProperties(family=family, weight="bold" if bold else "normal")))


def picture_font(text: str, size: int, *, bold: bool = False) -> FreeTypeFont:
    """The first font that has every letter of `text`, else the usual one; `size` in pixels."""
    wanted = {ord(letter) for letter in text}
    paths = [_path(family, bold) for family in families()]
    path = next((path for path in paths if wanted <= get_font(path).get_charmap().keys()), paths[0])
    return truetype(path, size)


def text_width(text: str, size: float) -> float:
    """Width of `text` in the usual font, in the unit of `size`."""
    return picture_font("", 100).getlength(text) / 100 * size
