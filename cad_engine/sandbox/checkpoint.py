"""The sandbox's checkpoint file: a single-file Stable Diffusion 1.x checkpoint in fp16 that carries its own architecture.

Its weights have the names that every such checkpoint has (model.diffusion_model.*, first_stage_model.*,
cond_stage_model.transformer.text_model.*). Its metadata entry "cad_sandbox" is JSON:
{"unet": {...}, "vae": {...}, "text": {...}, "tokenizer": {"vocab": {token: id}, "merges": [[first, second], ...]}},
the first three being settings of UNet2DConditionModel, AutoencoderKL and CLIPTextConfig.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextModel

from ..checkpoints.names import inverse, rename, unet_modules, vae_modules
from ..checkpoints.reader import CheckpointFile
from ..errors import CadError
from ..files import written_whole
from .architecture import UNET_CONFIG, VAE_CONFIG, text_config

SANDBOX_FILE = Path(__file__).with_name("sandbox.safetensors")
METADATA_KEY = "cad_sandbox"


@dataclass(frozen=True)
class SandboxConfig:
    """Everything but the weights: settings of UNet2DConditionModel, AutoencoderKL and CLIPTextConfig, and the tokenizer."""

    unet: dict[str, Any]
    vae: dict[str, Any]
    text: dict[str, Any]
    vocab: dict[str, int]
    merges: list[tuple[str, str]]


def parse_config(file: CheckpointFile) -> SandboxConfig:
    """The architecture that an opened sandbox checkpoint declares; CadError when it declares none, or not in this form."""
    if METADATA_KEY not in file.metadata:
        raise CadError(f"{file.path}: not a sandbox checkpoint, its metadata has no {METADATA_KEY!r}; use the one that is shipped")
    try:
        entry = json.loads(file.metadata[METADATA_KEY])
        unet, vae, text = ({**entry[part]} for part in ("unet", "vae", "text"))
        for settings, known in ((unet, UNET_CONFIG), (vae, VAE_CONFIG), (text, text_config(0))):
            if missing := known.keys() - settings.keys():
                raise KeyError(min(missing))
        for settings, key in ((unet, "layers_per_block"), (unet, "transformer_layers_per_block"), (text, "num_hidden_layers")):
            counts = settings[key] if isinstance(settings[key], (list, tuple)) else [settings[key]]
            if not all(type(count) is int and 0 < count <= 100 for count in counts):
                raise ValueError(f"{key} is {settings[key]}")
        tokenizer = entry["tokenizer"]
        vocab = {str(token): int(index) for token, index in tokenizer["vocab"].items()}
        merges = [(str(first), str(second)) for first, second in tokenizer["merges"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CadError(
            f"{file.path}: the metadata entry {METADATA_KEY!r} is not that of a sandbox checkpoint ({error!r}); use the one that is shipped"
        ) from error
    return SandboxConfig(unet, vae, text, vocab, merges)


def read_config(path: str | Path) -> SandboxConfig:
    """The architecture of the sandbox checkpoint at `path`; CadError when it is not one."""
    return parse_config(CheckpointFile(path))


def _half(name: str, tensor: Tensor) -> Tensor:
    half = tensor.detach().to("cpu", torch.float16).contiguous()
    if not half.isfinite().all():
        raise CadError(f"the weight {name} is not finite in fp16, so the checkpoint cannot be saved; train again with smaller steps")
    return half


def save_sandbox(
    path: str | Path,
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    text_model: CLIPTextModel,
    vocab: dict[str, int],
    merges: Sequence[tuple[str, str]],
) -> None:
    """Write the checkpoint to `path`, whole or not at all; CadError when a weight does not fit fp16."""
    tensors: dict[str, Tensor] = {}
    unet_names, vae_names = inverse(unet_modules(unet.config)), inverse(vae_modules(vae.config))
    for name, tensor in unet.state_dict().items():
        tensors["model.diffusion_model." + rename(name, unet_names)] = tensor
    for name, tensor in vae.state_dict().items():
        # Checkpoints hold the autoencoder's attention as 1x1 convolutions, diffusers as matrices.
        tensors["first_stage_model." + rename(name, vae_names)] = (
            tensor[:, :, None, None] if ".attentions." in name and tensor.ndim == 2 else tensor
        )
    for name, tensor in text_model.state_dict().items():
        tensors["cond_stage_model.transformer.text_model." + name.removeprefix("text_model.")] = tensor
    entry = {
        "unet": {name: unet.config[name] for name in UNET_CONFIG},
        "vae": {name: vae.config[name] for name in VAE_CONFIG},
        "text": {name: getattr(text_model.config, name) for name in text_config(0)},
        "tokenizer": {"vocab": vocab, "merges": [list(pair) for pair in merges]},
    }
    with written_whole(Path(path)) as temporary:
        save_file(
            {name: _half(name, tensor) for name, tensor in tensors.items()},
            temporary,
            metadata={METADATA_KEY: json.dumps(entry, ensure_ascii=False), "format": "pt"},
        )
