"""The Attribution Viewer in the real front end, on the canvas and in Nodes 2.0, with the front end that ComfyUI has and the newest one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
import torch

from cad_engine.attribution import Attribution
from cad_engine.attribution_file import load_attribution, save_attribution
from cad_engine.edit_file import load_edit
from cad_engine.layer_choice import choose, matching, parse_patterns
from cad_engine.reduction import LayerScores
from cad_engine.report.counts import taken_counts
from cad_engine.report.overlap_data import overlap_data
from cad_engine.report.unet_map import layer_label, u_order
from cad_engine.selection import RULES, select
from tests.comfyui import comfyui
from tests.nodes.graph import Graph
from tests.nodes.sandbox_graphs import QUICK, attribute, sandbox
from tests.nodes.server import Server
from tests.report.attributions import random_attribution

from .page import FrontEnd, front_end

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

pytestmark = [pytest.mark.comfyui, pytest.mark.browser]

SIZE = (1500, 1250)
RATIO = 0.02
HOSTILE = "<img src=x onerror=window.hacked=1></script><script>window.hacked=1</script>"


def newest_front_end() -> Path:
    """CAD_NEWEST_FRONTEND or ~/comfy/frontend-newest: where PyPI's newest comfyui-frontend-package was installed with --target."""
    named = Path(os.environ.get("CAD_NEWEST_FRONTEND", Path.home() / "comfy/frontend-newest"))
    for place in (named, named / "static", named / "comfyui_frontend_package/static"):
        if (place / "index.html").exists():
            return place
    pytest.skip(
        f"no newer front end at {named}: pip install --no-deps --target {named} comfyui-frontend-package, or set CAD_NEWEST_FRONTEND"
    )


def is_old(server: Server) -> bool:
    version = server.get("/system_stats")["system"]["comfyui_version"]
    return [int(part) for part in version.split(".")] <= [0, 3, 64]


def prepare(server: Server) -> Server:
    """A real attribution of the star and one of the heart, made by the pack itself, and hostile ones."""
    graph = Graph()
    model, clip, _ = sandbox(graph)
    for concept in ("star", "heart"):
        found = attribute(graph, model, clip, f"a {concept}", **QUICK)
        graph.add("CADSaveAttribution", attribution=found, name=f"map-{concept}", overwrite=True)
    server.run(graph.prompt).check()
    hostile = random_attribution([HOSTILE, "y" * 10_000, *file(server, "star").layers], concept=HOSTILE)
    save_attribution(server.models / "cad_attributions" / "map-hostile.safetensors", hostile)
    server.forget()
    return server


def file(server: Server, concept: str) -> Attribution:
    return load_attribution(server.models / "cad_attributions" / f"map-{concept}.safetensors")


@pytest.fixture(scope="module")
def pinned(server: Server) -> Server:
    return prepare(server)


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = Server(*comfyui(), tmp_path_factory.mktemp("newest"), ["--front-end-root", str(newest_front_end())])
    running.start()
    try:
        if is_old(running):
            pytest.skip("the newest front end is for newer versions of ComfyUI")
        yield prepare(running)
    finally:
        running.stop()


class Viewed:
    """A page with a viewer in it, and the server that it is of."""

    def __init__(self, front: FrontEnd, server: Server, kind: str) -> None:
        self.front, self.server, self.kind = front, server, kind
        self.page = front.page

    def load(self, concept: str = "star", compare: str | None = None, **inputs: Any) -> None:
        """A graph with the viewer of an attribution, and CAD Erase behind it."""
        graph = Graph()
        loaded = graph.add("CADLoadAttribution", name=f"map-{concept}.safetensors")
        others = {} if compare is None else {"compare": graph.add("CADLoadAttribution", name=f"map-{compare}.safetensors")}
        values = {"ratio": RATIO, "selection": "global", "layers": "", **inputs}
        view = graph.add("CADAttributionViewer", attribution=loaded, **values, **others)
        if concept == "star":
            model = graph.add("CADLoadSandbox")
            erased = graph.add("CADErase", model=model, attribution=view[1], ratio=RATIO, selection="global", strength=1.0, unit="weight")
            graph.add("CADSaveEdit", edit=erased[1], name="map", overwrite=True)
        self.front.load_prompt(graph.prompt, f"{concept} {len(graph.prompt)}")
        self.page.evaluate(
            """() => {
                const others = app.graph.nodes.filter(node => node.type !== "CADAttributionViewer");
                others.forEach((node, number) => { node.pos = [720, 60 + 190 * number]; });
                app.graph.nodes.find(node => node.type === "CADAttributionViewer").pos = [60, 60];
                app.canvas.ds.scale = 1;
                app.canvas.ds.offset[0] = 20;
                app.canvas.ds.offset[1] = 40;
                app.canvas.setDirty(true, true);
            }"""
        )
        self.front.settle()

    def run(self) -> None:
        ended = self.front.run()
        assert ended.how == "execution_success", ended
        self.wait()

    def wait(self) -> None:
        """Until the map is drawn."""
        self.page.wait_for_function("() => document.querySelectorAll('.cad-viewer .cad-layer').length > 0")
        self.front.settle()

    @property
    def root(self) -> Locator:
        return self.page.locator(".cad-viewer").first

    def of_viewer(self, expression: str) -> Any:
        """A JavaScript expression of `viewer`."""
        return json.loads(self.root.evaluate(f"root => {{ const viewer = root.viewer; return JSON.stringify({expression}); }}"))

    def input(self, name: str) -> Any:
        """The value of one of the node's own inputs."""
        return self.page.evaluate(
            "name => app.graph.nodes.find(node => node.type === 'CADAttributionViewer').widgets.find(each => each.name === name).value",
            name,
        )

    def tab(self, name: str) -> None:
        self.root.get_by_role("radio", name=name, exact=True).click()
        self.front.settle()

    def cell(self, label: str) -> Locator:
        number = self.of_viewer("viewer.shown.labels").index(label)
        return self.root.locator(f".cad-layer[data-index='{number}']")

    def chosen(self) -> list[str]:
        shown = self.of_viewer("({labels: viewer.shown.labels, chosen: viewer.shown.chosen})")
        return [label for label, is_in in zip(shown["labels"], shown["chosen"], strict=True) if is_in]

    def picture(self, folder: Path, name: str) -> None:
        self.front.settle()
        self.page.wait_for_timeout(300)
        self.page.screenshot(path=folder / f"viewer_{name}_{self.kind.replace(' ', '_').replace('.', '')}.png")


KINDS = ("canvas", "nodes 2.0", "newest canvas", "newest nodes 2.0")


@pytest.fixture(scope="module", params=KINDS)
def viewed(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Viewed]:
    server: Server = request.getfixturevalue("newest" if request.param.startswith("newest") else "pinned")
    nodes_2 = request.param.endswith("nodes 2.0")
    if nodes_2 and is_old(server):
        pytest.skip("this front end has no Nodes 2.0")
    with front_end(browser, server.url, {"Comfy.VueNodes.Enabled": nodes_2}, SIZE) as opened:
        yield Viewed(opened, server, request.param)


def test_before_a_run_it_says_what_to_do(viewed: Viewed) -> None:
    viewed.load("heart")
    assert "Run the graph" in viewed.root.inner_text()
    assert viewed.root.locator(".cad-layer").count() == 0


def test_the_map_shows_the_numbers_of_the_file(viewed: Viewed, screenshots: Path) -> None:
    viewed.load()
    viewed.front.complaints.clear()
    viewed.run()
    attribution = file(viewed.server, "star")
    names = u_order(attribution.layers)
    shown = viewed.of_viewer("viewer.shown")
    assert shown["labels"] == [layer_label(name) for name in names]
    for name, values in zip(names, shown["values"], strict=True):
        assert values == pytest.approx(attribution.layers[name].mass, rel=1e-4)
    assert viewed.root.locator(".cad-layer").count() == len(names)
    strongest = max(names, key=lambda name: attribution.layers[name].mass[0])
    label = viewed.cell(layer_label(strongest)).get_attribute("aria-label")
    assert label is not None
    assert layer_label(strongest) in label
    assert f"{attribution.layers[strongest].out_features * attribution.layers[strongest].in_features:,} weights" in label
    fills = viewed.root.locator(".cad-layer").evaluate_all("cells => cells.map(cell => cell.children[2].getAttribute('fill'))")
    assert len(set(fills)) > len(names) // 2
    assert fills[names.index(strongest)] == max(fills, key=lambda fill: sum(map(abs, distance(fill, fills))))
    viewed.picture(screenshots, "map")
    assert [complaint for complaint in viewed.front.complaints if "extensions/ComfyUI-CAD" in complaint.source + complaint.text] == []


def distance(fill: str, others: list[str]) -> list[float]:
    """How far a colour is from the mean of others, by channel."""
    colours = [[float(part) for part in each[4:-1].split()] for each in others]
    own = [float(part) for part in fill[4:-1].split()]
    return [own[channel] - sum(colour[channel] for colour in colours) / len(colours) for channel in range(3)]


def test_the_ratio_is_followed_without_a_run(viewed: Viewed, screenshots: Path) -> None:
    viewed.load()
    viewed.run()
    viewed.tab("How much")
    attribution = file(viewed.server, "star")
    (sent,) = [node["inputs"] for node in viewed.front.prompt().values() if node["class_type"] == "CADAttributionViewer"]
    assert sent["ratio"] == RATIO
    for rule in RULES:
        viewed.root.get_by_label("Selection", exact=True).select_option(rule)
        for ratio in (0.003, 0.02, 0.0517, 0.4):
            number = viewed.root.get_by_label("Ratio as a number")
            number.fill(str(ratio))
            number.press("Tab")
            viewed.front.settle()
            (count,) = taken_counts(attribution, rule, [ratio])
            assert viewed.of_viewer("viewer.shown.taken.count") == count
            assert viewed.root.locator(".cad-said").inner_text().startswith(f"{count:,} weight")
            assert (viewed.input("ratio"), viewed.input("selection")) == (ratio, rule)
            share = sum(
                float(layer.score[layer.index.unsqueeze(1).eq(index).any(dim=1)].sum())
                if len(index) < 50
                else float(scores_at(layer, index))
                for name, index in select(attribution, ratio, rule).items()
                for layer in [attribution.layers[name]]
            ) / sum(layer.mass[0] for layer in attribution.layers.values())
            assert viewed.of_viewer("viewer.shown.taken.share") == pytest.approx(share, rel=0.02)
    slider = viewed.root.get_by_label("Ratio", exact=True)
    before = viewed.input("ratio")
    slider.focus()
    for _ in range(5):
        slider.press("ArrowLeft")
    assert 0 < viewed.input("ratio") < before
    viewed.root.get_by_label("Selection", exact=True).select_option("global")
    viewed.front.settle()
    # The line is pulled to the right, which takes less.
    line = viewed.root.locator(".cad-threshold")
    line.scroll_into_view_if_needed()
    box = line.bounding_box()
    assert box is not None
    before, x, y = viewed.input("ratio"), box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    viewed.page.mouse.move(x, y)
    viewed.page.mouse.down()
    viewed.page.mouse.move(x + 20, y, steps=4)
    viewed.page.mouse.move(x + 40, y, steps=4)
    viewed.page.mouse.up()
    viewed.front.settle()
    assert viewed.input("ratio") < before
    moved = line.bounding_box()
    assert moved is not None
    assert moved["x"] + moved["width"] / 2 == pytest.approx(x + 40, abs=4)
    viewed.picture(screenshots, "how_much")


def scores_at(layer: LayerScores, index: torch.Tensor) -> float:
    """The sum of a layer's scores at some positions, which it all keeps."""
    return float(layer.score[torch.searchsorted(layer.index, index)].double().sum())


def test_changing_the_nodes_own_inputs_is_followed(viewed: Viewed) -> None:
    viewed.load()
    viewed.run()
    viewed.tab("How much")
    viewed.page.evaluate(
        """() => {
            const node = app.graph.nodes.find(node => node.type === "CADAttributionViewer");
            const set = (name, value) => {
                const widget = node.widgets.find(each => each.name === name);
                widget.value = value;
                widget.callback?.(value);
            };
            set("ratio", 0.1);
            set("layers", "mid *\\n*output_blocks.2.*net.2*");
        }"""
    )
    viewed.front.settle()
    attribution = choose(file(viewed.server, "star"), ["mid *", "*output_blocks.2.*net.2*"])
    assert sorted(viewed.chosen()) == sorted(map(layer_label, attribution.layers))
    assert viewed.of_viewer("viewer.shown.taken.count") == taken_counts(attribution, "global", [0.1])[0]


def test_brushed_timesteps_are_shown_on_the_map(viewed: Viewed, screenshots: Path) -> None:
    viewed.load()
    viewed.run()
    attribution = file(viewed.server, "star")
    assert len(attribution.timesteps) == QUICK["steps"] == 3
    viewed.tab("When")
    area = viewed.root.locator(".cad-heat-area")
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    assert box is not None
    step = (box["width"] - 56) / 3
    viewed.page.mouse.move(box["x"] + 52 + 1.2 * step, box["y"] + 80)
    viewed.page.mouse.down()
    viewed.page.mouse.move(box["x"] + 52 + 2.1 * step, box["y"] + 90, steps=5)
    viewed.page.mouse.up()
    viewed.front.settle()
    assert viewed.of_viewer("viewer.view.brush") == [1, 2]
    for name, values in zip(u_order(attribution.layers), viewed.of_viewer("viewer.shown.values"), strict=True):
        assert values == pytest.approx(attribution.layers[name].timestep_mass[1:].sum(dim=0).tolist(), rel=1e-2)
    assert f"timesteps {attribution.timesteps[1]} to {attribution.timesteps[2]}" in viewed.root.locator(".cad-legend").inner_text()
    viewed.picture(screenshots, "when")
    # By keyboard to the last one alone, and back to all.
    viewed.root.get_by_role("slider", name="first timestep shown on the map").focus()
    viewed.page.keyboard.press("ArrowRight")
    viewed.front.settle()
    assert viewed.of_viewer("viewer.view.brush") == [2, 2]
    viewed.root.get_by_role("button", name="All timesteps").click()
    viewed.front.settle()
    assert viewed.of_viewer("viewer.view.brush") is None


def test_chosen_layers_alone_are_erased(viewed: Viewed, screenshots: Path) -> None:
    viewed.load()
    viewed.run()
    attribution = file(viewed.server, "star")
    viewed.root.get_by_role("button", name="Middle").click()
    assert viewed.input("layers") == "mid *"
    viewed.cell("out 2 · block 0 · ff out").click()
    viewed.front.settle()
    text = viewed.input("layers")
    names = matching(attribution.layers, parse_patterns(text))
    expected = [name for name in attribution.layers if "middle_block" in name or ("output_blocks.2." in name and "net.2" in name)]
    assert names == expected
    assert viewed.chosen() == [layer_label(name) for name in u_order(names)]
    viewed.picture(screenshots, "chosen")
    viewed.run()
    edit = load_edit(viewed.server.models / "cad_edits" / "map.safetensors")
    assert edit.layers.keys() == select(attribution, RATIO, "global", layers=names).keys()
    assert set(edit.layers) <= set(names)
    assert len(edit) == viewed.of_viewer("viewer.shown.taken.count")

    viewed.root.get_by_role("button", name="Invert").click()
    assert matching(attribution.layers, parse_patterns(viewed.input("layers"))) == [
        name for name in attribution.layers if name not in names
    ]
    viewed.root.get_by_role("button", name="Decoder").click()
    assert viewed.input("layers") == "out *"
    viewed.root.get_by_role("button", name="All", exact=True).click()
    assert viewed.input("layers") == ""


def test_layers_are_brushed_out_and_undone(viewed: Viewed) -> None:
    viewed.load()
    viewed.run()
    everything = viewed.chosen()
    ends = [viewed.cell(label).bounding_box() for label in ("out 1 · block 0 · ff in", "out 1 · block 1 · ff in")]
    assert ends[0] is not None
    assert ends[1] is not None
    viewed.page.mouse.move(ends[0]["x"] + 8, ends[0]["y"] + 6)
    viewed.page.mouse.down()
    viewed.page.mouse.move(ends[1]["x"] + 8, ends[1]["y"] + 6, steps=6)
    viewed.page.mouse.up()
    viewed.front.settle()
    brushed = viewed.chosen()
    assert set(everything) - set(brushed) == {"out 1 · block 0 · ff in", "out 1 · block 1 · ff in"}
    assert viewed.input("layers")
    for key, expected in (("Control+z", everything), ("Control+y", brushed)):
        viewed.page.evaluate("() => document.activeElement?.blur()")
        viewed.page.keyboard.press(key)
        # The front end loads the graph anew, which takes a while.
        viewed.page.wait_for_function(
            """count => {
                const root = document.querySelector(".cad-viewer:has(.cad-layer)");
                return root?.viewer.shown.chosen.filter(Boolean).length === count;
            }""",
            arg=len(expected),
        )
        assert viewed.chosen() == expected, key
        assert bool(viewed.input("layers")) == (expected is brushed)


def test_everything_works_by_keyboard(viewed: Viewed) -> None:
    viewed.load()
    viewed.run()
    first = viewed.root.locator(".cad-layer[tabindex='0']")
    assert first.count() == 1
    first.focus()
    viewed.page.keyboard.press("ArrowDown")
    viewed.front.settle()
    focused = viewed.page.evaluate("() => document.activeElement.getAttribute('aria-label')")
    assert focused.startswith("in 1 · block 0 · ff out: positive (draws it): ")
    assert focused.endswith("chosen")
    viewed.page.keyboard.press("Space")
    viewed.front.settle()
    assert "in 1 · block 0 · ff out" not in viewed.chosen()
    assert viewed.page.evaluate("() => document.activeElement.getAttribute('aria-selected')") == "false"
    viewed.page.keyboard.press("Enter")
    viewed.front.settle()
    assert "in 1 · block 0 · ff out" in viewed.chosen()
    # What is focused is what the rows are of.
    viewed.tab("Rows")
    attribution = file(viewed.server, "star")
    layer = next(layer for name, layer in attribution.layers.items() if layer_label(name) == "in 1 · block 0 · ff out")
    masses = layer.row_mass.abs().sum(dim=1)
    rows = viewed.root.locator(".cad-rows tbody tr")
    assert int(rows.first.locator("th").inner_text()) == int(masses.argmax())
    assert rows.count() == min(len(masses), 2800 // 22)
    viewed.root.get_by_label("Rows or units").select_option("units")
    viewed.front.settle()
    assert layer.column_sum is not None
    assert int(rows.first.locator("th").inner_text()) == int(layer.column_sum.abs().argmax())


def test_the_choice_and_the_map_are_there_after_a_reload(viewed: Viewed) -> None:
    viewed.load()
    viewed.run()
    viewed.root.get_by_role("radio", name="Density").click()
    viewed.root.get_by_role("button", name="Middle").click()
    viewed.front.settle()
    chosen = viewed.chosen()
    viewed.page.wait_for_timeout(2500)  # the front end keeps the graph a little after a change
    viewed.page.reload()
    viewed.page.wait_for_function(
        "() => window.app?.vueAppReady && window.app.graph?.nodes.some(node => node.type === 'CADAttributionViewer')"
    )
    viewed.wait()
    assert viewed.input("layers") == "mid *"
    assert viewed.chosen() == chosen
    assert viewed.of_viewer("viewer.view.measure") == "density"
    viewed.root.get_by_role("radio", name="Sum").click()


def test_another_tab_and_back(viewed: Viewed) -> None:
    viewed.load()
    viewed.run()
    viewed.root.get_by_role("button", name="Decoder").click()
    chosen = viewed.chosen()
    name = viewed.page.evaluate("() => app.extensionManager.workflow.activeWorkflow.path")
    viewed.page.evaluate("() => app.extensionManager.command.execute('Comfy.NewBlankWorkflow')")
    viewed.page.wait_for_function("() => !app.graph.nodes.some(node => node.type === 'CADAttributionViewer')")
    assert viewed.page.locator(".cad-viewer").count() == 0
    viewed.page.evaluate("() => app.extensionManager.command.execute('Workspace.PreviousOpenedWorkflow')")
    viewed.page.wait_for_function("name => app.extensionManager.workflow.activeWorkflow.path === name", arg=name)
    viewed.wait()
    assert viewed.chosen() == chosen


def test_a_viewer_is_let_go_with_its_graph_also_in_a_subgraph(viewed: Viewed) -> None:
    found = """[app.graph, ...app.graph.subgraphs.values()].flatMap(graph => graph.nodes)
        .filter(node => node.type === "CADAttributionViewer")"""
    of_map = "node.widgets.find(widget => widget.name === 'map').element.viewer"

    def watch() -> None:
        viewed.page.evaluate(
            f"""() => {{
                window.gone = 0;
                for (const node of {found}) {{
                    const viewer = {of_map}, {{ destroy }} = viewer;
                    viewer.destroy = () => {{ window.gone += 1; destroy(); }};
                }}
            }}"""
        )

    def gone() -> int:
        return viewed.page.evaluate("() => window.gone")

    viewed.load()
    plain, _ = viewed.front.saved()
    watch()
    viewed.front.load(json.loads(json.dumps(plain)), "plain")
    assert gone() == 1
    viewed.page.evaluate(f"() => {{ app.graph.convertToSubgraph(new Set({found})); }}")
    viewed.front.settle()
    assert viewed.page.evaluate(f"() => {found}.map(node => node.graph === app.graph)") == [False]
    nested, _ = viewed.front.saved()
    watch()
    # What is there stays.
    viewed.page.evaluate(
        f"""() => {{
            const ratio = {found}[0].widgets.find(widget => widget.name === "ratio");
            ratio.value = 0.01;
            ratio.callback(0.01);
        }}"""
    )
    assert viewed.page.evaluate(f"() => {found}.map(node => {of_map}.inputs.ratio)") == [0.01]
    assert gone() == 0
    for workflow in (nested, nested, plain):
        viewed.front.load(json.loads(json.dumps(workflow)), "another")
        assert gone() == 1
        watch()
    assert viewed.page.evaluate(f"() => {found}.map(node => node.graph === app.graph)") == [True]


def test_a_pasted_node_shows_the_same(viewed: Viewed) -> None:
    viewed.load()
    viewed.run()
    viewed.root.get_by_role("button", name="Middle").click()
    viewed.front.settle()
    viewed.page.evaluate(
        """() => {
            const node = app.graph.nodes.find(node => node.type === "CADAttributionViewer");
            app.canvas.selectItems?.([node]) ?? app.canvas.selectNodes([node]);
            app.canvas.copyToClipboard([node]);
            app.canvas.pasteFromClipboard({position: [60, 1200]});
        }"""
    )
    viewed.page.wait_for_function("() => document.querySelectorAll('.cad-viewer').length === 2")
    viewed.page.wait_for_function(
        "() => [...document.querySelectorAll('.cad-viewer')].every(root => root.querySelectorAll('.cad-layer').length)"
    )
    both = viewed.page.locator(".cad-viewer").evaluate_all("roots => roots.map(root => root.viewer.shown.chosen.filter(Boolean).length)")
    assert both == [4, 4]


def test_a_saved_workflow_brings_the_choice(viewed: Viewed) -> None:
    viewed.load(layers="out *")
    viewed.run()
    workflow, _ = viewed.front.saved()
    assert "cad_shown" not in json.dumps(workflow)
    viewed.load("heart")
    viewed.front.load(json.loads(json.dumps(workflow)), "saved")
    viewed.wait()
    assert viewed.input("layers") == "out *"
    assert all(label.startswith("out ") for label in viewed.chosen())


def test_overlap_with_another_concept(viewed: Viewed, screenshots: Path) -> None:
    viewed.load(compare="heart")
    viewed.run()
    viewed.tab("What else")
    expected = overlap_data([file(viewed.server, "star"), file(viewed.server, "heart")], RATIO, "global")
    assert expected is not None
    assert expected["pairs"][0][1]["sentence"] in viewed.root.inner_text()
    assert viewed.root.locator(".cad-matrix").count() == 3
    viewed.root.get_by_role("radio", name="a heart").click()
    viewed.front.settle()
    label = viewed.cell("out 2 · block 0 · ff in").get_attribute("aria-label")
    number = [layer_label(name) for name in u_order(file(viewed.server, "star").layers)].index("out 2 · block 0 · ff in")
    taken, shared, _ = expected["layers"][number][0]
    assert label is not None
    assert f"of {taken:,} taken here, “a heart” takes {shared:,} too" in label
    viewed.picture(screenshots, "what_else")


def test_errors_say_what_to_do(viewed: Viewed) -> None:
    viewed.load(layers="no such layer")
    assert viewed.front.run().how == "execution_error"
    viewed.page.wait_for_function("() => document.querySelector('.cad-viewer').innerText.includes('no such layer')")
    assert "matches none of the" in viewed.root.inner_text()
    viewed.page.keyboard.press("Escape")
    viewed.front.dismiss()
    viewed.load(ratio=1.0)
    viewed.run()
    viewed.page.evaluate(
        """() => {
            const widget = app.graph.nodes.find(node => node.type === "CADAttributionViewer").widgets.find(each => each.name === "layers");
            widget.value = "no such layer";
            widget.callback?.(widget.value);
        }"""
    )
    viewed.front.settle()
    assert "No layer is called “no such layer”" in viewed.root.inner_text()


def test_hostile_texts_are_texts(viewed: Viewed) -> None:
    viewed.load("hostile")
    viewed.run()
    assert HOSTILE in viewed.root.inner_text()
    assert viewed.root.locator("img, script").count() == 0
    for tab in ("Rows", "What else", "How much", "When"):
        viewed.tab(tab)
    cells = viewed.root.locator(".cad-layer")
    for number in (cells.count() - 1, cells.count() - 2):
        cell = viewed.root.locator(f".cad-layer[data-index='{number}']")
        cell.hover()
        viewed.front.settle()
        cell.click()
        viewed.front.settle()
    expected = matching(file(viewed.server, "hostile").layers, parse_patterns(viewed.input("layers")))
    assert len(expected) == cells.count() - 2
    assert HOSTILE not in expected
    assert viewed.page.evaluate("() => window.hacked") is None
    box, node = (
        viewed.root.bounding_box(),
        viewed.page.evaluate("() => app.graph.nodes.find(node => node.type === 'CADAttributionViewer').size[0]"),
    )
    assert box is not None
    assert box["width"] <= node + 1


def test_light_and_dark(viewed: Viewed, screenshots: Path) -> None:
    viewed.load()
    viewed.run()
    grounds = {}
    for palette in ("light", "dark"):
        viewed.page.evaluate("palette => app.extensionManager.setting.set('Comfy.ColorPalette', palette)", palette)
        viewed.page.wait_for_timeout(700)
        grounds[palette] = viewed.root.evaluate("root => getComputedStyle(root).backgroundColor")
        viewed.picture(screenshots, palette)
        fills = viewed.root.locator(".cad-layer").evaluate_all("cells => cells.map(cell => cell.children[2].getAttribute('fill'))")
        brightest = max(sum(map(float, fill[4:-1].split())) for fill in fills)
        faintest = min(sum(map(float, fill[4:-1].split())) for fill in fills)
        # The middle of the scale is the page: what is weak is light on a light one and dark on a dark one.
        assert brightest > 600 if palette == "light" else faintest < 250
    assert grounds["light"] != grounds["dark"]


def test_it_grows_with_the_node(viewed: Viewed) -> None:
    viewed.load()
    viewed.run()
    widths = []
    for width in (600, 900):
        viewed.page.evaluate("width => app.graph.nodes.find(node => node.type === 'CADAttributionViewer').setSize([width, 900])", width)
        viewed.page.evaluate("() => app.canvas.setDirty(true, true)")
        viewed.page.wait_for_timeout(500)
        widths.append(viewed.root.locator(".cad-map").evaluate("map => map.getBoundingClientRect().width"))
    assert widths[1] - widths[0] == pytest.approx(300, abs=20)


def test_nothing_is_fetched_from_elsewhere_and_the_list_of_jobs_is_small(viewed: Viewed) -> None:
    asked: list[str] = []
    viewed.page.on("request", lambda request: asked.append(request.url))
    viewed.load(ratio=0.0123)  # so that the front end does not have the data yet
    viewed.run()
    assert any("/view?" in url for url in asked)
    assert all(url.startswith((viewed.server.url, "data:", "blob:")) for url in asked if "cad" in url.lower())
    runs = requests.get(f"{viewed.server.url}/history", params={"max_items": 1}, timeout=60).json()
    (outputs,) = [run["outputs"] for run in runs.values()]
    assert all(len(json.dumps(output)) < 300 for output in outputs.values())
