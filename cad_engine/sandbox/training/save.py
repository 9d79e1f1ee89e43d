"""Writing the sandbox's checkpoint file, in the form that ..checkpoint describes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPTextModel

from ...checkpoints.names import inverse, rename, unet_modules, vae_modules
from ...errors import CadError
from ...files import written_whole
from ..architecture import UNET_CONFIG, VAE_CONFIG, text_config
from ..checkpoint import METADATA_KEY


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
