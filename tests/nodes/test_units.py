"""The unit of CAD Erase and CAD Amplify in a real server: the engine's neurons and heads, told on the node, and refused in a sentence."""

from __future__ import annotations

import pytest
import torch

from cad_engine.attribution_file import load_attribution
from cad_engine.checkpoints.load import load_model
from cad_engine.concept import attribute_concept
from cad_engine.concept_settings import ConceptSettings
from cad_engine.edit_file import load_edit
from cad_engine.erasure import edit_from_attribution

from .graph import Graph
from .sandbox_graphs import QUICK, attribute, erase, sandbox
from .server import Server

pytestmark = pytest.mark.comfyui


def test_units_are_the_engines(server: Server) -> None:
    graph = Graph()
    model, clip, _ = sandbox(graph)
    made = attribute(graph, model, clip, components="ff + attention", **QUICK)
    kept = graph.add("CADSaveAttribution", attribution=made, name="units", overwrite=True)
    edited = {
        unit: erase(graph, model, kept, ratio=0.05, selection=rule, unit=unit)
        for unit, rule in (("neuron", "layer"), ("head", "global"), ("layer", "global"))
    }
    for unit, node in edited.items():
        graph.add("CADSaveEdit", edit=node[1], name=f"units-{unit}", overwrite=True)
    result = server.run(graph.prompt, timeout=600).check()
    ours = load_attribution(server.models / "cad_attributions" / "units.safetensors")
    settings = ConceptSettings("a star", base="a shape", components=("ff", "attention"), batch=20, **QUICK)
    theirs = attribute_concept(load_model("sandbox"), settings)
    for name, layer in theirs.layers.items():
        assert ours.layers[name].heads == layer.heads
        if layer.column_sum is None:
            assert ours.layers[name].column_sum is None
        else:
            assert torch.allclose(
                ours.layers[name].column_sum, layer.column_sum, rtol=1e-3, atol=1e-4 * float(layer.column_sum.abs().max())
            )
    for unit, total in {"neuron": 4864, "head": 88, "layer": 110}.items():
        edit = load_edit(server.models / "cad_edits" / f"units-{unit}.safetensors")
        expected = edit_from_attribution(ours, 0.05, "layer" if unit == "neuron" else "global", unit=unit)
        assert edit.layers.keys() == expected.layers.keys()
        assert all(torch.equal(layer.index, expected.layers[name].index) for name, layer in edit.layers.items())
        assert f"{expected.info['units']:,} of {total:,} {unit}s taken out" in result.texts(edited[unit].id)[-1]


def test_amplifying_takes_units_with_negative_sums(server: Server) -> None:
    graph = Graph()
    model, clip, _ = sandbox(graph)
    made = attribute(graph, model, clip, objective="amplify", **QUICK)
    kept = graph.add("CADSaveAttribution", attribution=made, name="units-amplify", overwrite=True)
    node = graph.add("CADAmplify", model=model, attribution=kept, ratio=0.01, selection="global", strength=1.0, unit="neuron")
    graph.add("CADSaveEdit", edit=node[1], name="units-amplify", overwrite=True)
    server.run(graph.prompt).check()
    edit = load_edit(server.models / "cad_edits" / "units-amplify.safetensors")
    ours = load_attribution(server.models / "cad_attributions" / "units-amplify.safetensors")
    sums = {name: ours.layers[name].column_sum for name in edit.layers}
    assert edit.info["units"] == 48
    for name, layer in edit.layers.items():
        assert bool((sums[name][(layer.index % layer.in_features).unique()] < 0).all())


@pytest.mark.parametrize(
    ("settings", "about"),
    [
        ({"unit": "neuron"}, "the selection row has no meaning for the unit neuron"),
        ({"unit": "head", "selection": "global"}, "none of the 22 chosen layers has heads"),
        ({"unit": "neuron", "selection": "global", "ratio": 0.0001}, "takes no neuron"),
        ({"unit": "neuron", "selection": "global", "ratio": 0.0}, "how many neurons are to be taken"),
    ],
)
def test_what_makes_no_sense_is_a_sentence_on_the_node(server: Server, settings: dict[str, object], about: str) -> None:
    graph = Graph()
    model, clip, _ = sandbox(graph)
    node = erase(graph, model, attribute(graph, model, clip, **QUICK), **settings)
    graph.add("CADSaveEdit", edit=node[1], name="none", overwrite=True)
    error = server.run(graph.prompt).error
    assert error is not None
    assert error.type.endswith("CadError")
    assert about in error.message
