"""Tiny random models of every supported family, and how they are written in the original Stable Diffusion names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from cad_engine.checkpoints.clip_tokenizer import END, build_vocab, clip_merges
from cad_engine.checkpoints.names import inverse, rename, unet_modules, vae_modules

UNETS = {
    "sd1": {
        "sample_size": 64,
        "block_out_channels": (32, 64, 64),
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "cross_attention_dim": 32,
        "attention_head_dim": 8,
    },
    # Four levels, because ComfyUI's rule for v-prediction reads a weight of the last of twelve output blocks.
    "sd2": {
        "sample_size": 64,
        "block_out_channels": (64, 64, 128, 128),
        "cross_attention_dim": 64,
        "attention_head_dim": (1, 1, 2, 2),
        "use_linear_projection": True,
    },
    "sdxl": {
        "sample_size": 128,
        "block_out_channels": (64, 128, 128),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 3),
        "cross_attention_dim": 96,
        "attention_head_dim": (1, 2, 2),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 6 * 256 + 48,
    },
}
VAE = {
    "block_out_channels": (32, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "latent_channels": 4,
}
SCHEDULER = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False, "steps_offset": 1}


@dataclass(frozen=True)
class Tiny:
    """One random model and what its parts are called in the files of its family."""

    family: str
    unet: UNet2DConditionModel
    vae: AutoencoderKL
    text: tuple[CLIPTextModel | CLIPTextModelWithProjection, ...]

    def pipeline(self, scheduler: DDIMScheduler | None = None) -> StableDiffusionPipeline | StableDiffusionXLPipeline:
        """A diffusers pipeline of the same modules."""
        scheduler = scheduler or DDIMScheduler(**SCHEDULER)
        parts = {"vae": self.vae, "unet": self.unet, "scheduler": scheduler, "text_encoder": self.text[0]}
        parts["tokenizer"] = published_tokenizer("!" if self.family == "sd2" else END)
        if self.family == "sdxl":
            return StableDiffusionXLPipeline(**parts, text_encoder_2=self.text[1], tokenizer_2=published_tokenizer("!"))
        return StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)

    def tensors(self) -> dict[str, Tensor]:
        """Everything under the names of a single-file checkpoint."""
        tensors = checkpoint_names(self.unet, "model.diffusion_model.") | checkpoint_names(self.vae, "first_stage_model.")
        if self.family == "sd1":
            tensors |= hugging_face_text(self.text[0], "cond_stage_model.transformer.text_model.")
        elif self.family == "sd2":
            tensors |= open_clip_text(self.text[0], "cond_stage_model.model.", extra_layer=True)
        else:
            tensors |= hugging_face_text(self.text[0], "conditioner.embedders.0.transformer.text_model.")
            tensors |= open_clip_text(self.text[1], "conditioner.embedders.1.model.")
        return tensors

    def save(self, path: Path, extra: Mapping[str, Tensor] | None = None, drop: str | None = None) -> Path:
        """Write the single file, with `extra` tensors and without those whose name starts with `drop`."""
        tensors = {**self.tensors(), **(extra or {})}
        save_file({name: t.contiguous().clone() for name, t in tensors.items() if not (drop and name.startswith(drop))}, path)
        return path


def published_tokenizer(pad: str) -> CLIPTokenizer:
    """The tokenizer with the padding that a published folder of the family has."""
    return CLIPTokenizer(vocab=build_vocab(clip_merges()), merges=list(clip_merges()), pad_token=pad, model_max_length=77)


def checkpoint_names(module: UNet2DConditionModel | AutoencoderKL, prefix: str) -> dict[str, Tensor]:
    """The module's weights under their names in a single file; test_checkpoint_names.py holds these against other code."""
    is_vae = isinstance(module, AutoencoderKL)
    names = inverse(vae_modules(module.config) if is_vae else unet_modules(module.config))
    tensors = {prefix + rename(name, names): tensor for name, tensor in module.state_dict().items()}
    # The autoencoder's attention is made of 1x1 convolutions there.
    return {name: t[:, :, None, None] if is_vae and "attn_1" in name and t.ndim == 2 else t for name, t in tensors.items()}


def hugging_face_text(model: CLIPTextModel, prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in model.state_dict().items()}


def open_clip_text(model: nn.Module, prefix: str, extra_layer: bool = False) -> dict[str, Tensor]:
    """The model as OpenCLIP writes it; with an `extra_layer` of noise at the end, as SD 2.x files have one that is not used."""
    weights = {name.removeprefix("text_model."): tensor for name, tensor in model.state_dict().items()}
    tensors = {
        "positional_embedding": weights["embeddings.position_embedding.weight"],
        "token_embedding.weight": weights["embeddings.token_embedding.weight"],
        "ln_final.weight": weights["final_layer_norm.weight"],
        "ln_final.bias": weights["final_layer_norm.bias"],
        "logit_scale": torch.tensor(4.6),
    }
    if "text_projection.weight" in weights:
        tensors["text_projection"] = weights["text_projection.weight"].T
    layers = model.config.num_hidden_layers
    for layer in range(layers):
        ours, theirs = f"encoder.layers.{layer}", f"transformer.resblocks.{layer}"
        for leaf in ("weight", "bias"):
            tensors[f"{theirs}.attn.in_proj_{leaf}"] = torch.cat([weights[f"{ours}.self_attn.{part}_proj.{leaf}"] for part in "qkv"])
            tensors[f"{theirs}.attn.out_proj.{leaf}"] = weights[f"{ours}.self_attn.out_proj.{leaf}"]
            tensors[f"{theirs}.ln_1.{leaf}"] = weights[f"{ours}.layer_norm1.{leaf}"]
            tensors[f"{theirs}.ln_2.{leaf}"] = weights[f"{ours}.layer_norm2.{leaf}"]
            tensors[f"{theirs}.mlp.c_fc.{leaf}"] = weights[f"{ours}.mlp.fc1.{leaf}"]
            tensors[f"{theirs}.mlp.c_proj.{leaf}"] = weights[f"{ours}.mlp.fc2.{leaf}"]
    if extra_layer:
        last = f"transformer.resblocks.{layers - 1}."
        for name in [name for name in tensors if name.startswith(last)]:
            tensors[name.replace(last, f"transformer.resblocks.{layers}.")] = torch.randn_like(tensors[name])
    return {prefix + name: tensor for name, tensor in tensors.items()}


def _randomise(module: nn.Module) -> None:
    """Give every weight, biases and norms too, its own value, so that no two can be exchanged unseen."""
    with torch.no_grad():
        for name, weight in module.named_parameters():
            weight.normal_(std=0.05)
            if "norm" in name and name.endswith("weight"):
                weight.add_(1)
    module.eval().requires_grad_(False)


def _text_config(width: int, layers: int, activation: str, projection: int) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=1,
        hidden_act=activation,
        projection_dim=projection,
        eos_token_id=49407,
    )


def make_tiny(family: str, **unet_settings: object) -> Tiny:
    """A random model of `family` with some settings of its UNet changed."""
    torch.manual_seed(len(family))
    text: tuple[CLIPTextModel | CLIPTextModelWithProjection, ...]
    if family == "sd1":
        text = (CLIPTextModel(_text_config(32, 2, "quick_gelu", 32)),)
    elif family == "sd2":
        text = (CLIPTextModel(_text_config(64, 23, "gelu", 64)),)
    else:
        second = CLIPTextModelWithProjection(_text_config(64, 3, "gelu", 48))
        text = (CLIPTextModel(_text_config(32, 2, "quick_gelu", 32)), second)
    unet = UNet2DConditionModel(**{**UNETS[family], **unet_settings})
    vae = AutoencoderKL(**VAE, scaling_factor=0.13025 if family == "sdxl" else 0.18215)
    for module in (unet, vae, *text):
        _randomise(module)
    return Tiny(family, unet, vae, text)


def same(actual: Tensor, expected: Tensor) -> None:
    """Equal but for the last bits, which depend on how the weights happen to be aligned in memory."""
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
