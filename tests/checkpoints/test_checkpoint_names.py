"""Names of weights and recognition by shapes, held against diffusers' converters, the published configurations and ComfyUI."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)
from torch import Tensor

from cad_engine.checkpoints.detect import detect
from cad_engine.checkpoints.names import inverse, rename, unet_modules, vae_modules
from cad_engine.sandbox.architecture import UNET_CONFIG
from tests.comfyui import comfyui

from .tiny_checkpoints import Tiny

SD1: dict[str, Any] = {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8}
SD2: dict[str, Any] = {
    "sample_size": 64,
    "cross_attention_dim": 1024,
    "attention_head_dim": [5, 10, 20, 20],
    "use_linear_projection": True,
}
SDXL: dict[str, Any] = {
    "sample_size": 128,
    "block_out_channels": [320, 640, 1280],
    "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
    "transformer_layers_per_block": [1, 2, 10],
    "cross_attention_dim": 2048,
    "attention_head_dim": [5, 10, 20],
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
FULL_SIZE = {
    "sd1": SD1,
    "sd1-inpaint": {**SD1, "in_channels": 9},
    "sd2": SD2,
    "sdxl": SDXL,
    "sdxl-inpaint": {**SDXL, "in_channels": 9},
    "sandbox": UNET_CONFIG,
}
"""The configurations that the published models have in diffusers' own format."""


def full_size_unet(name: str) -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel(**FULL_SIZE[name])


def checkpoint_unet(unet: UNet2DConditionModel, prefix: str = "") -> dict[str, Tensor]:
    names = inverse(unet_modules(unet.config))
    return {prefix + rename(name, names): weight for name, weight in unet.state_dict().items()}


def shapes(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(weight.shape) for name, weight in weights.items()}


@dataclass
class ShapesOnly:
    """A checkpoint file of which only the names and shapes are there."""

    shapes: dict[str, tuple[int, ...]]
    path: Path = Path("shapes.safetensors")
    metadata: dict[str, str] = field(default_factory=dict)

    def tensor(self, name: str, shape: tuple[int, ...]) -> Tensor:
        return torch.zeros(shape)


@pytest.mark.parametrize("name", FULL_SIZE)
def test_unet_names_are_what_diffusers_converts_from(name: str) -> None:
    unet = full_size_unet(name)
    weights = checkpoint_unet(unet, "model.diffusion_model.")
    assert len(weights) == len(unet.state_dict())
    # The converter knows layers_per_block as one number only, as all these models have it.
    assert shapes(convert_ldm_unet_checkpoint(weights, unet.config)) == shapes(unet.state_dict())


@pytest.mark.parametrize("name", FULL_SIZE)
def test_names_come_back(name: str) -> None:
    unet = full_size_unet(name)
    modules = unet_modules(unet.config)
    assert [rename(checkpoint, modules) for checkpoint in checkpoint_unet(unet)] == list(unet.state_dict())


def test_autoencoder_names_are_what_diffusers_converts_from() -> None:
    config = {
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
    }
    with torch.device("meta"):
        vae = AutoencoderKL(**config)
    names = inverse(vae_modules(vae.config))
    weights = {"first_stage_model." + rename(name, names): weight for name, weight in vae.state_dict().items()}
    assert shapes(convert_ldm_vae_checkpoint(weights, vae.config)) == shapes(vae.state_dict())


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl", "inpaint"])
def test_tiny_files_convert_with_diffusers_to_the_same_weights(name: str, tiny: dict[str, Tiny]) -> None:
    model = tiny[name]
    tensors = model.tensors()
    for converted, module in (
        (convert_ldm_unet_checkpoint(dict(tensors), model.unet.config), model.unet),
        (convert_ldm_vae_checkpoint(dict(tensors), model.vae.config), model.vae),
    ):
        weights = module.state_dict()
        assert converted.keys() == weights.keys()
        assert all(torch.equal(converted[key], weight) for key, weight in weights.items())


def test_tiny_open_clip_converts_with_diffusers_to_the_same_weights(tiny: dict[str, Tiny]) -> None:
    encoder = tiny["sdxl"].text[1]
    converted = convert_open_clip_checkpoint(encoder, tiny["sdxl"].tensors(), prefix="conditioner.embedders.1.model.")
    weights = encoder.state_dict()
    assert converted.keys() >= weights.keys()
    assert all(torch.equal(converted[key], weight) for key, weight in weights.items())


@pytest.mark.parametrize("name", [name for name in FULL_SIZE if name != "sandbox"])
def test_full_size_models_are_recognised_by_their_shapes(name: str) -> None:
    unet = full_size_unet(name)
    found = detect(ShapesOnly(shapes(checkpoint_unet(unet, "model.diffusion_model."))))  # type: ignore[arg-type]
    with torch.device("meta"):
        again = UNet2DConditionModel(**found.unet)
    assert shapes(again.state_dict()) == shapes(unet.state_dict())
    heads = [module.heads for module in unet.modules() if hasattr(module, "heads")]
    assert [module.heads for module in again.modules() if hasattr(module, "heads")] == heads
    assert found.family == name.partition("-")[0]
    assert found.unet["sample_size"] == unet.config.sample_size
    assert (found.vae, found.text) == (None, ())


@pytest.mark.comfyui
def test_unet_names_are_comfyuis() -> None:
    root, python = comfyui()
    ours = {name: shapes(checkpoint_unet(full_size_unet(name))) for name in FULL_SIZE if name != "sandbox"}
    done = subprocess.run(
        [python, Path(__file__).with_name("comfyui_names.py")],
        input=json.dumps(ours),
        env={**os.environ, "PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = json.loads(done.stdout)
    for name, weights in ours.items():
        assert {weight: tuple(shape) for weight, shape in theirs[name].items()} == weights
