"""Attribution Viewer in a real server: its picture, the data of its map, and the choice of layers that it hands on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import torch
from PIL import Image

from cad_engine.attribution import Attribution
from cad_engine.attribution_file import load_attribution, save_attribution
from cad_engine.checkpoints.load import load_model
from cad_engine.concept import attribute_concept
from cad_engine.concept_settings import ConceptSettings
from cad_engine.edit_file import load_edit
from cad_engine.layer_choice import choose
from cad_engine.report.overlap_data import overlap_data
from cad_engine.report.plot import DPI, WIDTH
from cad_engine.report.unet_map import u_order
from cad_engine.report.viewer_data import viewer_data
from cad_engine.sandbox.checkpoint import SANDBOX_FILE
from cad_engine.selection import select
from tests.report.attributions import SDXL, ff_names, random_attribution

from .graph import Graph, Node
from .server import Result, Server

pytestmark = pytest.mark.comfyui


def stored(server: Server, name: str, attribution: Attribution) -> Attribution:
    """`attribution` in the folder that Load CAD Attribution reads, as it is read."""
    path: Path = server.models / "cad_attributions" / f"{name}.safetensors"
    save_attribution(path, attribution)
    return load_attribution(path)


@pytest.fixture(scope="module")
def sandbox_attribution(server: Server) -> Attribution:
    """Random scores for the sandbox's feed-forward layers, as file "viewer"."""
    from safetensors import safe_open

    with safe_open(SANDBOX_FILE, "pt") as file:
        shapes = {name.removeprefix("model."): file.get_slice(name).get_shape() for name in file.keys() if ".ff.net." in name}  # noqa: SIM118
    layers = {}
    for name, shape in shapes.items():
        if name.endswith("weight"):
            layers |= random_attribution([name], shape=tuple(shape)).layers
    attribution = random_attribution(list(layers)[:1])
    attribution.layers = layers
    attribution.info |= {"base": "a shape", "family": "sandbox"}
    return stored(server, "viewer", attribution)


def view(graph: Graph, name: str = "viewer", ratio: float = 0.05, selection: str = "row", layers: str = "") -> Node:
    loaded = graph.add("CADLoadAttribution", name=f"{name}.safetensors")
    return graph.add("CADAttributionViewer", attribution=loaded, ratio=ratio, selection=selection, layers=layers)


def run(server: Server, name: str = "viewer", **inputs: object) -> tuple[Result, Node]:
    graph = Graph()
    node = view(graph, name, **inputs)  # type: ignore[arg-type]
    return server.run(graph.prompt), node


def seen(server: Server, result: Result, node: Node) -> dict[str, Any]:
    """The data that the front end fetches for the map of a node."""
    (handed,) = result.check().outputs[node.id]["cad"]
    answer = requests.get(f"{server.url}/view", params={"filename": handed["file"], "subfolder": "cad", "type": "temp"}, timeout=60)
    answer.raise_for_status()
    data: dict[str, Any] = answer.json()
    return data


@pytest.mark.usefixtures("sandbox_attribution")
def test_the_picture_goes_out_as_an_image(server: Server) -> None:
    graph = Graph()
    node = view(graph)
    saved = graph.add("SaveImage", images=node, filename_prefix="viewer")
    result = server.run(graph.prompt).check()
    (picture,) = server.images(result, saved.id)
    assert server.images(result, node.id) == []  # the map takes its place on the node
    assert isinstance(picture, Image.Image)
    assert picture.width == round(WIDTH * DPI)
    assert (np.asarray(picture)[:10] == 255).all()  # a white margin
    assert np.asarray(picture).std() > 20


def test_the_data_is_what_the_engine_makes_of_the_file(server: Server, sandbox_attribution: Attribution) -> None:
    result, node = run(server)
    data = seen(server, result, node)
    assert (data.pop("asked"), data.pop("overlap")) == ({"ratio": 0.05, "rule": "row", "layers": ""}, None)
    assert data == json.loads(json.dumps(viewer_data(sandbox_attribution)))
    assert data["info"]["concept"] == "star"
    assert len(data["layers"]) == len(sandbox_attribution.layers)
    assert len(json.dumps(result.outputs)) < 200  # the list of runs, which is sent around whole, holds no data


def test_equal_data_is_one_file(server: Server) -> None:
    results = [run(server, ratio=ratio) for ratio in (0.01, 0.02, 0.01)]
    names = [result.check().outputs[node.id]["cad"][0]["file"] for result, node in results]
    assert names[0] == names[2] != names[1]


def test_comparing_with_others(server: Server, sandbox_attribution: Attribution) -> None:
    other = random_attribution(["x"])
    other.layers = {name: replace(layer, score=layer.score.flip(0)) for name, layer in sandbox_attribution.layers.items()}
    other.info |= {"concept": "ring", "objective": "erase"}
    other = stored(server, "other", other)
    graph = Graph()
    files = [graph.add("CADLoadAttribution", name=f"{name}.safetensors") for name in ("viewer", "other")]
    inputs = {"ratio": 0.05, "selection": "global", "layers": "mid*"}
    node = graph.add("CADAttributionViewer", attribution=files[0], compare_2=files[1], **inputs)
    result = server.run(graph.prompt)
    data = seen(server, result, node)
    part = choose(sandbox_attribution, ["mid*"])
    assert part.info["layers"]
    expected = json.loads(json.dumps(overlap_data([part, other], 0.05, "global")))
    assert data["overlap"]["pairs"] == expected["pairs"]
    told = {layer["name"]: entry for layer, entry in zip(data["layers"], data["overlap"]["layers"], strict=True) if entry is not None}
    assert sorted(told) == sorted(part.layers)
    assert list(told.values()) == expected["layers"]
    stored(server, "elsewhere", random_attribution(["another.weight"]))
    graph.prompt[files[1].id]["inputs"]["name"] = "elsewhere.safetensors"
    result = server.run(graph.prompt)
    assert result.error is not None
    assert "attribution 2 shares no layer with the first" in result.error.message


def test_comfyuis_list_of_jobs_can_read_the_data(server: Server) -> None:
    # It takes any output's "format" for a MIME type, and answers nothing to anybody when that is a number.
    result, _ = run(server)
    answer = requests.get(f"{server.url}/api/jobs", params={"limit": 1}, timeout=60)
    if answer.status_code == 404:
        pytest.skip("this ComfyUI has no list of jobs")
    assert answer.status_code == 200, answer.text
    assert answer.json()["jobs"][0]["id"] == result.check().prompt_id


def test_erasing_obeys_the_choice_of_layers(server: Server, sandbox_attribution: Attribution) -> None:
    graph = Graph()
    chosen = view(graph, layers="mid 1*\n\n  *output_blocks.2.*ff.net.2*  \n")
    model = graph.add("CADLoadSandbox")
    erased = graph.add("CADErase", model=model, attribution=chosen[1], ratio=0.05, selection="global", strength=1.0)
    graph.add("CADSaveEdit", edit=erased[1], name="viewer", overwrite=True)
    again = graph.add("CADAttributionViewer", attribution=chosen[1], ratio=0.05, selection="global", layers="mid 1*")
    result = server.run(graph.prompt).check()
    names = [name for name in sandbox_attribution.layers if "middle_block" in name or ("output_blocks.2." in name and "net.2" in name)]
    assert 2 < len(names) < len(sandbox_attribution.layers)
    edit = load_edit(server.models / "cad_edits" / "viewer.safetensors")
    expected = select(sandbox_attribution, 0.05, "global", layers=names)
    assert edit.layers.keys() == expected.keys()
    assert all(torch.equal(edit.layers[name].index, index) for name, index in expected.items())
    assert sorted(edit.info["layers"]) == sorted(names)
    data, narrowed = (seen(server, result, node) for node in (chosen, again))
    assert sorted(layer["name"] for layer in data["layers"] if layer["chosen"]) == sorted(names)
    assert len(data["layers"]) == len(sandbox_attribution.layers)
    assert len(narrowed["layers"]) == len(names)


def picture_of(graph: Graph, node: Node) -> Node:
    return graph.add("SaveImage", images=node, filename_prefix="viewer")


@pytest.mark.usefixtures("sandbox_attribution")
def test_without_a_ratio_nothing_is_marked(server: Server) -> None:
    graph = Graph()
    saved = [picture_of(graph, view(graph, ratio=ratio)) for ratio in (0.0, 0.05)]
    result = server.run(graph.prompt).check()
    assert not np.array_equal(*(np.asarray(server.images(result, node.id)[0]) for node in saved))


def test_what_rounds_found_is_marked_and_limited_to_the_chosen_layers(server: Server) -> None:
    settings = ConceptSettings("a star", base="a shape", keep=("a red circle",), rounds=1, trajectories=2, steps=3, batch=12)
    solved = stored(server, "solved", attribute_concept(load_model("sandbox"), settings))
    everything = {name: len(layer.index) for name, layer in solved.layers.items()}
    chosen = [name for name in everything if "output_blocks" in name]
    assert 0 < sum(everything[name] for name in chosen) < sum(everything.values())

    graph = Graph()
    nodes = {layers: view(graph, "solved", ratio=0.0, selection="row", layers=layers) for layers in ("", "out*")}
    part = view(graph, "solved", ratio=0.0001, selection="global")
    erased = graph.add(
        "CADErase", model=graph.add("CADLoadSandbox"), attribution=nodes["out*"][1], ratio=0.0, selection="global", strength=1.0
    )
    graph.add("CADSaveEdit", edit=erased[1], name="viewer-solved", overwrite=True)
    saved = [picture_of(graph, node) for node in (*nodes.values(), part)]
    result = server.run(graph.prompt).check()
    for layers, names in (("", everything), ("out*", chosen)):
        data = seen(server, result, nodes[layers])
        assert data["score"] == "effect"
        assert [layer["name"] for layer in data["layers"] if layer["chosen"]] == u_order(names)
        told = {layer["name"]: sum(layer["histogram"][0][1:]) + layer["below"][0] for layer in data["layers"]}
        assert told == everything
    pictures = [np.asarray(server.images(result, node.id)[0]).tobytes() for node in saved]
    assert len(set(pictures)) == 3
    edit = load_edit(server.models / "cad_edits" / "viewer-solved.safetensors")
    assert {name: len(layer.index) for name, layer in edit.layers.items()} == {
        name: everything[name] for name in chosen if everything[name]
    }


@pytest.mark.usefixtures("sandbox_attribution")
@pytest.mark.parametrize(
    ("inputs", "about"),
    [
        ({"layers": "*no such layer*"}, "'*no such layer*' matches none of the"),
        ({"layers": "mid*\n<b>\x00"}, "matches none of the"),
        ({"ratio": "nan"}, "ratio must be in (0, 1], got nan"),
    ],
)
def test_what_cannot_be_shown_is_said_in_a_sentence(server: Server, inputs: dict[str, object], about: str) -> None:
    result, node = run(server, **inputs)
    assert result.error is not None
    assert result.error.node_id == node.id
    assert about in result.error.message
    assert result.error.message.isprintable()
    run(server)[0].check()


def test_a_ratio_that_the_file_does_not_keep(server: Server) -> None:
    stored(server, "short", random_attribution(ff_names(SDXL)[:4], shape=(20, 1000), keep_ratio=0.01))
    result, _ = run(server, "short", ratio=0.02)
    assert result.error is not None
    assert "keep ratio" in result.error.message
    run(server, "short", ratio=0.01)[0].check()


def test_sdxl_and_hostile_text(server: Server) -> None:
    hostile = ["<img src=x onerror=alert(1)>", "\u202e\x00\x1b[31m", "y" * 5000, "$\\frac{"]
    attribution = random_attribution([*hostile, *ff_names(SDXL)], concept="$\\frac{<script>" + "z" * 5000)
    attribution.info |= {"base": "\x1b[31m\n" * 100, "family": "\u202e", "deep": [[[{}]]]}
    stored(server, "hostile", attribution)
    result, node = run(server, "hostile", ratio=0.001, selection="global")
    data = seen(server, result, node)
    text = json.dumps(data, ensure_ascii=False)
    assert len(text) < 500_000
    assert not set("\x00\x1b\u202e\n") & set(text)
    assert len(data["layers"]) == 144
