from __future__ import annotations

import random

import pytest

from cad_engine.checkpoints.names import MODEL_PREFIX, inverse, rename, unet_modules
from cad_engine.report.unet_map import layer_label, locate, natural_key, u_order
from tests.report.attributions import SD15, SDXL, ff_names
from tests.tiny_models import FAMILIES, tiny_denoiser


@pytest.mark.parametrize(("model", "count"), [(SD15, 32), (SDXL, 140)])
def test_feed_forward_layers_of_real_models_sort_in_the_order_of_computation(model: dict[str, int], count: int) -> None:
    names = ff_names(model)
    assert len(names) == count
    shuffled = random.Random(0).sample(names, len(names))
    assert u_order(shuffled) == names
    assert len({layer_label(name) for name in names}) == count


@pytest.mark.parametrize(
    ("name", "side", "block", "label"),
    [
        ("diffusion_model.input_blocks.4.1.transformer_blocks.0.ff.net.2.weight", "down", 4, "in 4 · block 0 · ff out"),
        ("diffusion_model.input_blocks.1.1.transformer_blocks.0.ff.net.0.proj.weight", "down", 1, "in 1 · block 0 · ff in"),
        ("diffusion_model.middle_block.1.transformer_blocks.9.attn1.to_q.weight", "mid", 1, "mid 1 · block 9 · self q"),
        ("diffusion_model.output_blocks.5.1.transformer_blocks.1.attn2.to_k.weight", "up", 5, "out 5 · block 1 · cross k"),
        ("diffusion_model.output_blocks.11.1.transformer_blocks.0.attn2.to_out.0.weight", "up", 11, "out 11 · block 0 · cross out"),
        ("diffusion_model.input_blocks.7.0.emb_layers.1.weight", "down", 7, "in 7 · time emb"),
        ("diffusion_model.middle_block.2.emb_layers.1.weight", "mid", 2, "mid 2 · time emb"),
        ("diffusion_model.input_blocks.4.1.proj_in.weight", "down", 4, "in 4 · proj in"),
        ("diffusion_model.output_blocks.2.2.conv.weight", "up", 2, "out 2 · upsample"),
        ("diffusion_model.time_embed.0.weight", "embed", None, "embed · time in"),
        ("diffusion_model.label_emb.0.2.weight", "embed", None, "embed · label out"),
        ("diffusion_model.out.2.weight", "up", None, "out · last conv"),
        ("model.diffusion_model.input_blocks.4.1.proj_out.weight", "down", 4, "in 4 · proj out"),
        ("double_blocks.0.img_attn.qkv.weight", "other", None, "double_blocks.0.img_attn.qkv"),
        ("", "other", None, ""),
        ("diffusion_model.input_blocks." + "9" * 9999 + ".1.proj_in.weight", "other", None, None),
    ],
)
def test_places(name: str, side: str, block: int | None, label: str | None) -> None:
    place = locate(name)
    assert (place.side, place.block) == (side, block)
    assert label is None or place.label == label
    assert len(place.label) <= 60


@pytest.mark.parametrize("family", FAMILIES)
def test_every_linear_layer_of_a_unet_is_known_and_ordered_as_it_runs(family: str) -> None:
    denoiser = tiny_denoiser(family)
    names = list(denoiser.layers)
    assert all(locate(name).side != "other" for name in names)
    assert len({layer_label(name) for name in names}) == len(names)
    # diffusers declares blocks in its own order; what a transformer block runs is in the order of its parts.
    known = inverse(unet_modules(denoiser.unet.config))
    expected = [MODEL_PREFIX + rename(f"mid_block.attentions.0.{part}", known) + ".weight" for part in _middle_parts(denoiser)]
    assert [name for name in u_order(names) if "middle_block.1." in name] == expected


def _middle_parts(denoiser) -> list[str]:
    blocks = len(denoiser.unet.mid_block.attentions[0].transformer_blocks)
    attention = [f"{kind}.{part}" for kind in ("attn1", "attn2") for part in ("to_q", "to_k", "to_v", "to_out.0")]
    inner = [f"transformer_blocks.{n}.{part}" for n in range(blocks) for part in [*attention, "ff.net.0.proj", "ff.net.2"]]
    linear = denoiser.unet.config.use_linear_projection
    return ["proj_in", *inner, "proj_out"] if linear else inner


def test_unknown_names_come_last_in_natural_order() -> None:
    known = "diffusion_model.output_blocks.11.1.proj_out.weight"
    assert u_order(["b.10.weight", "b.9.weight", known, "a.1.weight"]) == [known, "a.1.weight", "b.9.weight", "b.10.weight"]


def test_natural_key_takes_numbers_of_any_length() -> None:
    long = "1" * 10_000
    assert sorted([f"a{long}", "a2", "a10", "a", "2"], key=natural_key) == ["2", "a", "a2", "a10", f"a{long}"]
