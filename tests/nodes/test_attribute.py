"""CAD Attribute and CAD Erase on the sandbox, in a real server: the same as the engine by itself, and the concept is gone."""

from __future__ import annotations

import pytest
import torch

from cad_engine.attribution import Attribution
from cad_engine.attribution_file import load_attribution
from cad_engine.checkpoints.load import load_model
from cad_engine.concept import attribute_concept
from cad_engine.concept_settings import ConceptSettings
from cad_engine.edit_file import load_edit
from cad_engine.erasure import edit_from_attribution
from cad_engine.method import widened
from cad_engine.ordinary_prompts import ordinary_prompts
from cad_engine.sandbox.evaluation import other_cases, target_cases
from cad_engine.sandbox.judge import Judge
from cad_engine.selection import select
from cad_engine.vocabulary import Vocabulary

from .graph import Graph
from .sandbox_graphs import IN_ROUNDS, KEY_AND_VALUE, QUICK, as_tensor, attribute, dense, dense_changes, erase, painted, sandbox
from .server import Result, Server

pytestmark = pytest.mark.comfyui


@pytest.mark.parametrize(("objective", "keep"), [("erase", ()), ("erase", ("a heart", "a red circle")), ("amplify", ())])
def test_the_node_finds_what_the_engine_finds_with_diffusers(server: Server, objective: str, keep: tuple[str, ...]) -> None:
    graph = Graph()
    model, clip, _ = sandbox(graph)
    made = attribute(graph, model, clip, objective=objective, method="per harm" if keep else "paper", keep="\n".join(keep), **QUICK)
    graph.add("CADSaveAttribution", attribution=made, name="same", overwrite=True)
    server.run(graph.prompt).check()
    ours = load_attribution(server.models / "cad_attributions" / "same.safetensors")
    settings = ConceptSettings("a star", base="a shape", objective=objective, keep=keep, batch=20, **QUICK)
    theirs = attribute_concept(load_model("sandbox"), settings)
    assert ours.timesteps == theirs.timesteps
    assert ours.info["fingerprint"] == ours.info["base_fingerprint"] == theirs.info["fingerprint"]
    a, b = dense(ours), dense(theirs)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.corrcoef(torch.stack([a[name], b[name]]).double())[0, 1] > 0.99999
    chosen, expected = select(ours, 0.01, "global"), select(theirs, 0.01, "global")
    common = sum(len(set(chosen[name].tolist()) & set(expected[name].tolist())) for name in chosen.keys() & expected.keys())
    assert common >= 0.999 * sum(map(len, expected.values()))  # all but ties at the edge


def attributions(server: Server, **graphs: dict[str, object]) -> tuple[dict[str, Attribution], Result, dict[str, str]]:
    """What CAD Attribute makes with each of these settings, as saved; the run, and the ids of the nodes, by the same names."""
    graph, nodes = Graph(), {}
    model, clip, _ = sandbox(graph)
    for name, settings in graphs.items():
        node = attribute(graph, model, clip, **settings)  # type: ignore[arg-type]
        graph.add("CADSaveAttribution", attribution=node, name=f"same-{name}", overwrite=True)
        nodes[name] = node.id
    result = server.run(graph.prompt, timeout=600).check()
    folder = server.models / "cad_attributions"
    return {name: load_attribution(folder / f"same-{name}.safetensors") for name in graphs}, result, nodes


@pytest.mark.parametrize("vary", [False, True])
def test_rounds_find_what_the_engine_finds_and_erasing_takes_all_of_it(server: Server, vary: bool) -> None:
    graph = Graph()
    model, clip, _ = sandbox(graph)
    told = {**IN_ROUNDS, "contexts": "a red {}\n\n  {} in dotted style \n", "vary": vary, "trajectories": 3 if vary else 4}
    made = attribute(graph, model, clip, **told, concept="star", base="shape")
    kept = graph.add("CADSaveAttribution", attribution=made, name="rounds", overwrite=True)
    automatic, part = erase(graph, model, kept, ratio=0.0), erase(graph, model, kept, ratio=0.0005, selection="global")
    for name, edit in (("rounds", automatic), ("rounds-part", part)):
        graph.add("CADSaveEdit", edit=edit[1], name=name, overwrite=True)
    result = server.run(graph.prompt, timeout=600).check()
    ours = load_attribution(server.models / "cad_attributions" / "rounds.safetensors")
    settings = ConceptSettings(
        "star",
        base="shape",
        keep=("a heart", "a red circle"),
        rounds=2,
        contexts=("a red {}", "{} in dotted style"),
        components=("cross_attention_kv",),
        batch=20,
        trajectories=told["trajectories"],
        steps=4,
    )
    denoiser, also = load_model("sandbox"), ()
    if vary:
        settings, also = widened(settings, Vocabulary.of(denoiser.pipeline.tokenizer, denoiser.pipeline.text_encoder))
    theirs = attribute_concept(denoiser, settings)
    assert ours.solved
    assert ours.info["components"] == ["cross_attention_kv"]
    for name in ("keep", "contexts"):
        assert ours.info[name] == theirs.info[name]
        assert len(ours.info[name]) > 10 if vary else len(ours.info[name]) == 2
    assert [line for line in result.texts(made.id)[-1].splitlines() if line.startswith("also kept: ")] == list(also)
    assert len(also) == vary
    assert len(ours.info["rounds_done"]) == len(theirs.info["rounds_done"])
    for mine, other in zip(ours.info["rounds_done"], theirs.info["rounds_done"], strict=True):
        assert mine["kappa"] == other["kappa"]
        assert mine["J"] + mine["K"] == pytest.approx(other["J"] + other["K"], rel=1e-2, abs=1e-4)
    mine, other = dense_changes(ours), dense_changes(theirs)
    assert mine.keys() == other.keys()
    a, b = (torch.cat([changes[name] for name in mine]) for changes in (mine, other))
    assert torch.corrcoef(torch.stack([a, b]).double())[0, 1] > 0.9999
    count = sum(len(layer.index) for layer in ours.layers.values())
    assert f"{count:,} weights changed in " in result.texts(made.id)[-1]

    edits = [load_edit(server.models / "cad_edits" / f"{name}.safetensors") for name in ("rounds", "rounds-part")]
    for edit, expected in zip(edits, (edit_from_attribution(ours, None), edit_from_attribution(ours, 0.0005, "global")), strict=True):
        assert edit.layers.keys() == expected.layers.keys()
        for name, layer in edit.layers.items():
            assert torch.equal(layer.index, expected.layers[name].index)
            assert torch.equal(layer.factors(1.0), expected.layers[name].factors(1.0))
    assert 0 < len(edits[1]) < len(edits[0]) == count
    assert f"{count:,} weights" in result.texts(automatic.id)[-1]


def test_the_methods_are_what_they_say(server: Server) -> None:
    named: dict[str, object] = {"keep": "a heart\n\na red circle", "contexts": "no place in it", **QUICK}
    ordinary = ordinary_prompts("sandbox", "a star", "a shape")
    made, result, nodes = attributions(
        server,
        paper={**QUICK},
        paper_kept={**named, "method": "paper"},
        harm={**named, "method": "per harm"},
        harm_empty={**QUICK, "method": "per harm"},
        amplify={**QUICK, "objective": "amplify", "method": "rounds"},
        amplify_paper={**QUICK, "objective": "amplify", "method": "paper"},
        amplify_kept={**named, "objective": "amplify", "method": "rounds"},
        rounds_empty={**IN_ROUNDS, "keep": "", "trajectories": 2, "steps": 3, "rounds": 1},
    )
    kept = {name: tuple(attribution.info["keep"]) for name, attribution in made.items()}
    both = ("a heart", "a red circle")
    assert kept["paper"] == kept["paper_kept"] == kept["amplify"] == kept["amplify_paper"] == ()
    assert kept["harm"] == kept["amplify_kept"] == both
    assert kept["harm_empty"] == kept["rounds_empty"] == ordinary
    assert "a blue star" not in ordinary
    assert [name for name, attribution in made.items() if attribution.solved] == ["rounds_empty"]
    scores = {name: attribution.score for name, attribution in made.items()}
    assert {scores[name] for name in ("paper", "paper_kept", "amplify", "amplify_paper")} == {"attribution"}
    assert {scores[name] for name in ("harm", "harm_empty", "amplify_kept")} == {"attribution per harm"}
    for one, other in (("paper", "paper_kept"), ("amplify", "amplify_paper")):
        a, b = dense(made[one]), dense(made[other])
        assert all(torch.equal(a[name], b[name]) for name in a)
    text = {name: result.texts(node)[-1] for name, node in nodes.items()}
    assert "does not use" not in text["paper"]
    assert "paper does not use keep and contexts" in text["paper_kept"]
    assert "per harm does not use contexts" in text["harm"]
    assert f"keep is empty, so {len(ordinary)} ordinary prompts were kept" in text["harm_empty"]
    assert f"keep is empty, so {len(ordinary)} ordinary prompts were kept" in text["rounds_empty"]
    assert "to amplify, the method paper was used" in text["amplify"]
    assert "to amplify, the method per harm was used" in text["amplify_kept"]
    assert "method" not in text["amplify_paper"]


@pytest.mark.slow
def test_the_star_is_erased_in_rounds_and_the_rest_stays(server: Server) -> None:
    stars, others = target_cases("star", 18, 50_000), other_cases("star", 18, 50_000)
    graph = Graph()
    model, clip, vae = sandbox(graph)
    contexts = "a {}\na red {} in dotted style\na blue {} in blurry style\na purple {}"
    settings = {"method": "rounds", "components": KEY_AND_VALUE, "contexts": contexts, "vary": True}
    erased = erase(graph, model, attribute(graph, model, clip, "star", "shape", **settings), ratio=0.0)
    after = painted(graph, erased, clip, vae, stars + others)
    seen = Judge.load().look(as_tensor(server.images(server.run(graph.prompt, timeout=1800).check(), after.id)))
    assert sum(verdict.shows("star") for verdict in seen[:18]) <= 2
    assert sum(case.right(verdict) for case, verdict in zip(others, seen[18:], strict=True)) >= 16


@pytest.mark.slow
def test_the_star_is_erased_by_the_papers_rule(server: Server) -> None:
    stars, others = target_cases("star", 18, 50_000), other_cases("star", 18, 50_000)
    graph = Graph()
    model, clip, vae = sandbox(graph)
    erased = erase(graph, model, attribute(graph, model, clip, components="ff + attention"))
    before, after = painted(graph, model, clip, vae, stars + others), painted(graph, erased, clip, vae, stars + others)
    result = server.run(graph.prompt, timeout=600).check()
    judge = Judge.load()
    seen = {node.id: judge.look(as_tensor(server.images(result, node.id))) for node in (before, after)}
    assert sum(verdict.shows("star") for verdict in seen[before.id][:18]) >= 17
    assert sum(verdict.shows("star") for verdict in seen[after.id][:18]) <= 8
    assert sum(case.right(verdict) for case, verdict in zip(others, seen[before.id][18:], strict=True)) >= 17
