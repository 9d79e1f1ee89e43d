"""Several concepts: the second is attributed on the model that the first has changed, spares it, and leaves no trace."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cad_engine.attribution import Attribution
from cad_engine.attribution_file import load_attribution
from cad_engine.checkpoints.denoiser import DiffusersDenoiser
from cad_engine.checkpoints.load import load_model
from cad_engine.concept import attribute_concept
from cad_engine.concept_settings import ConceptSettings
from cad_engine.edit import Edit, LayerEdit, combine, edited_weight
from cad_engine.edit_file import load_edit, save_edit
from cad_engine.erasure import edit_from_attribution
from cad_engine.fingerprint import fingerprint
from cad_engine.several import attribute_after, edits_in_turn, sparing
from tests.nodes.graph import Graph
from tests.nodes.sandbox_graphs import QUICK, attribute, dense, erase, sandbox
from tests.nodes.server import Server
from tests.test_cli import run
from tests.test_edit import assert_same
from tests.tiny_models import assert_unchanged, snapshot

STAR = ConceptSettings("star", base="shape", keep=("a red circle",), batch=20, **QUICK)
DOTTED = ConceptSettings("in dotted style", keep=("a red circle",), batch=20, **QUICK)


@pytest.fixture(scope="module")
def denoiser() -> DiffusersDenoiser:
    return load_model("sandbox")


@pytest.fixture(scope="module")
def star(denoiser: DiffusersDenoiser) -> Edit:
    """Enough of the star's weights to change everything."""
    return edit_from_attribution(attribute_concept(denoiser, STAR), 0.03, "global")


def edited_sandbox(edit: Edit) -> DiffusersDenoiser:
    """A sandbox of its own that has `edit` in its weights for good."""
    denoiser = load_model("sandbox")
    with torch.no_grad():
        for name, layer in edit.layers.items():
            denoiser.layers[name].weight.copy_(edited_weight(denoiser.layers[name].weight, layer))
    return denoiser


def test_what_was_done_is_kept_but_not_where_the_new_concept_is_named() -> None:
    contexts = ["a {}", "a red {} in dotted style", "a blue {}", "no place", 7, "a {} in blurry style", "a {} in striped style"]
    star = Edit({}, {"concept": "star", "base": "shape", "contexts": contexts})
    crescent = Edit({}, {"concept": "a crescent", "objective": "amplify"})
    both = combine([(star, 1.0), (crescent, 1.0)])
    assert sparing(DOTTED, both).kept_prompts == (
        "a red circle",
        *("star", "a star", "a blue star", "a star in blurry style"),
        *("shape", "a shape", "a blue shape", "a shape in blurry style"),
        "a crescent",
    )
    # The words that the new concept shares with its base are no reason to leave a prompt out.
    square = ConceptSettings("a red square", base="a red shape", keep=("a heart",))
    kept = sparing(square, star).kept_prompts
    assert "a red star in dotted style" in kept
    assert "a red shape in dotted style" in kept


def test_the_papers_method_keeps_nothing_and_foreign_files_say_anything() -> None:
    star = Edit({}, {"concept": "star", "base": "shape"})
    paper = ConceptSettings("a square")
    assert sparing(paper, star) == paper
    for info in ({}, {"concept": 3}, {"concept": ["a"], "contexts": "{}"}):
        assert sparing(DOTTED, Edit({}, info)).kept_prompts == DOTTED.kept_prompts
    assert sparing(DOTTED, Edit({}, {"concept": "star", "base": 1, "contexts": {"{}": 1}})).kept_prompts == ("a red circle", "star")


def test_it_is_the_attribution_of_the_edited_model_which_is_left_as_it_was(denoiser: DiffusersDenoiser, star: Edit) -> None:
    before, known = snapshot(denoiser), fingerprint(denoiser)
    found = attribute_after(denoiser, DOTTED, star)
    assert_unchanged(denoiser, before)
    expected = attribute_concept(edited_sandbox(star), sparing(DOTTED, star))
    a, b, unedited = dense(found), dense(expected), dense(attribute_concept(denoiser, sparing(DOTTED, star)))
    assert all(torch.equal(a[name], b[name]) for name in b)
    assert not all(torch.equal(a[name], unedited[name]) for name in unedited)
    assert found.info["fingerprint"] == known
    assert found.info["after"] == ["star"]
    assert "star" in found.info["keep"]


@pytest.mark.parametrize("stage", ["sampling", "attribution", "harm"])
def test_an_interrupt_restores_the_model(denoiser: DiffusersDenoiser, star: Edit, stage: str) -> None:
    before = snapshot(denoiser)

    def interrupt(now: str, done: int, total: int) -> None:
        if now.startswith(stage) and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attribute_after(denoiser, DOTTED, star, progress=interrupt)
    assert_unchanged(denoiser, before)


def test_edits_in_turn(denoiser: DiffusersDenoiser, star: Edit) -> None:
    before = snapshot(denoiser)
    square = ConceptSettings("square", base="shape", keep=("a red circle",), batch=20, **QUICK)
    found = edits_in_turn(denoiser, [STAR, DOTTED, square], 0.03)
    assert_unchanged(denoiser, before)
    assert_same(found[0], star)
    second = edit_from_attribution(attribute_after(denoiser, DOTTED, star), 0.03, "global")
    assert_same(found[1], second)
    assert found[2].info["after"] == ["star", "in dotted style"]
    third = edit_from_attribution(attribute_after(denoiser, square, combine([(star, 1.0), (second, 1.0)])), 0.03, "global")
    assert_same(found[2], third)


def test_cad_attribute_after(star: Edit, denoiser: DiffusersDenoiser, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit, out = tmp_path / "star.safetensors", tmp_path / "dotted.safetensors"
    save_edit(edit, star)
    arguments = ["--concept", "in dotted style", "--method", "per-harm", "--keep", "a red circle", "--components", "ff"]
    arguments += ["--trajectories", "2", "--steps", "3", "--batch", "20", "--after", str(edit), "--out", str(out)]
    code, _, err = run(capsys, "attribute", "sandbox", *arguments)
    assert code == 0, err
    assert "warning" not in err
    found = load_attribution(out)
    assert found.info["after"] == ["star"]
    a, b = dense(found), dense(attribute_after(denoiser, DOTTED, load_edit(edit)))
    assert all(torch.equal(a[name], b[name]) for name in b)
    code, _, err = run(capsys, "attribute", "sandbox", *arguments[:-1], str(edit))
    assert code == 2
    assert "also named as another file" in err
    save_edit(edit, Edit({"diffusion_model.nowhere.weight": LayerEdit(4, 4, torch.tensor([1]))}, {"fingerprint": "other"}))
    code, _, err = run(capsys, "attribute", "sandbox", *arguments)
    assert code == 2
    assert "for another architecture" in err


@pytest.mark.comfyui
def test_on_the_canvas_an_attribution_after_an_erasure_is_of_the_erased_model(server: Server, star: Edit) -> None:
    """A chain of CAD Erase, and the same from a combined file by Apply CAD Edit: the next CAD Attribute sees what they did."""
    folder = server.models / "cad_edits"
    folder.mkdir(exist_ok=True)
    halved = {
        name: replace(layer, index=layer.index[::2], factor=torch.full((len(layer.index[::2]),), 0.5))
        for name, layer in star.layers.items()
    }
    dotted = Edit(halved, {"concept": "dotted", "objective": "erase"})
    save_edit(folder / "several.safetensors", combine([(star, 1.0), (dotted, 1.0)]))
    graph = Graph()
    model, clip, _ = sandbox(graph)
    settings = {"concept": "a square", "base": "a shape", **QUICK}
    first = attribute(graph, model, clip, **QUICK)
    erased = erase(graph, model, first)
    graph.add("CADSaveEdit", edit=erased[1], name="chained", overwrite=True)
    applied = graph.add("CADApplyEdit", model=model, edit_name="several.safetensors", strength=1.0)
    graph.add("CADSaveEdit", edit=applied[1], name="several-again", overwrite=True)
    for name, source in (("chained", erased[0]), ("applied", applied[0]), ("plain", model)):
        graph.add("CADSaveAttribution", attribution=attribute(graph, source, clip, **settings), name=name, overwrite=True)
    server.run(graph.prompt, timeout=600).check()

    wanted = ConceptSettings("a square", base="a shape", batch=20, **QUICK)
    both = load_edit(folder / "several.safetensors")
    found = {name: load_attribution(server.models / "cad_attributions" / f"{name}.safetensors") for name in ("chained", "applied", "plain")}
    for name, edit in (("chained", load_edit(folder / "chained.safetensors")), ("applied", both)):
        assert likeness(found[name], attribute_concept(edited_sandbox(edit), wanted)) > 0.99999
        assert likeness(found[name], found["plain"]) < 0.99
        assert found[name].info["base_fingerprint"] == found["plain"].info["base_fingerprint"]
    assert_same(load_edit(folder / "several-again.safetensors"), both)  # with its parts


def likeness(one: Attribution, other: Attribution) -> float:
    """Correlation of all scores."""
    a, b = dense(one), dense(other)
    assert a.keys() == b.keys()
    flat = [torch.cat([scores[name] for name in a]).double() for scores in (a, b)]
    return float(torch.corrcoef(torch.stack(flat))[0, 1])
