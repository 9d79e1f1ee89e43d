"""CAD Attribute and CAD Erase on the sandbox, in a real server: the same as the engine by itself, and the concept is gone."""

from __future__ import annotations

import pytest
import torch

from cad_engine.attribution_file import load_attribution
from cad_engine.checkpoints.load import load_model
from cad_engine.concept import ConceptSettings, attribute_concept
from cad_engine.sandbox.evaluation import other_cases, target_cases
from cad_engine.sandbox.judge import Judge
from cad_engine.selection import select

from .graph import Graph
from .sandbox_graphs import QUICK, as_tensor, attribute, dense, erase, painted, sandbox
from .server import Server

pytestmark = pytest.mark.comfyui


@pytest.mark.parametrize(("objective", "keep"), [("erase", ()), ("erase", ("a heart", "a red circle")), ("amplify", ())])
def test_the_node_finds_what_the_engine_finds_with_diffusers(server: Server, objective: str, keep: tuple[str, ...]) -> None:
    graph = Graph()
    model, clip, _ = sandbox(graph)
    made = attribute(graph, model, clip, objective=objective, keep="\n".join(keep), **QUICK)
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


@pytest.mark.slow
def test_the_star_is_erased_as_in_the_demo(server: Server) -> None:
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
