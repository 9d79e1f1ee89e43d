"""A run of CAD Attribute as its user sees it: the bar, the preview, stopping it, and results that are known from before."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from cad_engine.sandbox.evaluation import Case, target_cases

from .graph import Graph, Node
from .sandbox_graphs import IN_ROUNDS, QUICK, attribute, erase, painted, sandbox
from .server import Event, Result, Server

pytestmark = pytest.mark.comfyui

CASES: list[Case] = target_cases("star", 1, 7)


def attribution_graph(**settings: object) -> tuple[Graph, Node, Node]:
    """A graph that attributes and looks at the result; the nodes CAD Attribute and Save CAD Attribution."""
    graph = Graph()
    model, clip, _ = sandbox(graph)
    made = attribute(graph, model, clip, **settings)
    return graph, made, graph.add("CADSaveAttribution", attribution=made, name="run", overwrite=True)


def base_picture(server: Server) -> bytes:
    """Pixels of a picture of the unpatched sandbox, painted now."""
    server.free(cache=True)
    graph = Graph()
    painted(graph, *sandbox(graph), CASES, steps=3)
    return server.images(server.run(graph.prompt).check())[0].tobytes()


def test_the_bar_runs_to_its_end_and_shows_previews(server: Server) -> None:
    graph, node, _ = attribution_graph(**{**QUICK, "seed": 11, "steps": 8})
    result = server.run(graph.prompt).check()
    values = [value for value, _ in result.progress(node.id)]
    assert values == sorted(values)
    assert len(set(values)) > 6
    assert result.progress(node.id)[-1][0] == result.progress(node.id)[-1][1]
    previews = result.previews(node.id)
    assert previews
    assert len({picture.tobytes() for picture in previews}) > 3
    assert "weights in 22 layers scored" in result.texts(node.id)[-1]


def test_the_bar_of_rounds_runs_to_its_end_even_if_they_end_early(server: Server) -> None:
    graph, node, _ = attribution_graph(**{**IN_ROUNDS, "rounds": 6, "seed": 12})
    result = server.run(graph.prompt, timeout=900).check()
    bar = result.progress(node.id)
    values, (maximum,) = [value for value, _ in bar], {maximum for _, maximum in bar}
    assert values == sorted(values)
    assert len(set(values)) > 20
    assert values[-1] == maximum
    assert max(after - before for before, after in pairwise(values)) < 0.9 * maximum
    assert "weights changed in" in result.texts(node.id)[-1]


@pytest.mark.parametrize("moment", [0.2, 0.45, 0.7])
def test_stopping_rounds_harms_nothing(server: Server, moment: float) -> None:
    before = base_picture(server)
    graph, node, _ = attribution_graph(**{**IN_ROUNDS, "batch": 2, "seed": 200})
    stopped_at: list[float] = []

    def stop(event: Event) -> None:
        if event.type == "progress" and event.data["node"] == node.id and event.data["value"] >= moment * event.data["max"]:
            if not stopped_at:
                server.interrupt()
            stopped_at.append(event.data["value"])

    result = server.run(graph.prompt, timeout=900, on_event=stop)
    assert result.interrupted
    assert stopped_at
    assert stopped_at[-1] < 0.98 * result.progress(node.id)[-1][1]
    assert base_picture(server) == before


@pytest.mark.parametrize("attempt", range(4))
def test_stopping_it_at_a_random_moment_harms_nothing(server: Server, attempt: int) -> None:
    before = base_picture(server)
    moment = random.Random(attempt).uniform(0.02, 0.95)
    graph, node, _ = attribution_graph(seed=100 + attempt, trajectories=8, steps=8, batch=2)
    stopped_at: list[float] = []

    def stop(event: Event) -> None:
        if (
            event.type == "progress"
            and event.data["node"] == node.id
            and event.data["value"] >= moment * event.data["max"]
            and not stopped_at
        ):
            stopped_at.append(event.data["value"])
            server.interrupt()

    result = server.run(graph.prompt, on_event=stop)
    assert result.interrupted
    assert stopped_at
    value, maximum = result.progress(node.id)[-1]
    # Within one step: of the 8 x 8 x 6 evaluations, a step of two samples is at most six.
    assert value <= stopped_at[0] + 12 < maximum + 12
    assert base_picture(server) == before
    server.run(attribution_graph(seed=100 + attempt, **QUICK)[0].prompt).check()


def known(result: Result, node: Node) -> bool:
    return "known from before" in result.texts(node.id)[-1]


def test_a_result_is_known_after_a_restart_and_only_for_the_same_model_and_settings(server: Server) -> None:
    def run(graph: Graph) -> Result:
        for _ in range(5):
            server.free(cache=True)
            result = server.run(graph.prompt).check()
            if result.executed:  # else ComfyUI still had its own results: on a busy machine it frees them late
                break
        return result

    graph, node, _ = attribution_graph(seed=21, cache=True, **QUICK)
    assert not known(run(graph), node)
    server.restart()
    again = run(graph)
    assert known(again, node)
    assert not again.progress(node.id)
    for other in ({"seed": 22}, {"concept": "a heart"}, {"base": ""}, {"components": "attention"}, {"cfg": 2.0}):
        changed, changed_node, _ = attribution_graph(**{"seed": 21, "cache": True, **QUICK, **other})
        assert not known(run(changed), changed_node), other
    solved = {"cache": True, **IN_ROUNDS, "rounds": 1, "trajectories": 2}
    for other in ({}, {"contexts": "a red {}"}, {"keep": "a heart"}, {"vary": True}):
        changed, changed_node, _ = attribution_graph(**{**solved, **other})
        assert not known(first := run(changed), changed_node), other
        again = run(changed)
        assert known(again, changed_node), other
        assert again.texts(changed_node.id)[-1] == first.texts(changed_node.id)[-1].replace("scored", "scored (known from before)")
    switched_off, off_node, _ = attribution_graph(seed=21, cache=False, **QUICK)
    assert not known(run(switched_off), off_node)

    # The same again on a model that has an edit in it: another model.
    graph = Graph()
    model, clip, _ = sandbox(graph)
    first = attribute(graph, model, clip, seed=21, cache=True, **QUICK)
    edited = erase(graph, model, first, ratio=0.001, selection="row_min1")
    second = attribute(graph, edited, clip, seed=21, cache=True, **QUICK)
    graph.add("CADSaveAttribution", attribution=second, name="run", overwrite=True)
    result = run(graph)
    assert known(result, first)
    assert not known(result, second)
    assert known(run(graph), second)


def test_a_damaged_stored_result_is_computed_again(server: Server) -> None:
    graph, node, _ = attribution_graph(seed=31, cache=True, **QUICK)
    server.run(graph.prompt).check()
    files = list((server.user / "__cad_cache").glob("*.safetensors"))
    newest = max(files, key=lambda file: file.stat().st_mtime)
    newest.write_bytes(newest.read_bytes()[:1000])
    server.free(cache=True)
    assert not known(server.run(graph.prompt).check(), node)
    server.free(cache=True)
    assert known(server.run(graph.prompt).check(), node)
