"""How quickly the Attribution Viewer draws, and how smoothly it follows: `python -m benchmarks.viewer --json FILE`.

An attribution of SDXL's 140 feed-forward layers with 50 timesteps, of random scores, is shown by the viewer in a Chromium, 600 pixels wide
as in its node and 1400 pixels wide with all panels as in reports. What is measured comes from the browser's own performance trace: for the
first drawing the time from the JSON text to the end of the first painting; for each interaction, 100 steps of it, one a frame, the work of
the main thread in each frame (scripts, layout and painting together; a screen of 60 Hz gives it 16.7 ms). Both are told in wall-clock time
and in the thread's own processor time, which other work of the machine does not lengthen.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cad_engine.attribution import Attribution, reduce_scores
from cad_engine.report.interactive import json_for_html, shown_data, viewer_script, viewer_style

BLOCKS = {
    **{f"input_blocks.{n}.1": 2 for n in (4, 5)},
    **{f"input_blocks.{n}.1": 10 for n in (7, 8)},
    "middle_block.1": 10,
    **{f"output_blocks.{n}.1": 10 for n in range(3)},
    **{f"output_blocks.{n}.1": 2 for n in range(3, 6)},
}
"""Transformer blocks of Stable Diffusion XL."""
STEPS, SHAPE = 50, (160, 640)
REPEATS, FRAMES = 10, 100
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking")
CATEGORIES = ["devtools.timeline", "blink.user_timing", "disabled-by-default-devtools.timeline"]

INTERACTIONS = {
    "ratio": """(root, n) => {
        const slider = root.querySelector("input[type=range]");
        slider.value = 400 + 5 * (n % 100);
        slider.dispatchEvent(new Event("input"));
    }""",
    "timesteps": """(root, n) => root.dispatchBrush(n)""",
    "layers": """(root, n) => root.dispatchPaint(n)""",
    "pointer over the map": """(root, n) => {
        root.querySelector(`.cad-layer[data-index="${n % 140}"] rect`).dispatchEvent(new PointerEvent("pointerover", {bubbles: true}));
    }""",
    "measure and sign": """(root, n) => root.querySelectorAll(".cad-toolbar button")[2 + (n % 6)].click()""",
    "rows of the next layer": """(root, n) => root.querySelector("[aria-label='Next layer']").click()""",
}

PAGE = """<!doctype html><meta charset="utf-8">
<style>:root {{ --card: #fff; --ink: #1c2230; --soft: #5b6474; --line: #dfe3ea; --track: #eceff4; --accent: #b45309 }} {style}</style>
<body><div id="place"></div><script type="application/json" id="data">{data}</script><script>{script}</script>
<script>
const place = document.getElementById("place");
const frame = () => new Promise(requestAnimationFrame);
let shown = null;
async function first(layout, width) {{
    shown?.destroy();
    place.replaceChildren();
    const root = document.createElement("div");
    root.style.width = `${{width}}px`;
    place.append(root);
    await frame(); await frame();
    const text = document.getElementById("data").textContent;
    performance.mark("begin");
    const viewer = createViewer(root, {{ layout }});
    const {{ inputs, ...data }} = JSON.parse(text);
    viewer.set(inputs);
    viewer.show(data);
    performance.mark("drawn");
    await frame(); await frame();
    shown = viewer;
    const pointer = (target, type, x, y) =>
        target.dispatchEvent(new PointerEvent(type, {{ clientX: x, clientY: y, bubbles: true, pointerId: 1, button: 0 }}));
    root.dispatchBrush = (n) => {{
        const area = root.querySelector(".cad-heat-area");
        area.setPointerCapture = () => {{}};
        const {{ left, top, width }} = area.getBoundingClientRect();
        if (!n) pointer(area, "pointerdown", left + 70, top + 90);
        pointer(area, "pointermove", left + 70 + ((width - 90) * (n % 100)) / 100, top + 90);
        if (n === {frames} - 1) pointer(area, "pointerup", left + 70, top + 90);
    }};
    root.dispatchPaint = (n) => {{
        const cells = root.querySelectorAll(".cad-layer");
        const box = cells[n % 140].getBoundingClientRect();
        const svg = root.querySelector(".cad-map");
        svg.setPointerCapture = () => {{}};
        const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
        if (!n) pointer(cells[0].firstChild, "pointerdown", x, y);
        pointer(svg, "pointermove", x, y);
        if (n === {frames} - 1) pointer(svg, "pointercancel", x, y);
    }};
    root.tab = async (name) => {{ viewer.setView({{ tab: name }}); await frame(); await frame(); }};
}}
async function many(step) {{
    const root = place.firstChild;
    performance.mark("begin");
    for (let n = 0; n < {frames}; n++) {{ step(root, n); await frame(); }}
    await frame();
    performance.mark("end");
}}
</script>"""


def large_attribution() -> Attribution:
    """Random scores under SDXL's names; the matrices are small, because the size of the data depends on the number of layers."""
    names = [
        f"diffusion_model.{block}.transformer_blocks.{number}.{part}.weight"
        for block, count in BLOCKS.items()
        for number in range(count)
        for part in ("ff.net.0.proj", "ff.net.2")
    ]
    generator = torch.Generator().manual_seed(0)
    scores = {name: torch.randn(SHAPE, generator=generator) ** 3 * 1e-6 for name in names}
    mass = {name: torch.randn(STEPS, 2, generator=generator).abs() * torch.tensor([1e-3, -1e-3]) for name in names}
    info = {"objective": "erase", "concept": "a concept", "base": "a base", "family": "sdxl"}
    return reduce_scores(scores, mass, list(range(999, 0, -20))[:STEPS], info, keep_ratio=0.01)


def main_thread(trace: bytes) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Tasks of the page's main thread, and when each mark was made, in microseconds."""
    events = json.loads(trace)["traceEvents"]
    marks = {event["name"]: event for event in events if event.get("cat", "").startswith("blink.user_timing")}
    thread = (marks["begin"]["pid"], marks["begin"]["tid"])
    mine = [event for event in events if (event.get("pid"), event.get("tid")) == thread and event.get("ph") == "X"]
    return mine, {name: event["ts"] for name, event in marks.items()}


def frames_of(events: list[dict[str, Any]], begin: float, end: float, clock: str) -> list[float]:
    """Milliseconds of each task with an animation frame in it, by "dur", the wall clock, or "tdur", the thread's own."""
    tasks = [event for event in events if event["name"] == "RunTask"]
    fired = [event["ts"] for event in events if event["name"] == "FireAnimationFrame" and begin <= event["ts"] <= end]
    work = {}
    for at in fired:
        around = [task for task in tasks if task["ts"] <= at <= task["ts"] + task["dur"]]
        if around:
            task = max(around, key=lambda each: float(each["dur"]))
            work[task["ts"]] = task.get(clock, 0) / 1000
    return list(work.values())


def first_paint(events: list[dict[str, Any]], marks: dict[str, float]) -> tuple[float, float]:
    """Milliseconds from the mark "begin" to the end of the first painting after "drawn": of the wall clock, and of the thread's own."""
    painted = [
        event["ts"] + event.get("dur", 0) for event in events if event["name"] in ("Paint", "PrePaint") and event["ts"] > marks["drawn"]
    ]
    first = min(painted)
    following = [end for end in painted if end < first + 20_000]
    end = max(following)
    tasks = [event for event in events if event["name"] == "RunTask" and marks["begin"] < event["ts"] + event["dur"] and event["ts"] < end]
    # Of the task that it begins in, the part from then on.
    own = sum(task.get("tdur", 0) * min(1.0, (task["ts"] + task["dur"] - marks["begin"]) / max(1, task["dur"])) for task in tasks)
    return (end - marks["begin"]) / 1000, own / 1000


def summary(values: list[float]) -> dict[str, float]:
    return {
        "median": round(float(np.median(values)), 2),
        "p95": round(float(np.percentile(values, 95)), 2),
        "max": round(max(values), 2),
        "count": len(values),
    }


def measure(html: str) -> dict[str, Any]:
    """Everything, by layout."""
    from playwright.sync_api import sync_playwright

    results: dict[str, Any] = {}
    found = next(path for name in (os.environ.get("CHROMIUM_PATH"), "chromium", "google-chrome") if name and (path := shutil.which(name)))
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        place = Path(folder) / "page.html"
        place.write_text(html, encoding="utf-8")
        browser = started.chromium.launch(executable_path=found, args=FLAGS)
        results["browser"] = browser.version
        for layout, width in (("tabs", 600), ("page", 1400)):
            page = browser.new_page(viewport={"width": 1500, "height": 2200})
            page.goto(place.as_uri())

            def traced(script: str, argument: Any = None, page: Any = page) -> tuple[list[dict[str, Any]], dict[str, float]]:
                browser.start_tracing(page=page, categories=CATEGORIES)
                page.evaluate(script, argument)
                return main_thread(browser.stop_tracing())

            drawn = []
            for _ in range(REPEATS):
                drawn.append(first_paint(*traced("([layout, width]) => first(layout, width)", [layout, width])))
            entry: dict[str, Any] = {
                "first drawing": {
                    clock: {**summary(values), "very first": round(values[0], 2)}
                    for clock, values in zip(("wall", "processor"), map(list, zip(*drawn, strict=True)), strict=True)
                }
            }
            for name, step in INTERACTIONS.items():
                tab = {"ratio": "much", "timesteps": "when", "rows of the next layer": "rows"}.get(name)
                if tab:
                    page.evaluate("tab => place.firstChild.tab(tab)", tab)
                events, marks = traced(f"() => many({step})")
                entry[name] = {
                    "processor": summary(frames_of(events, marks["begin"], marks["end"], "tdur")),
                    "wall": summary(frames_of(events, marks["begin"], marks["end"], "dur")),
                }
            results[f"{layout}, {width} pixels"] = entry
            page.close()
        browser.close()
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", type=Path, help="write the figures here")
    arguments = parser.parse_args()
    data = json_for_html(shown_data(large_attribution(), ratio=0.001))
    html = PAGE.format(style=viewer_style(), data=data, script=viewer_script(), frames=FRAMES)
    results = {
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, no GPU used",
        "unit": "milliseconds",
        "data_kB": round(len(data) / 1000),
        **measure(html),
    }
    text = json.dumps(results, indent=2)
    if arguments.json:
        arguments.json.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
