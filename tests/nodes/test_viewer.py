"""Attribution Viewer in a real server: its picture, its data, and the choice of layers that it hands on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import requests
import torch
from PIL import Image

from cad_engine.attribution import Attribution
from cad_engine.attribution_file import load_attribution, save_attribution
from cad_engine.checkpoints.load import load_model
from cad_engine.concept import ConceptSettings, attribute_concept
from cad_engine.edit_file import load_edit
from cad_engine.report.plot import DPI, WIDTH
from cad_engine.report.viewer_data import viewer_data
from cad_engine.sandbox.checkpoint import SANDBOX_FILE
from cad_engine.selection import RULES, select
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


@pytest.mark.usefixtures("sandbox_attribution")
def test_the_picture_goes_out_as_an_image_and_is_shown_on_the_node(server: Server) -> None:
    graph = Graph()
    node = view(graph)
    saved = graph.add("SaveImage", images=node, filename_prefix="viewer")
    result = server.run(graph.prompt).check()
    (shown,), (picture,) = server.images(result, node.id), server.images(result, saved.id)
    assert isinstance(picture, Image.Image)
    assert picture.width == round(WIDTH * DPI)
    assert np.array_equal(np.asarray(shown), np.asarray(picture))
    assert (np.asarray(picture)[:10] == 255).all()  # a white margin
    assert np.asarray(picture).std() > 20


def test_the_data_is_what_the_engine_makes_of_the_file(server: Server, sandbox_attribution: Attribution) -> None:
    result, node = run(server)
    (data,) = result.check().outputs[node.id]["cad"]
    assert data == json.loads(json.dumps(viewer_data(sandbox_attribution)))
    assert data["info"]["concept"] == "star"
    assert len(data["layers"]) == len(sandbox_attribution.layers)


def test_comfyuis_list_of_jobs_can_read_the_data(server: Server) -> None:
    # It takes any output's "format" for a MIME type, and answers nothing to anybody when that is a number.
    result, _ = run(server)
    answer = requests.get(f"{server.url}/api/jobs", params={"limit": 1}, timeout=60)
    if answer.status_code == 404:
        pytest.skip("this ComfyUI has no list of jobs")
    assert answer.status_code == 200, answer.text
    assert answer.json()["jobs"][0]["id"] == result.check().prompt_id


@pytest.mark.parametrize("rule", RULES)
def test_the_node_says_how_many_weights_are_taken(server: Server, sandbox_attribution: Attribution, rule: str) -> None:
    result, node = run(server, ratio=0.02, selection=rule, layers="mid*")
    chosen = [name for name in sandbox_attribution.layers if "middle_block" in name]
    count = sum(map(len, select(sandbox_attribution, 0.02, rule, layers=chosen).values()))  # type: ignore[arg-type]
    assert count
    text = result.check().texts(node.id)[-1]
    assert f"{count:,} weights" in text
    assert f"{len(chosen)} of {len(sandbox_attribution.layers)} layers" in text


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
    (data,), (narrowed,) = (result.outputs[node.id]["cad"] for node in (chosen, again))
    assert sorted(layer["name"] for layer in data["layers"] if layer["chosen"]) == sorted(names)
    assert len(data["layers"]) == len(sandbox_attribution.layers)
    assert len(narrowed["layers"]) == len(names)


def test_without_a_ratio_nothing_is_marked(server: Server, sandbox_attribution: Attribution) -> None:
    none, marked = run(server, ratio=0.0), run(server, ratio=0.05)
    layers = len(sandbox_attribution.layers)
    assert none[0].check().texts(none[1].id)[-1] == f"no weights marked without a ratio, {layers} of {layers} layers"
    assert not np.array_equal(*(np.asarray(server.images(result, node.id)[0]) for result, node in (none, marked)))


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
    result = server.run(graph.prompt).check()
    for layers, names in (("", everything), ("out*", chosen)):
        count = sum(everything[name] for name in names)
        expected = f"{count:,} weights changed in rounds, {len(names)} of {len(everything)} layers"
        assert result.texts(nodes[layers].id)[-1] == expected
        (data,) = result.outputs[nodes[layers].id]["cad"]
        assert data == json.loads(json.dumps(viewer_data(solved, names)))
    pictures = [np.asarray(server.images(result, node.id)[0]).tobytes() for node in (*nodes.values(), part)]
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
    (data,) = result.check().outputs[node.id]["cad"]
    text = json.dumps(data, ensure_ascii=False)
    assert len(text) < 400_000
    assert not set("\x00\x1b\u202e\n") & set(text)
    assert len(data["layers"]) == 144
    (picture,) = server.images(result, node.id)
    assert picture.width == round(WIDTH * DPI)
