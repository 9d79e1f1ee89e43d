"""Every wrong connection and number at CAD Attribute, CAD Erase and CAD Amplify is a sentence on the node, and breaks nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from cad_engine.attribution_file import save_attribution
from cad_engine.sandbox.evaluation import target_cases
from tests.report.attributions import SD15, ff_names, random_attribution

from .graph import Graph, Link, Node
from .sandbox_graphs import IN_ROUNDS, QUICK, attribute, erase, painted, sandbox
from .server import Server

pytestmark = pytest.mark.comfyui

Build = Callable[[Graph, Link, Link, Link], Node]


@pytest.fixture(scope="module", autouse=True)
def foreign_attribution(server: Server) -> Iterator[None]:
    """An attribution of Stable Diffusion 1.5's layers among the files."""
    folder = server.models / "cad_attributions"
    folder.mkdir(parents=True, exist_ok=True)
    save_attribution(folder / "foreign.safetensors", random_attribution(ff_names(SD15)))
    yield
    (folder / "foreign.safetensors").unlink()


def foreign(graph: Graph, model: Link, clip: Link, vae: Link) -> Node:
    return erase(graph, model, graph.add("CADLoadAttribution", name="foreign.safetensors"))


def amplified_to_erase(graph: Graph, model: Link, clip: Link, vae: Link) -> Node:
    return erase(graph, model, attribute(graph, model, clip, objective="amplify", **QUICK))


def erased_to_amplify(graph: Graph, model: Link, clip: Link, vae: Link) -> Node:
    made = attribute(graph, model, clip, **QUICK)
    return graph.add("CADAmplify", model=model, attribution=made, ratio=0.03, selection="row", strength=1.0)


def ratio(value: float | str) -> Build:
    return lambda graph, model, clip, vae: erase(graph, model, attribute(graph, model, clip, **QUICK), ratio=value)


def amplified(value: float) -> Build:
    def build(graph: Graph, model: Link, clip: Link, vae: Link) -> Node:
        made = attribute(graph, model, clip, objective="amplify", **QUICK)
        return graph.add("CADAmplify", model=model, attribution=made, ratio=value, selection="row", strength=1.0)

    return build


def context_from_another_node(graph: Graph, model: Link, clip: Link, vae: Link) -> Node:
    text = graph.add("StringConcatenate", string_a="a", string_b="photo", delimiter=" ")
    return erase(graph, model, attribute(graph, model, clip, **IN_ROUNDS, contexts=text), ratio=0.0)


def part_of_rounds(graph: Graph, model: Link, clip: Link, vae: Link) -> Node:
    return erase(graph, model, attribute(graph, model, clip, **IN_ROUNDS), ratio=1e-9, selection="global")


def strength(value: float | str) -> Build:
    return lambda graph, model, clip, vae: erase(graph, model, attribute(graph, model, clip, **QUICK), strength=value)


def settings(**changed: object) -> Build:
    return lambda graph, model, clip, vae: erase(graph, model, attribute(graph, model, clip, **{**QUICK, **changed}))


def images(graph: Graph, model: Link, clip: Link, vae: Link) -> Node:
    latent = graph.add("EmptyLatentImage", width=64, height=64, batch_size=2)
    return erase(graph, model, attribute(graph, model, clip, images=latent, **QUICK))


def images_of_another_kind(graph: Graph, model: Link, clip: Link, vae: Link) -> Node:
    latent = graph.add("EmptySD3LatentImage", width=64, height=64, batch_size=2)
    made = attribute(graph, model, clip, objective="amplify", images=latent, **QUICK)
    return graph.add("CADAmplify", model=model, attribution=made, ratio=0.03, selection="row", strength=1.0)


CASES: dict[str, tuple[Build, str]] = {
    "an attribution of another architecture": (foreign, "another architecture"),
    "an amplify attribution at CAD Erase": (amplified_to_erase, "CAD Amplify"),
    "an erase attribution at CAD Amplify": (erased_to_amplify, "CAD Erase"),
    "a ratio that takes nothing": (ratio(0.0001), "takes no weight"),
    "automatic without rounds": (ratio(0.0), "made without rounds"),
    "automatic to amplify": (amplified(0.0), "ratio must be in (0, 1], got 0"),
    "ratio NaN": (ratio("nan"), "ratio must be in (0, 1]"),
    "strength NaN": (strength("nan"), "strength must be a number"),
    "an empty concept": (settings(concept="  "), "concept is empty"),
    "concept and base alike": (settings(concept="a star", base=" a star"), "nothing to tell apart"),
    "a kept concept": (settings(method="per harm", keep="a heart\n\na star"), "among the prompts to keep"),
    "a kept concept in rounds": (settings(method="rounds", keep="A STAR"), "among the prompts to keep"),
    "a context without the concept": (settings(method="rounds", contexts="a red {}\na photo"), "context 'a photo' has no {}"),
    "a context from another node": (context_from_another_node, "context 'a photo' has no {}"),
    "a part of the rounds that takes nothing": (part_of_rounds, "takes no weight"),
    "cfg NaN": (settings(cfg="nan"), "cfg"),
    "images to erase": (images, "images are for the objective amplify"),
    "latents of another model": (images_of_another_kind, "[2, 16, 8, 8]"),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_a_sentence_on_the_node_and_nothing_else_breaks(server: Server, name: str) -> None:
    build, about = CASES[name]
    graph = Graph()
    model, clip, vae = sandbox(graph)
    bad = build(graph, model, clip, vae)
    painted(graph, bad, clip, vae, target_cases("star", 1, 0), steps=1)
    result = server.run(graph.prompt)
    # ComfyUI repeats what a node's own validation says for each of the inputs that it looked at.
    texts = {problem.details.partition(" - ")[2] for problems in result.node_errors.values() for problem in problems}
    if result.error is not None:
        assert result.error.type.endswith("CadError")
        texts.add(result.error.message)
    (text,) = texts
    assert about in text
    assert "\n" not in text
    good = Graph()
    model, clip, vae = sandbox(good)
    painted(good, erase(good, model, attribute(good, model, clip, **QUICK)), clip, vae, target_cases("star", 1, 0), steps=1)
    server.run(good.prompt).check()
