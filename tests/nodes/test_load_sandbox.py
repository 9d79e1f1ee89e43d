"""Load CAD Sandbox in a real server: ComfyUI's own nodes do with it what they do with any model."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from cad_engine.checkpoints.load import load_model
from cad_engine.generate import generate
from cad_engine.sandbox.checkpoint import SANDBOX_FILE
from cad_engine.sandbox.evaluation import CFG, STEPS, Case, other_cases, target_cases
from cad_engine.sandbox.judge import Judge
from cad_engine.sandbox.world import Scene, render
from tests.comfyui import comfyui

from .graph import Graph, Node
from .sandbox_graphs import as_tensor, painted, sandbox
from .server import Server

pytestmark = pytest.mark.comfyui

FEW = target_cases("star", 2, 3)


def pixels(server: Server, graph: Graph, *saved: Node) -> list[list[bytes]]:
    """The pictures that each of the SaveImage nodes `saved` gives when `graph` is run."""
    result = server.run(graph.prompt).check()
    return [[picture.tobytes() for picture in server.images(result, node.id)] for node in saved]


def drawn(scene: Scene) -> Image.Image:
    """A picture of `scene` that no model painted."""
    return Image.fromarray((render(scene, np.random.default_rng(0)) * 255).round().astype(np.uint8))


def test_what_the_front_end_shows(server: Server) -> None:
    node = server.object_info()["CADLoadSandbox"]
    assert node["display_name"] == "Load CAD Sandbox"
    assert node["output"] == ["MODEL", "CLIP", "VAE"]
    assert all(node["output_tooltips"])
    assert node["description"]
    assert not any(node["input"].get(kind) for kind in ("required", "optional"))


def test_paints_what_the_prompts_say(server: Server) -> None:
    cases = [*target_cases("star", 4, 0), *other_cases("star", 10, 0)]
    graph = Graph()
    painted(graph, *sandbox(graph), cases)
    pictures = as_tensor(server.images(server.run(graph.prompt).check()))
    assert pictures.shape == (len(cases), 3, 64, 64)
    right = [case.right(verdict) for case, verdict in zip(cases, Judge.load().look(pictures), strict=True)]
    assert sum(right) >= 0.9 * len(cases), [case.prompt for case, good in zip(cases, right, strict=True) if not good]


def test_the_same_pictures_as_the_engine_paints(server: Server) -> None:
    """The scheduler that chooses nearly the engine's timesteps, and the same noise."""
    cases = other_cases("star", 6, 1)
    graph = Graph()
    model, clip, vae = sandbox(graph)
    painted(graph, model, clip, vae, cases)
    for node in graph.prompt.values():
        if node["class_type"] == "KSampler":
            node["inputs"] |= {"sampler_name": "euler", "scheduler": "sgm_uniform"}
    actual = as_tensor(server.images(server.run(graph.prompt).check()))
    expected = generate(load_model("sandbox"), [case.prompt for case in cases], [case.seed for case in cases], steps=STEPS, cfg=CFG)
    distance = (actual[:, None] - expected[None]).abs().mean(dim=(2, 3, 4))  # every picture to every other
    assert distance.diag().max() < 0.01
    assert (distance + torch.eye(len(cases))).min() > 0.05


def test_loading_again_gives_the_same_pixels(server: Server) -> None:
    graph = Graph()
    first, second = (painted(graph, *sandbox(graph), FEW) for _ in range(2))
    before = pixels(server, graph, first, second)
    assert before[0] == before[1]
    assert before[0][0] != before[0][1]
    server.free(cache=True)
    assert pixels(server, graph, first, second) == before


@pytest.mark.parametrize("names", ["kohya", "comfyui"])
def test_a_lora_in_the_middle(server: Server, names: str) -> None:
    """It changes the pictures of its own copy of the model, and no others."""
    generator = torch.Generator().manual_seed(0)
    layers = {
        "kohya": {
            "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn2_to_v": (128, 128),
            "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_ff_net_2": (64, 256),
            "lora_unet_up_blocks_1_attentions_1_transformer_blocks_0_ff_net_2": (64, 256),
            "lora_te_text_model_encoder_layers_1_mlp_fc1": (512, 128),
        },
        "comfyui": {
            "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_v": (128, 128),
            "diffusion_model.output_blocks.3.1.transformer_blocks.0.ff.net.2": (64, 256),
        },
    }[names]
    tensors = {}
    for name, (out, inputs) in layers.items():
        tensors[f"{name}.lora_up.weight"] = 0.2 * torch.randn(out, 4, generator=generator)
        tensors[f"{name}.lora_down.weight"] = 0.2 * torch.randn(4, inputs, generator=generator)
    save_file(tensors, server.models / "loras" / f"sandbox-{names}.safetensors")

    graph = Graph()
    model, clip, vae = sandbox(graph)
    before = painted(graph, model, clip, vae, FEW)
    changed = []
    for strength in (1.0, 0.0):
        lora = graph.add(
            "LoraLoader", model=model, clip=clip, lora_name=f"sandbox-{names}.safetensors", strength_model=strength, strength_clip=strength
        )
        changed.append(painted(graph, lora[0], lora[1], vae, FEW))
    after = painted(graph, model, clip, vae, FEW)
    told = len(server.log())
    plain, with_it, without_it, plain_again = pixels(server, graph, before, *changed, after)
    assert all(old != new for old, new in zip(plain, with_it, strict=True))
    assert without_it == plain
    assert plain_again == plain
    assert "lora key not loaded" not in server.log()[told:]


def test_merging_and_saving_with_the_stock_nodes(server: Server) -> None:
    graph = Graph()
    model, clip, vae = sandbox(graph)
    merged = graph.add("ModelMergeSimple", model1=model, model2=sandbox(graph)[0], ratio=0.5)
    graph.add("CheckpointSave", model=merged, clip=clip, vae=vae, filename_prefix="merged")
    plain, half_and_half = pixels(server, graph, painted(graph, model, clip, vae, FEW), painted(graph, merged, clip, vae, FEW))
    assert half_and_half == plain
    saved, shipped = load_file(server.output / "merged_00001_.safetensors"), load_file(SANDBOX_FILE)
    assert saved.keys() == shipped.keys()
    assert all(torch.equal(saved[name].float(), tensor.float()) for name, tensor in shipped.items())


def test_autoencoder(server: Server) -> None:
    """A picture comes back as from the engine's, also in tiles; what is no multiple of 8 is cropped as with every other VAE."""
    original = drawn(Scene("heart", "green", "plain"))
    name = server.upload_image(original, "heart.png")
    wide = server.upload_image(original.resize((100, 66)), "wide.png")
    graph = Graph()
    vae = sandbox(graph)[2]
    latent = graph.add("VAEEncode", pixels=graph.add("LoadImage", image=name), vae=vae)
    tiled = graph.add(
        "VAEEncodeTiled", pixels=graph.add("LoadImage", image=name), vae=vae, tile_size=64, overlap=0, temporal_size=8, temporal_overlap=4
    )
    graph.add("SaveLatent", samples=latent, filename_prefix="square")
    graph.add("SaveLatent", samples=graph.add("VAEEncode", pixels=graph.add("LoadImage", image=wide), vae=vae), filename_prefix="wide")
    decoded = [
        graph.add("VAEDecode", samples=latent, vae=vae),
        graph.add("VAEDecodeTiled", samples=tiled, vae=vae, tile_size=64, overlap=0, temporal_size=8, temporal_overlap=4),
    ]
    saved = [graph.add("SaveImage", images=node, filename_prefix="decoded") for node in decoded]
    result = server.run(graph.prompt).check()
    engine = load_model("sandbox")
    with torch.no_grad():
        expected = engine.decode(engine.encode(as_tensor([original])))
    assert (expected - as_tensor([original])).abs().mean() < 0.05
    plain, in_tiles = (as_tensor(server.images(result, node.id)) for node in saved)
    assert (plain - expected).abs().max() < 1 / 128
    assert (in_tiles - expected).abs().mean() < 0.05  # every tile has borders of its own
    shapes = {prefix: tuple(load_file(server.output / f"{prefix}_00001_.latent")["latent_tensor"].shape) for prefix in ("square", "wide")}
    assert shapes == {"square": (1, 4, 8, 8), "wide": (1, 4, 8, 12)}


def test_from_a_picture_with_clip_skip_and_weighted_words(server: Server) -> None:
    name = server.upload_image(drawn(Scene("heart", "green", "plain")), "start.png")
    graph = Graph()
    model, clip, vae = sandbox(graph)
    start = graph.add("VAEEncode", pixels=graph.add("LoadImage", image=name), vae=vae)
    encoders = [clip, graph.add("CLIPSetLastLayer", clip=clip, stop_at_clip_layer=-2)]
    texts = [graph.add("CLIPTextEncode", text=text, clip=encoder) for text in ("a red heart", "a (red:1.4) heart") for encoder in encoders]
    saved = []
    for text in texts:
        sampled = graph.add(
            "KSampler",
            model=model,
            seed=0,
            steps=STEPS,
            cfg=CFG,
            sampler_name="euler",
            scheduler="normal",
            positive=text,
            negative=graph.add("CLIPTextEncode", text="", clip=clip),
            latent_image=start,
            denoise=0.85,
        )
        saved.append(graph.add("SaveImage", images=graph.add("VAEDecode", samples=sampled, vae=vae), filename_prefix="from-picture"))
    result = server.run(graph.prompt).check()
    pictures = [server.images(result, node.id)[0] for node in saved]
    assert len({picture.tobytes() for picture in pictures}) == 4
    (verdict,) = Judge.load().look(as_tensor(pictures[:1]))
    assert (verdict.scene.shape, verdict.scene.colour) == ("heart", "red")


def test_previews_show_the_picture_that_comes(server: Server) -> None:
    graph = Graph()
    case = Case("a red square", 5, Scene("square", "red", "plain"))
    saved = painted(graph, *sandbox(graph), [case])
    sampler = next(Node(id) for id, node in graph.prompt.items() if node["class_type"] == "KSampler")
    result = server.run(graph.prompt).check()
    previews = result.previews(sampler.id)
    assert len(previews) == len(result.progress(sampler.id)) >= STEPS
    final, *shown = (
        as_tensor([picture.convert("RGB").resize((8, 8), Image.Resampling.BOX)]).flatten()
        for picture in (server.images(result, saved.id)[0], *previews)
    )
    assert torch.corrcoef(torch.stack([final, shown[-1]]))[0, 1] > 0.9


def test_what_only_the_command_line_needs_is_not_needed() -> None:
    root, python = comfyui()
    script = Path(__file__).parent / "comfyui_side" / "without_extras.py"
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run([python, script], env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
