"""ComfyUI's own front end in a real Chromium: open it on a running server, load a workflow, look at it, run it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import requests

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
LIMIT = 300_000  # milliseconds; a busy machine takes minutes to start the front end
OF_OTHER_HOSTS = "Error fetching file size"
"""How 1.27 complains that it cannot ask another host for the size of a model that is missing."""
SETTINGS = {
    "Comfy.TutorialCompleted": True,  # otherwise the template browser covers everything
    "Comfy.Minimap.Visible": False,
    "Comfy.VueNodes.Enabled": False,
}

Workflow = Mapping[str, Any]
"""A graph in the format that the front end saves."""


@dataclass(frozen=True)
class Complaint:
    """A warning, an error or an uncaught exception in the page's console; `source` is the script or the address it is about."""

    text: str
    source: str


@dataclass(frozen=True)
class Ended:
    """How a run ended: "execution_success", "execution_error", "execution_interrupted" or "refused", and what came with it."""

    how: str
    prompt_id: str | None
    details: dict[str, Any]


@contextmanager
def chromium() -> Iterator[Browser]:
    """The Chromium at CHROMIUM_PATH or on the PATH; skips the test without one, or without Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (pip install playwright)")
    names = (os.environ.get("CHROMIUM_PATH"), "chromium", "chromium-browser", "google-chrome", "chrome")
    found = next((path for name in names if name and (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no Chromium; install one, or set CHROMIUM_PATH to its executable")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=found, args=FLAGS)
        try:
            yield browser
        finally:
            browser.close()


class FrontEnd:
    """One tab with the front end in it.

    Attributes:
        page: Playwright's page, for everything that is not here.
        complaints: what the console has complained of since the page was opened, without what has to do with other hosts,
            which the page cannot reach.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page, self._url = page, url
        self.complaints: list[Complaint] = []
        page.on(
            "console",
            lambda message: self._note(message.text, message.location.get("url", "")) if message.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: self._note(str(error), url))

    def _note(self, text: str, source: str) -> None:
        about_others = source.startswith("http") and not source.startswith(self._url)
        if not about_others and not text.startswith(OF_OTHER_HOSTS):
            self.complaints.append(Complaint(text, source))

    def start(self) -> None:
        """Open the front end and wait until it can be used."""
        self.page.goto(self._url, timeout=LIMIT)
        self.page.wait_for_function("() => window.app?.vueAppReady && window.app.graph && window.LiteGraph", timeout=LIMIT)
        # The graph of last time, or the default one, is loaded after everything else.
        self.page.wait_for_function("() => window.app.graph.nodes.length > 0", timeout=LIMIT)

    def load(self, workflow: Workflow, name: str = "workflow") -> None:
        """Load a workflow, as opening its template does."""
        self.page.evaluate("([workflow, name]) => app.loadGraphData(workflow, true, true, name)", [workflow, name])
        self.settle()

    def load_prompt(self, prompt: Mapping[str, Any], name: str = "prompt") -> None:
        """Load a prompt in API format; the front end makes nodes of it and places them."""
        self.page.evaluate("([prompt, name]) => app.loadApiJson(prompt, name)", [prompt, name])
        self.settle()

    def settle(self) -> None:
        """Wait until what was just done is drawn."""
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def saved(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The graph as the front end saves it: as a workflow, and as a prompt in API format with the titles of its nodes."""
        text = self.page.evaluate("async () => JSON.stringify(await app.graphToPrompt())")
        both = json.loads(text)
        return both["workflow"], both["output"]

    def prompt(self) -> dict[str, dict[str, Any]]:
        """The graph as the front end sends it to /prompt: {node id: {class_type, inputs}}, without the titles."""
        return {key: {"class_type": node["class_type"], "inputs": node["inputs"]} for key, node in self.saved()[1].items()}

    def unknown_nodes(self) -> list[str]:
        """Types of nodes in the graph that no installed pack has."""
        return self.page.evaluate(  # type: ignore[no-any-return]
            "() => app.graph.nodes.map(node => node.type).filter(type => !(type in LiteGraph.registered_node_types))"
        )

    def missing_choices(self) -> list[tuple[str, str, str]]:
        """(node type, widget, value) of every drop-down whose value is not among what it offers, such as a file that is not there."""
        rows = self.page.evaluate(
            """() => app.graph.nodes.flatMap(node => (node.widgets ?? [])
                .filter(widget => Array.isArray(widget.options?.values) && !widget.options.values.includes(widget.value))
                .map(widget => [node.type, widget.name, widget.value]))"""
        )
        return [tuple(row) for row in rows]

    def notices(self) -> list[str]:
        """The texts of dialogs and messages that lie over the graph; what is wrong with a workflow is told a little after it is loaded."""
        kinds = (".p-dialog", ".p-toast-message", "[role=alert]", "[role=dialog]", "[data-testid=error-overlay]")
        texts = self.page.locator(", ".join(f"{kind}:visible" for kind in kinds))
        return [text.strip() for text in texts.all_inner_texts() if text.strip()]

    def dismiss(self) -> None:
        """Close the dialogs that are open."""
        dialogs = self.page.locator(".p-dialog:visible")
        while dialogs.count():
            self.page.keyboard.press("Escape")
            dialogs.last.wait_for(state="hidden")

    def fit(self, margin: int = 80) -> None:
        """Zoom so that the whole graph can be seen beside the bars of the front end."""
        self._fit(margin)

    def picture(self, groups: Sequence[str], margin: int = 80) -> bytes:
        """The part of the graph with these groups and nothing else, as a PNG."""
        return self.page.screenshot(clip=self._fit(margin, groups))

    def _fit(self, margin: int, groups: Sequence[str] | None = None) -> Any:
        """Zoom to all of the graph or to some groups; where that is then, as Playwright's clip."""
        box = self.page.evaluate(
            """([margin, groups]) => {
                const canvas = app.canvas, {x, y, width, height} = canvas.canvas.getBoundingClientRect();
                const all = [...app.graph.nodes, ...app.graph.groups];
                const items = groups ? app.graph.groups.filter(group => groups.includes(group.title)) : all;
                const boxes = items.map(item => item.boundingRect ?? item.getBounding());
                const left = Math.min(...boxes.map(box => box[0])), top = Math.min(...boxes.map(box => box[1]));
                const right = Math.max(...boxes.map(box => box[0] + box[2])), bottom = Math.max(...boxes.map(box => box[1] + box[3]));
                const scale = Math.min((width - 2 * margin) / (right - left), (height - 2 * margin) / (bottom - top));
                canvas.ds.scale = scale;
                canvas.ds.offset[0] = (width / scale - left - right) / 2;
                canvas.ds.offset[1] = (height / scale - top - bottom) / 2;
                canvas.setDirty(true, true);
                const [clipWidth, clipHeight] = [(right - left) * scale, (bottom - top) * scale];
                return {x: x + (width - clipWidth) / 2, y: y + (height - clipHeight) / 2, width: clipWidth, height: clipHeight};
            }""",
            [margin, None if groups is None else list(groups)],
        )
        self.settle()
        self.page.wait_for_timeout(1000)  # widgets that are HTML follow the canvas a little later
        return box

    def run(self, limit: int = LIMIT) -> Ended:
        """Press Run and wait for the end, at most `limit` milliseconds."""
        self.page.evaluate(
            """async () => {
                window.ended = null;
                for (const type of ["execution_success", "execution_error", "execution_interrupted"])
                    app.api.addEventListener(type, ({detail}) => { window.ended ??= {type, ...detail}; }, {once: true});
                await app.queuePrompt(0, 1);
                if (Object.keys(app.lastNodeErrors ?? {}).length) window.ended = {type: "refused", errors: app.lastNodeErrors};
            }"""
        )
        self.page.wait_for_function("() => window.ended", timeout=limit)
        ended = json.loads(self.page.evaluate("() => JSON.stringify(window.ended)"))
        return Ended(ended.pop("type"), ended.get("prompt_id"), ended)


def write_settings(url: str, settings: Mapping[str, Any]) -> None:
    """Change settings of the front end for pages that are opened afterwards."""
    requests.post(f"{url}/settings", json=dict(settings), timeout=60).raise_for_status()


@contextmanager
def front_end(
    browser: Browser, url: str, settings: Mapping[str, Any] | None = None, size: Sequence[int] = (1920, 1080)
) -> Iterator[FrontEnd]:
    """The front end of the server at `url` in a browser profile of its own, with `settings` besides SETTINGS; `size` in pixels."""
    write_settings(url, {**SETTINGS, **(settings or {})})
    context = browser.new_context(viewport={"width": size[0], "height": size[1]})
    context.route(lambda address: not address.startswith(url), lambda route: route.abort())
    try:
        opened = FrontEnd(context.new_page(), url)
        opened.start()
        yield opened
    finally:
        context.close()
