"""The viewer in an HTML page: one script that alone may run, and in a real browser the numbers of the attribution."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from setuptools import find_packages

from cad_engine.attribution import Attribution
from cad_engine.errors import CadError
from cad_engine.layer_choice import choose, matching, parse_patterns
from cad_engine.report.counts import taken_counts
from cad_engine.report.html import Report, ReportSection, ReportViewer, render_report
from cad_engine.report.interactive import json_for_html, script_hash, shown_data, viewer_script
from cad_engine.report.unet_map import layer_label, u_order
from cad_engine.selection import RULES
from tests.browser.page import chromium
from tests.report.attributions import SD15, SDXL, ff_names, random_attribution

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parents[2]
HOSTILE = "</script><script>window.hacked=1</script><img src=x onerror=window.hacked=1><!--"


def page_of(attribution: Attribution, others: tuple[Attribution, ...] = (), ratio: float | None = 0.02) -> str:
    data = shown_data(attribution, others, ratio)
    return render_report(Report("Attribution", "", [ReportSection("Map", [ReportViewer(data)])]))


def test_only_the_viewers_script_may_run_and_nothing_is_fetched() -> None:
    html = page_of(random_attribution(ff_names(SD15), concept=HOSTILE))
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', html)
    scripts = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    assert scripts == [viewer_script()]
    assert policy == f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{script_hash(scripts[0])}'"
    assert html.count("<script") == 2  # the other is data
    plain = render_report(Report("Plain", "", []))
    assert "<script" not in plain
    assert "script-src" not in plain


def test_data_cannot_end_its_element() -> None:
    data = {"concept": HOSTILE, "other": "\u2028\u2029"}
    text = json_for_html(data)
    assert not set("<>\u2028\u2029") & set(text)
    assert json.loads(text) == data


def test_modules_keep_to_what_one_script_needs() -> None:
    for path in (ROOT / "web" / "viewer").glob("*.js"):
        text = path.read_text(encoding="utf-8")
        for line in text.splitlines():
            if line.startswith(("import", "export")):
                assert re.match(r'import \{ .+ \} from "\./[\w/]+\.js";$|export (async )?(function|const|class) \w', line), (
                    f"{path.name}: {line}"
                )
        assert "innerHTML" not in text
        assert "outerHTML" not in text
        assert "insertAdjacentHTML" not in text
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path.name


def test_a_wheel_has_the_viewers_files() -> None:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 brings it")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    packages = {package for package in find_packages(str(ROOT), include=["cad_engine*"])}
    assert set(project["packages"]) == packages | {"cad_engine.report.web_viewer", "cad_engine.report.web_viewer.vendor"}
    assert project["package-dir"] == {
        "cad_engine.report.web_viewer": "web/viewer",
        "cad_engine.report.web_viewer.vendor": "web/viewer/vendor",
    }
    endings = {path.suffix for path in (ROOT / "web" / "viewer").rglob("*") if path.is_file()}
    assert {f"*{ending}" for ending in endings} <= set(project["package-data"]["*"])


def test_overlaps_are_those_of_the_chosen_layers() -> None:
    a, b = random_attribution(ff_names(SD15)), random_attribution(ff_names(SD15)[::-1], concept="ring")
    data = shown_data(a, (b,), 0.05, "global", "mid *", choose(a, ["mid *"]))
    entries = dict(zip([layer["name"] for layer in data["layers"]], data["overlap"]["layers"], strict=True))
    assert [name for name, entry in entries.items() if entry] == [name for name in entries if "middle_block" in name]
    with pytest.raises(CadError, match="shares no layer"):
        shown_data(a, (random_attribution(["other"]),), 0.05)


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1200, "height": 1400}, reduced_motion="reduce")
    opened = context.new_page()
    opened.troubles = []  # type: ignore[attr-defined]
    opened.on("console", lambda message: opened.troubles.append(message.text) if message.type in ("error", "warning") else None)  # type: ignore[attr-defined]
    opened.on("pageerror", lambda error: opened.troubles.append(str(error)))  # type: ignore[attr-defined]
    opened.on("request", lambda request: opened.troubles.append(request.url) if not request.url.startswith("file:") else None)  # type: ignore[attr-defined]
    yield opened
    context.close()


def open_page(page: Page, tmp_path: Path, html: str) -> None:
    (tmp_path / "page.html").write_text(html, encoding="utf-8")
    page.goto((tmp_path / "page.html").as_uri())
    page.wait_for_function("() => document.querySelector('.cad-viewer .cad-layer')")


def of_viewer(page: Page, expression: str) -> Any:
    return json.loads(page.locator(".cad-viewer").evaluate(f"({{viewer}}) => JSON.stringify({expression})"))


@pytest.mark.browser
@pytest.mark.parametrize("keep_ratio", [None, 0.05])
@pytest.mark.parametrize("objective", ["erase", "amplify"])
def test_counts_of_any_rule_ratio_and_choice_are_the_selections(
    page: Page, tmp_path: Path, objective: str, keep_ratio: float | None
) -> None:
    attribution = random_attribution(ff_names(SD15), objective=objective, shape=(24, 600), keep_ratio=keep_ratio)
    open_page(page, tmp_path, page_of(attribution))
    for patterns in ("", "out *", "mid *\nin 4 *\n*out 1?*ff in"):
        names = matching(attribution.layers, parse_patterns(patterns))
        part = Attribution(
            {name: attribution.layers[name] for name in names}, attribution.timesteps, attribution.keep_ratio, attribution.info
        )
        for rule in RULES:
            for ratio in (0.0007, 0.002, 0.0215, 0.05):
                page.locator(".cad-viewer").evaluate(
                    "(root, set) => root.viewer.set(set)", {"ratio": ratio, "rule": rule, "layers": patterns}
                )
                shown = of_viewer(page, "viewer.shown")
                assert [name for name, is_in in zip(u_order(attribution.layers), shown["chosen"], strict=True) if is_in] == u_order(names)
                assert shown["taken"]["problem"] is None
                assert shown["taken"]["count"] == taken_counts(part, rule, [ratio])[0], (rule, ratio)
    page.locator(".cad-viewer").evaluate("(root) => root.viewer.set({ratio: 0.2, rule: 'row', layers: ''})")
    assert ("keeps its scores up to the ratio 0.05" in str(of_viewer(page, "viewer.shown.taken.problem"))) == (keep_ratio is not None)
    assert page.troubles == []  # type: ignore[attr-defined]


@pytest.mark.browser
def test_every_choice_that_is_clicked_becomes_patterns_that_mean_it(page: Page, tmp_path: Path) -> None:
    names = [*ff_names(SD15), "odd [name]*.weight", "x" * 500, "\u202eturned\x00"]
    attribution = random_attribution(names)
    open_page(page, tmp_path, page_of(attribution))
    ordered = u_order(names)
    for wanted in (range(5), range(8, 20), [0, 7, 31], range(len(names) - 3, len(names)), [len(names) - 1, 3], range(len(names))):
        page.locator(".cad-viewer").evaluate("root => { root.viewer.set({layers: ''}); return new Promise(requestAnimationFrame); }")
        out = [number for number in range(len(names)) if number not in wanted]
        page.locator(".cad-viewer").evaluate(
            """(root, out) => {
                for (const number of out) {
                    const cell = root.querySelector(`.cad-layer[data-index="${number}"]`);
                    cell.dispatchEvent(new KeyboardEvent("keydown", {key: "Enter", bubbles: true}));
                }
            }""",
            out,
        )
        text = of_viewer(page, "viewer.inputs.layers")
        assert sorted(matching(names, parse_patterns(text))) == sorted(ordered[number] for number in wanted)
    assert text == ""
    page.get_by_role("button", name="Decoder").click()
    assert of_viewer(page, "viewer.inputs.layers") == "out *"


@pytest.mark.browser
def test_the_last_layer_cannot_be_left_out(page: Page, tmp_path: Path) -> None:
    open_page(page, tmp_path, page_of(random_attribution(ff_names(SD15)[:1])))
    page.locator(".cad-layer").click()
    assert of_viewer(page, "viewer.shown.chosen") == [True]
    page.get_by_text("One layer at least must stay in.").wait_for()


@pytest.mark.browser
def test_all_panels_of_all_kinds(page: Page, tmp_path: Path) -> None:
    names = ff_names(SDXL)
    for score in ("attribution", "attribution per harm", "effect"):
        attribution = random_attribution(names, keep_ratio=None, steps=50)
        attribution.info |= {"score": score, "family": "sdxl"}
        open_page(page, tmp_path, page_of(attribution, ratio=None))
        page.wait_for_timeout(200)
        assert page.locator(".cad-layer").count() == 140
        assert page.locator("section:visible h3").all_inner_texts() == ["When", "How much", "What else", "Rows"]
        said = page.locator(".cad-said").inner_text()
        assert {"attribution": "of the total positive mass", "attribution per harm": "", "effect": "of all that the changes move"}[
            score
        ] in said
        assert ("mass" in said) == (score == "attribution")
        assert ("changed in rounds" in said) == (score == "effect")
        labels = page.locator(".cad-layer").evaluate_all("cells => cells.map(cell => cell.getAttribute('aria-label').split(':')[0])")
        assert labels == [layer_label(name) for name in u_order(names)]
        assert page.locator(".cad-layer[tabindex='0']").count() == 1
    assert page.troubles == []  # type: ignore[attr-defined]


@pytest.mark.browser
def test_hostile_texts_stay_texts(page: Page, tmp_path: Path) -> None:
    attribution = random_attribution([HOSTILE, "y" * 10_000, *ff_names(SD15)], concept=HOSTILE)
    attribution.info |= {"base": HOSTILE, "family": HOSTILE}
    other = random_attribution([HOSTILE, *ff_names(SD15)], concept=HOSTILE)
    open_page(page, tmp_path, page_of(attribution, (other,)))
    for number in range(page.locator(".cad-layer").count() - 2, page.locator(".cad-layer").count()):
        page.locator(f".cad-layer[data-index='{number}']").hover()
    assert page.evaluate("() => window.hacked") is None
    assert HOSTILE in page.locator(".cad-title").inner_text()
    assert page.locator(".cad-viewer :is(img, script)").count() == 0
    assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    assert page.troubles == []  # type: ignore[attr-defined]


@pytest.mark.browser
def test_colours_are_told_apart_without_red_and_green(page: Page, tmp_path: Path) -> None:
    """Both ends of the scale, as people without one kind of cone see them (Viénot, Brettel and Mollon, 1999), stay far apart."""
    open_page(page, tmp_path, page_of(random_attribution(ff_names(SD15))))
    ends = page.locator(".cad-gradient").evaluate("bar => bar.style.background.match(/rgb\\([^)]*\\)/g)")
    colours = [[int(part) / 255 for part in re.findall(r"\d+", end)] for end in (ends[0], ends[-1])]
    linear = [[part**2.2 for part in colour] for colour in colours]
    blind = {
        "deuteranope": ((0.29275, 0.70725, 0.0), (0.29275, 0.70725, 0.0), (-0.02234, 0.02234, 1.0)),
        "protanope": ((0.11238, 0.88762, 0.0), (0.11238, 0.88762, 0.0), (0.00401, -0.00401, 1.0)),
    }
    for kind, matrix in blind.items():
        seen = [[max(0.0, sum(m * c for m, c in zip(row, colour, strict=True))) ** (1 / 2.2) for row in matrix] for colour in linear]
        assert max(abs(a - b) for a, b in zip(*seen, strict=True)) > 0.3, kind
