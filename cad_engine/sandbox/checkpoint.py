"""The sandbox's checkpoint file: a single-file Stable Diffusion 1.x checkpoint in fp16 that carries its own architecture.

Its weights have the names that every such checkpoint has (model.diffusion_model.*, first_stage_model.*,
cond_stage_model.transformer.text_model.*). Its metadata entry "cad_sandbox" is JSON:
{"unet": {...}, "vae": {...}, "text": {...}, "tokenizer": {"vocab": {token: id}, "merges": [[first, second], ...]}},
the first three being settings of UNet2DConditionModel, AutoencoderKL and CLIPTextConfig.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoints.reader import CheckpointFile
from ..errors import CadError
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
