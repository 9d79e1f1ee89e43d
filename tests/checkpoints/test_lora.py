"""LoRAs are added to the weights exactly, whatever they are called, and leave plain modules behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cad_engine.checkpoints.load import load_model
from cad_engine.errors import CadError

from .tiny_checkpoints import Tiny

RANK, ALPHA, SCALE = 3, 1.5, 0.7
FF = "diffusion_model.input_blocks.1.1.transformer_blocks.0.ff.net.2.weight"


def low_rank(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(down [RANK, in], up [out, RANK]) for `weight` [out, in]."""
    generator = torch.Generator().manual_seed(weight.shape[0])
    return torch.randn(RANK, weight.shape[1], generator=generator), torch.randn(weight.shape[0], RANK, generator=generator)


def expected(weight: Tensor, scale: float = SCALE) -> Tensor:
    down, up = low_rank(weight)
    return weight + scale * ALPHA / RANK * up @ down


def kohya(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, weight in weights.items():
        tensors[f"{name}.lora_down.weight"], tensors[f"{name}.lora_up.weight"] = low_rank(weight)
        tensors[f"{name}.alpha"] = torch.tensor(ALPHA)
    return tensors


def save(path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file(tensors, path)
    return path


def all_weights(denoiser: Any) -> dict[str, Tensor]:
    encoders = {"text_encoder": denoiser.pipeline.text_encoder, "text_encoder_2": getattr(denoiser.pipeline, "text_encoder_2", None)}
    parts = {"unet": denoiser.unet, **{name: part for name, part in encoders.items() if part is not None}}
    return {f"{part}.{name}": weight for part, module in parts.items() for name, weight in module.state_dict().items()}


def check(base: Any, changed: Any, touched: dict[str, float]) -> None:
    """Weights named in `touched` have the LoRA added at that scale, all others and all modules are as before."""
    before, after = all_weights(base), all_weights(changed)
    assert before.keys() == after.keys()
    for name, weight in before.items():
        if name in touched:
            torch.testing.assert_close(after[name], expected(weight, touched[name]))
        else:
            assert torch.equal(after[name], weight)
    assert [type(module) for module in changed.unet.modules()] == [type(module) for module in base.unet.modules()]
    assert list(changed.layers) == list(base.layers)
    assert all(type(module) is nn.Linear for module in changed.layers.values())
    assert not any(weight.requires_grad for weight in changed.unet.parameters())


def test_kohya_names(files: dict[str, Path], tmp_path: Path) -> None:
    base = load_model(files["sd1"])
    text = base.pipeline.text_encoder.encoder.layers[1].mlp.fc1.weight
    lora = save(
        tmp_path / "style.safetensors",
        kohya(
            {
                "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_ff_net_2": base.layers[FF].weight,
                "lora_te_text_model_encoder_layers_1_mlp_fc1": text,
            }
        ),
    )
    touched = {"unet.down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2.weight", "text_encoder.encoder.layers.1.mlp.fc1.weight"}
    check(base, load_model(files["sd1"], loras=[(lora, SCALE)]), dict.fromkeys(touched, SCALE))


def test_two_loras_add_up(files: dict[str, Path], tmp_path: Path) -> None:
    base = load_model(files["sd1"])
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_ff_net_2"
    lora = save(tmp_path / "style.safetensors", kohya({name: base.layers[FF].weight}))
    changed = load_model(files["sd1"], loras=[(lora, 0.25), (lora, 0.5)])
    check(base, changed, {"unet.down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2.weight": 0.75})


def test_kohya_names_of_sdxl(files: dict[str, Path], tmp_path: Path) -> None:
    base = load_model(files["sdxl"])
    query = base.layers["diffusion_model.input_blocks.4.1.transformer_blocks.1.attn2.to_q.weight"].weight
    fc1 = base.pipeline.text_encoder.encoder.layers[1].mlp.fc1.weight
    fc2 = base.pipeline.text_encoder_2.text_model.encoder.layers[2].mlp.fc2.weight
    lora = save(
        tmp_path / "style.safetensors",
        kohya(
            {
                "lora_unet_input_blocks_4_1_transformer_blocks_1_attn2_to_q": query,
                "lora_te1_text_model_encoder_layers_1_mlp_fc1": fc1,
                "lora_te2_text_model_encoder_layers_2_mlp_fc2": fc2,
            }
        ),
    )
    touched = {
        "unet.down_blocks.1.attentions.0.transformer_blocks.1.attn2.to_q.weight",
        "text_encoder.encoder.layers.1.mlp.fc1.weight",
        "text_encoder_2.text_model.encoder.layers.2.mlp.fc2.weight",
    }
    check(base, load_model(files["sdxl"], loras=[(lora, SCALE)]), dict.fromkeys(touched, SCALE))


def test_diffusers_names(files: dict[str, Path], tmp_path: Path) -> None:
    base = load_model(files["sd1"])
    down, up = low_rank(base.layers[FF].weight)
    name = "unet.down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2"
    lora = save(tmp_path / "style.safetensors", {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up * ALPHA / RANK})
    check(base, load_model(files["sd1"], loras=[(lora, SCALE)]), {f"{name}.weight": SCALE})


def test_a_lora_goes_on_a_unet_without_text_encoder(tiny: dict[str, Tiny], tmp_path: Path) -> None:
    unet = tiny["sd1"].save(tmp_path / "unet.safetensors", drop="cond_stage_model.")
    base = load_model(unet)
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_ff_net_2"
    lora = save(tmp_path / "style.safetensors", kohya({name: base.layers[FF].weight}))
    check(base, load_model(unet, loras=[(lora, SCALE)]), {"unet.down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2.weight": SCALE})


def test_a_lora_for_the_text_encoder_needs_one(tiny: dict[str, Tiny], tmp_path: Path) -> None:
    unet = tiny["sd1"].save(tmp_path / "unet.safetensors", drop="cond_stage_model.")
    lora = save(tmp_path / "style.safetensors", kohya({"lora_te_text_model_encoder_layers_1_mlp_fc1": torch.zeros(64, 32)}))
    with pytest.raises(CadError, match="changes the text encoder too"):
        load_model(unet, loras=[(lora, SCALE)])


NAME = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_ff_net_2"


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"weight": torch.zeros(2)}, "not a LoRA for this model"),
        (kohya({NAME: torch.zeros(48, 96)}), "not a LoRA for this model"),
        (kohya({"lora_unet_single_blocks_3_linear1": torch.zeros(8, 8)}), "not a LoRA for this model"),
    ],
    ids=["no LoRA", "other widths", "other architecture"],
)
def test_unsuitable_loras_are_refused(tensors: dict[str, Tensor], words: str, files: dict[str, Path], tmp_path: Path) -> None:
    lora = save(tmp_path / "style.safetensors", tensors)
    with pytest.raises(CadError, match=words) as caught:
        load_model(files["sd1"], loras=[(lora, 1.0)])
    assert str(lora) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_lora_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CadError, match="no such file"):
        load_model(files["sd1"], loras=[(tmp_path / "none.safetensors", 1.0)])
