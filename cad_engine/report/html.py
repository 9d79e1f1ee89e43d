"""Self-contained HTML reports: one file, nothing loaded from anywhere; light and dark; readable by screen readers.

The one script that a page can have is the viewer's (see interactive.py), and only in a report that has a ReportViewer.

Whatever text a report is given is escaped here, and nowhere else: callers hand over plain text.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from ..files import written_whole
from .interactive import json_for_html, script_hash, viewer_script, viewer_style
from .style import STYLE
from .text import shortened

TITLE_LIMIT, TEXT_LIMIT, CELL_LIMIT = 160, 4000, 400
SETTINGS_DEPTH = 3
WIDE = 900
"""Pixels; wider pictures scroll sideways on a small screen, where reduced to its width they could not be read."""
_MINUS, _TIMES, _DASH = "\u2212", "\u00d7", "\u2013"
_NUMERIC = re.compile(rf"[-+±{_MINUS}]?[0-9][0-9.,\s]*(?:[eE][-+{_MINUS}]?[0-9]+)?\s?(?:[%kMGs{_TIMES}]|±.*)?")


@dataclass(frozen=True)
class Share:
    """A table cell with a bar: `fraction` in [0, 1] is the length of the bar beside it, `text` what it says (None: in percent)."""

    fraction: float
    text: str | None = None


Cell = str | int | float | bool | Share | None


@dataclass(frozen=True)
class ReportTable:
    """A table; the first cell of each row is the row's heading.

    Attributes:
        headers: one a column.
        rows: cells of each row, as many as headers; None is a dash. Ints get thousands separators, floats four digits.
        caption: what the table shows, in a line.
        total: a last row set apart.
        folded: shown as its caption until opened; for long tables.
        strong: numbers of rows to set in bold.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""
    total: Sequence[Cell] | None = None
    folded: bool = False
    strong: Sequence[int] = ()


@dataclass(frozen=True)
class ReportImage:
    """A picture: the bytes of a PNG (see png.png_bytes), what it shows for those who cannot see it, and a caption."""

    png: bytes
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class ReportViewer:
    """An Attribution Viewer to work with: its data, see interactive.shown_data."""

    data: Mapping[str, Any]


Block = str | ReportTable | ReportImage | ReportViewer


@dataclass(frozen=True)
class ReportSection:
    """A heading and what stands under it; a str is a paragraph."""

    heading: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Report:
    """A page: title, what was done and found in a sentence or two of plain language, and sections."""

    title: str
    summary: str
    sections: Sequence[ReportSection] = field(default_factory=tuple)


def settings_table(settings: Mapping[str, Any], caption: str = "") -> ReportTable:
    """Settings, nested mappings and lists included, as a table of two columns."""
    return ReportTable(["Setting", "Value"], _settings_rows(settings, "", SETTINGS_DEPTH), caption)


def _settings_rows(settings: Mapping[str, Any], parent: str, depth: int) -> list[Sequence[Cell]]:
    rows: list[Sequence[Cell]] = []
    for key, value in settings.items():
        label = f"{parent}{str(key).replace('_', ' ')}"
        if isinstance(value, Mapping) and value and depth > 1:
            rows += _settings_rows(value, f"{label} · ", depth - 1)
        else:
            # As text: a seed or a timestep reads wrongly with thousands separators.
            rows.append([label, _setting(value)])
    return rows


def _setting(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if isinstance(value, (list, tuple)) and value and all(isinstance(item, Mapping) for item in value):
        # What each round did, for one: "kappa 30, J 3.9 / 0.6; kappa 10, J 0.6 / 0.4".
        return "; ".join(", ".join(f"{key} {_plain(part, ' / ')}" for key, part in item.items()) for item in value[:CELL_LIMIT])
    return _plain(value, ", ")


def _plain(value: Any, between: str) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return between.join(f"{item:.6g}" if isinstance(item, float) else str(item) for item in value[:CELL_LIMIT])
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def write_report(path: Path, report: Report) -> None:
    """Write `report` to `path`, whole or not at all. Raises CadError when the place cannot be written."""
    page = render_report(report).encode("utf-8")
    with written_whole(Path(path)) as temporary:
        temporary.write_bytes(page)


def render_report(report: Report) -> str:
    """The page as text, HTML 5."""
    sections = [_section(number, section) for number, section in enumerate(report.sections, start=1)]
    contents = "".join(
        f'<li><a href="#section-{number}">{_text(section.heading, TITLE_LIMIT)}</a></li>'
        for number, section in enumerate(report.sections, start=1)
    )
    navigation = f'<nav aria-label="Sections"><ul>{contents}</ul></nav>' if len(sections) > 1 else ""
    title = _text(report.title, TITLE_LIMIT)
    script = viewer_script() if any(isinstance(block, ReportViewer) for section in report.sections for block in section.blocks) else ""
    # The policy holds even against a mistake in escaping: no other script, no request, whatever the page contains.
    scripts = f"; script-src '{script_hash(script)}'" if script else ""
    style = STYLE + (viewer_style() if script else "")
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'{scripts}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{title}</h1>
<p class="summary">{_text(report.summary, TEXT_LIMIT)}</p>
{navigation}
</header>
<main>
{"".join(sections)}</main>
{f"<script>{script}</script>" if script else ""}
</body>
</html>
"""


def _text(text: str, limit: int) -> str:
    return escape(shortened(text, limit))


def _section(number: int, section: ReportSection) -> str:
    blocks = "".join(_block(block, f"data-{number}-{place}") for place, block in enumerate(section.blocks))
    heading = _text(section.heading, TITLE_LIMIT)
    opening = f'<section id="section-{number}" aria-labelledby="heading-{number}">\n<h2 id="heading-{number}">'
    return f"{opening}{heading}</h2>\n{blocks}</section>\n"


def _block(block: Block, key: str) -> str:
    if isinstance(block, str):
        return f"<p>{_text(block, TEXT_LIMIT)}</p>\n"
    if isinstance(block, ReportViewer):
        without = "<noscript><p>The map needs JavaScript, which is off in this browser.</p></noscript>"
        data = f'<script type="application/json" id="{key}">{json_for_html(block.data)}</script>'
        return f'<div data-cad-viewer="{key}"></div>{without}{data}\n'
    if isinstance(block, ReportImage):
        caption = f"<figcaption>{_text(block.caption, TEXT_LIMIT)}</figcaption>" if block.caption else ""
        width, height = struct.unpack(">II", block.png[16:24])  # where every PNG has its size
        source = f"data:image/png;base64,{base64.b64encode(block.png).decode('ascii')}"
        image = f'<img src="{source}" width="{width}" height="{height}" alt="{_text(block.alt, TEXT_LIMIT)}">'
        if width > WIDE:
            image = f'<div class="scroll wide" role="region" tabindex="0" aria-label="{_text(block.alt, TITLE_LIMIT)}">{image}</div>'
        return f"<figure>{image}{caption}</figure>\n"
    return _table(block)


def _table(table: ReportTable) -> str:
    for row in [*table.rows, *([table.total] if table.total else [])]:
        if len(row) != len(table.headers):
            raise ValueError(f"a row has {len(row)} cells under {len(table.headers)} headers")
    caption = _text(table.caption, TEXT_LIMIT)
    body_columns = list(zip(*table.rows, strict=True)) if table.rows else [()] * len(table.headers)
    numeric = [number > 0 and bool(column) and all(map(_is_number, column)) for number, column in enumerate(body_columns)]
    heads = "".join(
        f'<th scope="col"{_class(is_number)}>{_text(header, CELL_LIMIT)}</th>'
        for header, is_number in zip(table.headers, numeric, strict=True)
    )
    body = "".join(_row(row, numeric, ' class="strong"' if number in table.strong else "") for number, row in enumerate(table.rows))
    foot = f"<tfoot>{_row(table.total, numeric, '')}</tfoot>" if table.total else ""
    captioned = f"<caption><span>{caption}</span></caption>" if caption and not table.folded else ""
    html = f"<table>{captioned}<thead><tr>{heads}</tr></thead><tbody>\n{body}</tbody>{foot}</table>"
    # A wide table scrolls on its own, by keyboard too; the page never does sideways.
    html = f'<div class="scroll" role="region" tabindex="0" aria-label="{caption or "Table"}">{html}</div>\n'
    return f"<details><summary>{caption or 'Table'}</summary>{html}</details>\n" if table.folded else html


def _row(row: Sequence[Cell], numeric: Sequence[bool], attributes: str) -> str:
    head, *cells = [_cell(cell) for cell in row]
    rest = "".join(f"<td{_class(is_number)}>{cell}</td>" for cell, is_number in zip(cells, numeric[1:], strict=True))
    return f'<tr{attributes}><th scope="row">{head}</th>{rest}</tr>\n'


def _class(is_number: bool) -> str:
    return ' class="number"' if is_number else ""


def _is_number(cell: Cell) -> bool:
    return bool(_NUMERIC.fullmatch(cell)) if isinstance(cell, str) else not isinstance(cell, bool)


def _cell(cell: Cell) -> str:
    if cell is None:
        return _DASH
    if isinstance(cell, Share):
        fraction = min(1.0, max(0.0, cell.fraction))
        text = f"{100 * cell.fraction:.0f} %" if cell.text is None else cell.text
        bar = f'<span class="bar" style="width:{100 * fraction:.1f}%"></span>'
        return f'<span class="share"><span class="track" aria-hidden="true">{bar}</span><span>{_text(text, CELL_LIMIT)}</span></span>'
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, int):
        return f"{cell:,}"
    if isinstance(cell, float):
        return f"{cell:.4g}".replace("-", _MINUS)
    return _text(cell, CELL_LIMIT)
