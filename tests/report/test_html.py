from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch

from cad_engine.errors import CadError
from cad_engine.report.grid import GridRow, before_after_grid
from cad_engine.report.html import Report, ReportImage, ReportSection, ReportTable, Share, render_report, settings_table, write_report
from cad_engine.report.layer_table import layer_report_table
from cad_engine.report.plot import attribution_figure
from cad_engine.report.png import png_bytes
from tests.report.attributions import SD15, ff_names, random_attribution

HOSTILE = "\"'><img src=x onerror=alert(1)><script>alert(2)</script>&amp;"
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that tags are balanced; collects tags with their attributes, and text by the tag that it stands in."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self.open[-1] if self.open else "", data.strip()))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def text(self) -> str:
        return " ".join(text for tag, text in self.texts if tag != "style")


def assert_self_contained(html: str) -> None:
    page = Page(html)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    for _, attributes in page.tags:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "action", "srcset", "data"):
            target = attributes.get(name)
            assert target is None or target.startswith(("data:image/png;base64,", "#"))
    style = "".join(text for tag, text in page.texts if tag == "style")
    assert "url(" not in style
    assert "@import" not in style
    assert "://" not in re.sub(r"base64,[^\"]*", "", html)


def test_a_whole_report(tmp_path: Path) -> None:
    pictures = torch.rand(2, 3, 64, 64)
    attribution = random_attribution(ff_names(SD15)[:4])
    grid = png_bytes(before_after_grid([GridRow("a red star", pictures, pictures, [True] * 2, [False] * 2)]))
    plot = png_bytes(attribution_figure(attribution))
    results = ReportTable(
        ["Model", "Target accuracy", "Others' accuracy", "Weights"],
        [["before", Share(1.0), "96 %", 0], ["after", Share(0.06), "94 %", 9340], ["random weights, same number", 0.98765, None, 9340]],
        caption="Accuracy",
        strong=[1],
    )
    sections = [
        ReportSection("Results", ["The star is suppressed.", results]),
        ReportSection("Pictures", [ReportImage(grid, "Pictures before and after", "Same seeds")]),
        ReportSection("Layers", [ReportImage(plot, "Attribution by layer"), layer_report_table(attribution)]),
        ReportSection("Settings", [settings_table({"seed": 12345, "steps": [1, 2], "sampler": {"guidance": 7.5, "eta": None}})]),
    ]
    path = tmp_path / "report.html"
    write_report(path, Report("Suppressing “star”", "A sentence.", sections))
    html = path.read_text(encoding="utf-8")
    assert_self_contained(html)
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]
    page = Page(html)
    assert [text for tag, text in page.texts if tag == "h1"] == ["Suppressing “star”"]
    assert [text for tag, text in page.texts if tag == "h2"] == ["Results", "Pictures", "Layers", "Settings"]
    assert [image["alt"] for image in page.all("img")] == ["Pictures before and after", "Attribution by layer"]
    assert all(head["scope"] in ("row", "col") for head in page.all("th"))
    anchors, targets = [link["href"] for link in page.all("a")], {attributes.get("id") for _, attributes in page.tags}
    assert anchors
    assert all(anchor and anchor[1:] in targets for anchor in anchors)
    text = page.text()
    for expected in ("100 %", "6 %", "9,340", "0.9877", "\u2013", "12345", "1, 2", "sampler · guidance", "7.5", "in 1 · block 0 · ff in"):
        assert expected in text
    assert "prefers-color-scheme: dark" in html


def test_everything_given_is_escaped() -> None:
    blocks = [
        HOSTILE,
        ReportTable([HOSTILE, "x"], [[HOSTILE, HOSTILE], [HOSTILE, Share(0.5, HOSTILE)]], HOSTILE, total=[HOSTILE, HOSTILE]),
        ReportTable([HOSTILE], [], HOSTILE, folded=True),
        ReportImage(png_bytes(before_after_grid([GridRow(HOSTILE, *[torch.zeros(1, 3, 8, 8)] * 2)])), HOSTILE, HOSTILE),
        settings_table({HOSTILE: HOSTILE, "nested": {HOSTILE: [HOSTILE]}}, HOSTILE),
    ]
    html = render_report(Report(HOSTILE, HOSTILE, [ReportSection(HOSTILE, blocks), ReportSection(HOSTILE, [])]))
    assert_self_contained(html)
    assert len(Page(html).all("img")) == 1
    assert HOSTILE in Page(html).text()


def test_hostile_layer_names_are_escaped_and_cut() -> None:
    attribution = random_attribution([HOSTILE, "y" * 10_000, *ff_names(SD15)[:1]])
    html = render_report(Report("Layers", "", [ReportSection("Layers", [layer_report_table(attribution)])]))
    assert_self_contained(html)
    assert "y" * 100 not in html


def test_text_that_no_file_can_hold_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    section = ReportSection("\u202e", [ReportTable(["\udfff"], [["\ud801"]])])
    write_report(path, Report("lone \ud800 surrogate \x00", "x" * 100_000, [section]))
    html = path.read_text(encoding="utf-8")
    assert len(html) < 20_000
    assert not set("\x00\u202e") & set(html)


def test_what_rounds_did_can_be_read() -> None:
    rounds = [{"kappa": 30.0, "J": [3.9, 0.61234567, 0.5]}, {"kappa": 0.0, "J": [0.6, 0.6, 0.6]}]
    table = settings_table({"rounds_done": rounds, "keep": ["a ring", "a red {}"]})
    assert table.rows[0] == ["rounds done", "kappa 30, J 3.9 / 0.612346 / 0.5; kappa 0, J 0.6 / 0.6 / 0.6"]
    assert table.rows[1] == ["keep", "a ring, a red {}"]


def test_deep_and_odd_settings_stay_a_table() -> None:
    deep: dict[str, object] = {"value": 1}
    for _ in range(50):
        deep = {"inner": deep}
    table = settings_table({"deep": deep, "flag": True, "rate": 1e-5, "empty": {}, "seed": 2**63})
    assert [row[1] for row in table.rows[1:]] == ["yes", "1e-05", "{}", str(2**63)]
    assert len(table.rows) == 5


def test_numbers_stand_right_and_text_left() -> None:
    table = ReportTable(["Name", "Count", "Rate", "Note"], [["1", 2, "96 ± 3 %", "good"], ["2", 3_000, "1.5e-05", "7"]])
    html = render_report(Report("t", "s", [ReportSection("h", [table])]))
    heads = [(head.get("class")) for head in Page(html).all("th") if head["scope"] == "col"]
    assert heads == [None, "number", "number", None]


def test_a_row_of_the_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="2 cells under 1 headers"):
        render_report(Report("t", "s", [ReportSection("h", [ReportTable(["a"], [["b", "c"]])])]))


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(CadError, match="missing"):
        write_report(tmp_path / "missing" / "report.html", Report("t", "s"))
