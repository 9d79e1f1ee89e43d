"""Single files that cannot be used are refused in one line that names the file and what was found."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from cad_engine.checkpoints.load import load_model
from cad_engine.errors import CadError

from .tiny_checkpoints import Tiny

INPUT = "model.diffusion_model.input_blocks.0.0.weight"
QUERY = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"


def refused(path: Path, words: str) -> None:
    with pytest.raises(CadError, match=words) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing(tmp_path: Path) -> None:
    refused(tmp_path / "none.safetensors", "no such file")


def test_a_hub_name_is_not_downloaded() -> None:
    refused(Path("stabilityai/stable-diffusion-2-1"), "never downloaded")


def test_pickle(tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    torch.save({"weight": torch.zeros(1)}, path)
    refused(path, r"convert it to \.safetensors")


@pytest.mark.parametrize("content", [b"", b"not safetensors at all", None], ids=["empty", "other", "truncated"])
def test_damaged(content: bytes | None, files: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(files["sd1"].read_bytes()[:100_000] if content is None else content)
    refused(path, "not a complete safetensors file")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight", "Stable Diffusion 3"),
        ("double_blocks.0.img_attn.qkv.weight", "Flux"),
        ("lora_unet_down_blocks_0.lora_down.weight", "a LoRA"),
        ("down_blocks.0.resnets.0.conv1.weight", "a folder with model_index.json"),
        ("control_model.zero_convs.0.0.weight", "a ControlNet"),
        ("first_stage_model.decoder.up.0.block.0.conv1.weight", "an autoencoder without a UNet"),
        ("something.weight", "something.weight"),
    ],
)
def test_other_models(name: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({name: torch.zeros(1)}, path)
    refused(path, words)


@pytest.mark.parametrize(
    ("family", "extra", "words"),
    [
        ("sd1", {INPUT: torch.zeros(32, 7, 3, 3)}, "7 input channels"),
        ("sd1", {INPUT: torch.zeros(16, 4, 3, 3)}, r"\[16, 4, 3, 3\] where \[32, 4, 3, 3\]"),
        ("sd1", {"model.diffusion_model.input_blocks.1.1.time_stack.0.weight": torch.zeros(1)}, "video"),
        ("sd1", {"model.diffusion_model.heatmap_head.weight": torch.zeros(1)}, "heatmap_head"),
        ("sd1", {QUERY: torch.zeros(32, 32, dtype=torch.int8)}, "quantised"),
        ("sdxl", {"edm_mean": torch.zeros(4)}, "EDM"),
    ],
)
def test_relatives_and_wrong_shapes(family: str, extra: dict[str, Tensor], words: str, tiny: dict[str, Tiny], tmp_path: Path) -> None:
    refused(tiny[family].save(tmp_path / "model.safetensors", extra=extra), words)


@pytest.mark.parametrize(
    ("drop", "words"),
    [
        ("model.diffusion_model.out.2.", "out.2.weight"),
        ("model.diffusion_model.middle_block.", "0 transformer blocks in the middle"),
        ("first_stage_model.quant_conv.", "first_stage_model.quant_conv.weight"),
        ("cond_stage_model.transformer.text_model.final_layer_norm.", "final_layer_norm.weight"),
    ],
)
def test_missing_weights(drop: str, words: str, tiny: dict[str, Tiny], tmp_path: Path) -> None:
    refused(tiny["sd1"].save(tmp_path / "model.safetensors", drop=drop), words)


def test_sdxl_refiner(tmp_path: Path) -> None:
    prefix = "model.diffusion_model."
    path = tmp_path / "refiner.safetensors"
    weights = {
        f"{prefix}input_blocks.0.0.weight": torch.zeros(384, 4, 3, 3),
        f"{prefix}label_emb.0.0.weight": torch.zeros(8, 2560),
        f"{prefix}input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight": torch.zeros(8, 1280),
    }
    save_file(weights, path)
    refused(path, "the SDXL refiner")


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_missing_text_encoder_is_told_when_it_is_needed(family: str, tiny: dict[str, Tiny], tmp_path: Path) -> None:
    drop = {"sd1": "cond_stage_model.", "sdxl": "conditioner.embedders.1."}[family]
    path = tiny[family].save(tmp_path / "model.safetensors", drop=drop)
    denoiser = load_model(path)
    with pytest.raises(CadError, match="no text encoder") as caught:
        denoiser.encode_prompt("a cat")
    assert str(path) in str(caught.value)


def test_missing_autoencoder_is_told_when_it_is_needed(tiny: dict[str, Tiny], tmp_path: Path) -> None:
    path = tiny["sd1"].save(tmp_path / "model.safetensors", drop="first_stage_model.")
    denoiser = load_model(path)
    denoiser.encode_prompt("a cat")
    for use in (lambda: denoiser.decode(torch.zeros(1, 4, 8, 8)), lambda: denoiser.encode(torch.zeros(1, 3, 64, 64))):
        with pytest.raises(CadError, match="no autoencoder") as caught:
            use()
        assert str(path) in str(caught.value)


CROSS_KEY = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"


@pytest.mark.parametrize(
    ("drop", "add"),
    [
        (INPUT, {INPUT: (4,)}),
        (CROSS_KEY, {CROSS_KEY: (4,)}),
        ("model.diffusion_model.middle_block.1.proj_in.weight", {}),
        ("first_stage_model.encoder.down.1.block.0.conv1.weight", {}),
        (None, {"cond_stage_model.transformer.text_model.encoder.layers.100000000.x": (1,)}),
        (None, {"model.diffusion_model.middle_block.1.transformer_blocks.100000000.x": (1,)}),
    ],
    ids=["1-D input", "1-D key", "no middle projection", "no level of the autoencoder", "endless text layers", "endless blocks"],
)
def test_a_damaged_layout_is_refused(drop: str | None, add: dict[str, tuple[int, ...]], files: dict[str, Path], tmp_path: Path) -> None:
    tensors = load_file(files["sd1"])
    tensors.pop(drop or "", None)
    save_file({**tensors, **{name: torch.zeros(shape) for name, shape in add.items()}}, tmp_path / "odd.safetensors")
    with pytest.raises(CadError) as caught:
        load_model(tmp_path / "odd.safetensors")
    assert "odd.safetensors" in str(caught.value)
    assert "\n" not in str(caught.value)
