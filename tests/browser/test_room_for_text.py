"""A new CAD Attribute on the canvas has room for a few lines in each of its text boxes, and for what it writes on itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.nodes.server import Server

from .page import FrontEnd, front_end

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.comfyui, pytest.mark.browser]

WRITTEN = (
    "598,016 weights in 22 layers scored\n3,712 weights changed in 2 rounds: objective 4.00 -> 0.92 (1.00 is as good as the base prompt), "
    "kept predictions changed by 2.1 %\nalso kept: purple, black, violet, dark, plain, golden"
)
"""What it writes, of usual length."""


@pytest.fixture(scope="module")
def page(browser: Browser, server: Server) -> Iterator[FrontEnd]:
    with front_end(browser, server.url, size=(1400, 1200)) as opened:
        yield opened


def test_a_new_node_shows_a_few_lines_and_all_that_it_writes(page: FrontEnd, screenshots: Path) -> None:
    page.page.evaluate(
        """() => {
            app.graph.clear();
            window.node = LiteGraph.createNode("CADAttribute");
            node.pos = [100, 100];
            app.graph.add(node);
            for (const widget of node.widgets)
                if (["keep", "contexts"].includes(widget.name)) widget.value = "one\\ntwo\\nthree\\nfour\\nfive";
            app.canvas.ds.scale = 1;
            app.canvas.ds.offset[0] = app.canvas.ds.offset[1] = 0;
            app.canvas.setDirty(true, true);
        }"""
    )
    page.page.evaluate("text => app.api.dispatchCustomEvent('progress_text', {nodeId: String(node.id), text})", WRITTEN)
    written = page.page.get_by_text("also kept: purple").last
    written.wait_for()
    page.page.wait_for_timeout(1000)  # widgets that are HTML follow the canvas a little later
    page.page.screenshot(path=screenshots / "new_attribute_node.png")
    hidden = page.page.evaluate(
        """() => node.widgets.filter(widget => ["keep", "contexts"].includes(widget.name))
            .map(widget => widget.element.scrollHeight - widget.element.clientHeight)"""
    )
    assert len(hidden) == 2
    assert max(hidden) <= 0
    # Its last line can be clicked, so nothing cuts it off.
    assert written.evaluate(
        """element => {
            const {left, bottom} = element.getBoundingClientRect(), there = document.elementFromPoint(left + 5, bottom - 4);
            return element.contains(there);
        }"""
    )


def test_a_saved_size_stays(page: FrontEnd) -> None:
    page.page.evaluate("() => { app.graph.clear(); app.graph.add(LiteGraph.createNode('CADAttribute')); }")
    workflow, _ = page.saved()
    workflow["nodes"][0]["size"] = [350, 700]
    page.load(workflow)
    assert page.page.evaluate("() => [...app.graph.nodes[0].size]") == [350, 700]
