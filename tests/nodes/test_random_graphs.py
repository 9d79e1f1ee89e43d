"""Two hundred random graphs of edits, LoRAs, merges, unloading and interruptions: the base model stays what it was, to the last bit."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cad_engine.sandbox.evaluation import Case, target_cases

from .graph import Graph, Link
from .sandbox_graphs import QUICK, attribute, erase, painted, sandbox
from .server import Event, Server

pytestmark = [pytest.mark.comfyui, pytest.mark.slow]

GRAPHS = 200
STEPS = 2
ATTRIBUTIONS = {
    "walk-star": {"concept": "a star"},
    "walk-heart": {"concept": "a heart"},
    "walk-more-ring": {"concept": "a ring", "objective": "amplify"},
}
LORA_LAYER = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_ff_net_2"


def write_lora(path: Path) -> None:
    """A rank-4 LoRA of one layer of the sandbox, in kohya's names."""
    generator = torch.Generator().manual_seed(0)
    down, up = torch.randn(4, 256, generator=generator) * 0.1, torch.randn(64, 4, generator=generator) * 0.1
    save_file({f"{LORA_LAYER}.lora_down.weight": down, f"{LORA_LAYER}.lora_up.weight": up, f"{LORA_LAYER}.alpha": torch.tensor(4.0)}, path)


def prepare(server: Server) -> None:
    """Attributions, an edit and a LoRA as files."""
    graph = Graph()
    model, clip, _ = sandbox(graph)
    for name, settings in ATTRIBUTIONS.items():
        made = attribute(graph, model, clip, **{**QUICK, **settings})
        graph.add("CADSaveAttribution", attribution=made, name=name, overwrite=True)
        if name == "walk-star":
            edit = erase(graph, model, made)[1]
            graph.add("CADSaveEdit", edit=edit, name="walk-edit", overwrite=True)
    server.run(graph.prompt).check()
    write_lora(server.models / "loras" / "walk-lora.safetensors")


def one_step(graph: Graph, draw: random.Random, model: Link) -> tuple[str, Link]:
    """A random patch of `model`: what it is, and the patched model."""
    kind = draw.choice(["erase", "amplify", "apply", "lora", "merge"])
    strength = draw.choice([0.5, 1.0, 1.0, -0.5])
    if kind == "erase":
        name, ratio = draw.choice(["walk-star", "walk-heart"]), draw.choice([0.01, 0.03])
        loaded = graph.add("CADLoadAttribution", name=f"{name}.safetensors")
        return f"{kind} {name} {ratio} {strength}", erase(graph, model, loaded, ratio=ratio, strength=strength)[0]
    if kind == "amplify":
        loaded = graph.add("CADLoadAttribution", name="walk-more-ring.safetensors")
        added = graph.add("CADAmplify", model=model, attribution=loaded, ratio=0.01, selection="row_min1", strength=strength)
        return f"{kind} {strength}", added[0]
    if kind == "apply":
        return f"{kind} {strength}", graph.add("CADApplyEdit", model=model, edit_name="walk-edit.safetensors", strength=strength)[0]
    if kind == "lora":
        added = graph.add("LoraLoaderModelOnly", model=model, lora_name="walk-lora.safetensors", strength_model=strength)
        return f"{kind} {strength}", added[0]
    other = erase(graph, sandbox(graph)[0], graph.add("CADLoadAttribution", name="walk-heart.safetensors"))
    return f"{kind} {strength}", graph.add("ModelMergeSimple", model1=model, model2=other, ratio=abs(strength))[0]


def saved_weights(server: Server) -> dict[str, torch.Tensor]:
    """The base model as the stock node saves it."""
    graph = Graph()
    model, clip, vae = sandbox(graph)
    graph.add("CheckpointSave", model=model, clip=clip, vae=vae, filename_prefix="walk/base")
    server.free(cache=True)
    server.run(graph.prompt).check()
    newest = max((server.output / "walk").glob("base*.safetensors"), key=lambda file: file.stat().st_mtime)
    return load_file(newest)


def interrupted_attribution(server: Server, draw: random.Random) -> None:
    graph = Graph()
    model, clip, _ = sandbox(graph)
    node = attribute(graph, model, clip, seed=draw.randrange(10**6), trajectories=4, steps=4, batch=2)
    graph.add("CADSaveAttribution", attribution=node, name="walk-unused", overwrite=True)
    moment, sent = draw.random(), False

    def stop(event: Event) -> None:
        nonlocal sent
        if event.type == "progress" and event.data["node"] == node.id and event.data["value"] >= moment * event.data["max"] and not sent:
            sent = True
            server.interrupt()

    server.run(graph.prompt, on_event=stop)
    assert sent


def test_the_base_model_stays_bit_identical(server: Server) -> None:
    draw = random.Random(2024)
    prepare(server)
    scene = target_cases("star", 1, 0)[0].scene
    # Every graph paints the base with a noise of its own, so that no picture comes from ComfyUI's cache.
    cases = [Case("a red star", 1 + number, scene) for number in range(GRAPHS)]
    graph = Graph()
    loaded = sandbox(graph)
    saves = [painted(graph, *loaded, [case], steps=STEPS) for case in cases]  # one by one: decoding a batch rounds otherwise
    fresh = server.run(graph.prompt, timeout=900).check()
    expected = [server.images(fresh, save.id)[0] for save in saves]
    weights = saved_weights(server)
    seen: dict[str, bytes] = {}
    for case, picture in zip(cases, expected, strict=True):
        if draw.random() < 0.1:
            server.free(cache=draw.random() < 0.5)
        if draw.random() < 0.1:
            interrupted_attribution(server, draw)
        graph = Graph()
        base, clip, vae = sandbox(graph)
        model, chain = base, ""
        for _ in range(draw.randint(1, 4)):
            step, model = one_step(graph, draw, model)
            chain += f"{step}; "
        if draw.random() < 0.5:
            of_base = painted(graph, base, clip, vae, [case], steps=STEPS)
            of_patched = painted(graph, model, clip, vae, [Case("a red star", 0, scene)], steps=STEPS)
        else:
            of_patched = painted(graph, model, clip, vae, [Case("a red star", 0, scene)], steps=STEPS)
            of_base = painted(graph, base, clip, vae, [case], steps=STEPS)
        result = server.run(graph.prompt).check()
        assert server.images(result, of_base.id)[0].tobytes() == picture.tobytes(), chain
        patched = server.images(result, of_patched.id)[0].tobytes()
        assert seen.setdefault(chain, patched) == patched, chain
    assert len(set(seen.values())) > GRAPHS / 4  # the patches do something
    after = saved_weights(server)
    assert after.keys() == weights.keys()
    assert all(torch.equal(after[name], weights[name]) for name in weights)
