"""CAD Audit in a real server: its verdict, its report, and what it leaves alone when it is cut short."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from cad_engine.checkpoints.load import load_model
from cad_engine.edit import Edit, LayerEdit
from cad_engine.edit_file import save_edit
from cad_engine.images import read_pixels
from cad_engine.sandbox.judge import Judge

from .graph import Graph, Node
from .sandbox_graphs import IN_ROUNDS, attribute, erase, sandbox
from .server import Event, Result, Server

pytestmark = pytest.mark.comfyui

SETTINGS: dict[str, Any] = {
    "prompts": "a red star\na blue star",
    "keep": "a red heart",
    "measure": "auto",
    "count": 4,
    "steps": 10,
    "cfg": 3.0,
    "seed": 0,
    "restore": False,
    "concept": "star",
    "paraphrases": "",
    "iterations": 60,
    "sampler_name": "ddim",
    "scheduler": "ddim_uniform",
    "width": 0,
    "height": 0,
    "batch": 20,
    "checkpointing": False,
}
HOSTILE = 'a red star <script>alert(1)</script> "><img src=x onerror=alert(2)> ../../x'


def audit(graph: Graph, edit: Any, **settings: object) -> Node:
    model, clip, vae = sandbox(graph)
    return graph.add("CADAudit", **{"model": model, "clip": clip, "vae": vae, "edit": edit, **SETTINGS, **settings})


def told(graph: Graph, node: Node, output: int) -> Node:
    return graph.add("PreviewAny", source=node[output])


def text(result: Result, node: Node) -> str:
    (said,) = result.outputs[node.id]["text"]
    return str(said)


def no_edit(server: Server) -> str:
    """The name of an edit file that changes no weight: its one factor is 1."""
    name = "diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    weight = load_model("sandbox").layers[name].weight
    edit = Edit(
        {name: LayerEdit(*weight.shape, torch.tensor([0]), torch.ones(1))}, {"objective": "erase", "concept": "a star", "base": "a shape"}
    )
    folder = server.models / "cad_edits"
    folder.mkdir(parents=True, exist_ok=True)
    save_edit(folder / "nothing.safetensors", edit)
    return "nothing.safetensors"


def folder_of(server: Server, result: Result, node: Node) -> Path:
    """Where the node says that it wrote its report."""
    line = next(line for line in result.texts(node.id)[-1].splitlines() if line.endswith("/index.html"))
    return server.output / Path(line).parent.name


def recounted(folder: Path, group: str) -> int:
    """Pictures of a group in which the judge sees a star, read anew from the files."""
    pictures = [torch.from_numpy(read_pixels(path)).permute(2, 0, 1).float() / 255 for path in sorted((folder / group).glob("*.png"))]
    return sum(verdict.shows("star") for verdict in Judge.load().look(torch.stack(pictures)))


def test_an_edit_that_suppresses_and_what_brings_it_back(server: Server) -> None:
    graph = Graph()
    model, clip, _ = sandbox(graph)
    edit = erase(graph, model, attribute(graph, model, clip, **IN_ROUNDS), 0.0, selection="global")
    node = audit(graph, edit[1], restore=True, iterations=60, paraphrases="a five-pointed figure")
    report, sentence = told(graph, node, 1), told(graph, node, 2)
    result = server.run(graph.prompt).check()
    found, folder = json.loads(text(result, report)), folder_of(server, result, node)
    assert found == json.loads((folder / "results.json").read_text(encoding="utf-8"))
    ((name, verdict),) = found["verdicts"].items()
    assert text(result, sentence) == verdict["sentence"]
    counts = {each["in"]: (each["pictures"], each["of"]) for each in found["shown"][name]}
    assert counts["before"] == (recounted(folder, "before"), 8)
    assert counts["after"] == (recounted(folder, "after"), 8)
    assert counts["before"][0] >= 7
    assert counts["after"][0] < counts["before"][0]
    assert verdict["verdict"] in ("suppressed", "partly suppressed")
    for number, attempt in enumerate(found["attempts"], start=1):
        shown = recounted(folder, f"attempt-{number}")
        assert counts[attempt["name"]][0] == shown
    assert verdict["brought_back_by"]  # the search for an embedding has brought it back on every edit that it was tried on
    assert "nothing that was tried" not in verdict["sentence"].casefold()
    assert "removed" not in (folder / "index.html").read_text(encoding="utf-8")
    assert result.progress(node.id)[-1][0] == result.progress(node.id)[-1][1]


def test_an_edit_that_does_nothing(server: Server) -> None:
    graph = Graph()
    edit = graph.add("CADLoadEdit", name=no_edit(server))
    node = audit(graph, edit)
    report = told(graph, node, 1)
    found = json.loads(text(server.run(graph.prompt).check(), report))
    (verdict,) = found["verdicts"].values()
    assert verdict["verdict"] == "not suppressed"
    assert [each["distance"] for each in found["drift"]] == [0]


def test_hostile_prompts_stay_text(server: Server) -> None:
    graph = Graph()
    edit = graph.add("CADLoadEdit", name=no_edit(server))
    node = audit(graph, edit, prompts=HOSTILE, keep=HOSTILE.replace("star", "heart"), measure="none", count=1, steps=2)
    result = server.run(graph.prompt).check()
    folder = folder_of(server, result, node)
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;" in page
    assert "Nothing was counted" in page
    assert json.loads((folder / "results.json").read_text(encoding="utf-8"))["pictures"]["before"][0]["prompt"] == HOSTILE
    assert {path.relative_to(folder).parts[0] for path in folder.rglob("*.png")} == {"before", "after", "kept-before", "kept-after"}


def test_an_interruption_leaves_the_model_and_no_report(server: Server) -> None:
    graph = Graph()
    edit = graph.add("CADLoadEdit", name=no_edit(server))
    node = audit(graph, edit, restore=True, iterations=5000, count=1, steps=4, keep="a red heart")
    before = set(server.output.iterdir())

    def in_the_search(event: Event) -> None:
        if event.type == "progress" and event.data["node"] == node.id and event.data["value"] > 2000:
            server.interrupt()

    assert server.run(graph.prompt, on_event=in_the_search).interrupted
    assert set(server.output.iterdir()) == before
    again = Graph()
    report = told(again, audit(again, again.add("CADLoadEdit", name=no_edit(server))), 1)
    found = json.loads(text(server.run(again.prompt).check(), report))
    assert [each["pictures"] for each in next(iter(found["shown"].values()))] == [8, 8]  # what the interrupted one had changed is undone
