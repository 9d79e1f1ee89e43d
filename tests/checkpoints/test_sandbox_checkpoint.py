"""The sandbox's checkpoint file, with random weights in the sandbox's architecture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel

from cad_engine.checkpoints.load import load_model
from cad_engine.errors import CadError
from cad_engine.sandbox import tokenizer
from cad_engine.sandbox.architecture import UNET_CONFIG, VAE_CONFIG, text_config
from cad_engine.sandbox.checkpoint import METADATA_KEY, read_config
from cad_engine.sandbox.training.save import save_sandbox

from .tiny_checkpoints import same


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    """Modules whose weights fp16 holds exactly."""
    torch.manual_seed(0)
    vocab, merges = tokenizer.vocabulary()
    modules = {
        "unet": UNet2DConditionModel(**UNET_CONFIG),
        "vae": AutoencoderKL(**VAE_CONFIG),
        "text_model": CLIPTextModel(CLIPTextConfig(**text_config(len(vocab)))),
    }
    for module in modules.values():
        module.half().float().eval().requires_grad_(False)
    return {**modules, "vocab": vocab, "merges": merges}


@pytest.fixture(scope="module")
def sandbox_file(parts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sandbox") / "sandbox.safetensors"
    save_sandbox(path, **parts)
    return path


def test_round_trip_is_exact(parts: dict[str, Any], sandbox_file: Path, tmp_path: Path) -> None:
    denoiser = load_model(sandbox_file)
    tokenizer.write(tmp_path, parts["vocab"], parts["merges"])
    ids = tokenizer.load(tmp_path)("a red star!", padding="max_length", return_tensors="pt").input_ids
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([3, 900])
    with torch.no_grad():
        context = parts["text_model"](ids).last_hidden_state
        eps = parts["unet"](x, t, context.expand(2, -1, -1)).sample
        pictures = (parts["vae"].decode(x / VAE_CONFIG["scaling_factor"]).sample / 2 + 0.5).clamp(0, 1)
    conditioning = denoiser.encode_prompt("a red star!")
    assert (denoiser.family, denoiser.latent_shape, denoiser.vae_scale) == ("sandbox", (4, 8, 8), 8)
    same(conditioning.context, context)
    same(denoiser.eps(x, t, conditioning), eps)
    same(denoiser.decode(x), pictures)
    for name, weight in parts["unet"].state_dict().items():
        assert torch.equal(denoiser.unet.state_dict()[name], weight)


def test_file_is_a_half_precision_sd1_checkpoint_that_describes_itself(parts: dict[str, Any], sandbox_file: Path) -> None:
    tensors = load_file(sandbox_file)
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float16}
    assert tensors["model.diffusion_model.input_blocks.0.0.weight"].shape == (64, 4, 3, 3)
    assert tensors["first_stage_model.encoder.mid.attn_1.q.weight"].shape == (64, 64, 1, 1)
    assert "cond_stage_model.transformer.text_model.encoder.layers.1.mlp.fc2.weight" in tensors
    config = read_config(sandbox_file)
    assert config.unet == json.loads(json.dumps(UNET_CONFIG))
    assert config.vae == json.loads(json.dumps(VAE_CONFIG))
    assert config.text == text_config(len(parts["vocab"]))
    assert (config.vocab, config.merges) == (parts["vocab"], parts["merges"])
    assert [file.name for file in sandbox_file.parent.iterdir()] == [sandbox_file.name]


def test_weights_beyond_fp16_are_refused_and_leave_nothing(parts: dict[str, Any], tmp_path: Path) -> None:
    class Huge:
        config = parts["text_model"].config

        def state_dict(self) -> dict[str, torch.Tensor]:
            return {"final_layer_norm.weight": torch.tensor([1e6])}

    with pytest.raises(CadError, match="not finite in fp16"):
        save_sandbox(tmp_path / "sandbox.safetensors", **{**parts, "text_model": Huge()})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("entry", [None, "{", "[]", '{"unet": {}}', '{"unet": {}, "vae": {}, "text": {}, "tokenizer": 3}'])
def test_foreign_metadata_is_refused(entry: str | None, tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(1)}, path, metadata=None if entry is None else {METADATA_KEY: entry})
    with pytest.raises(CadError, match=METADATA_KEY) as caught:
        read_config(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
