"""The sandbox as MODEL, CLIP and VAE, built from its checkpoint file with ComfyUI's own classes.

ComfyUI recognises a Stable Diffusion 1.x checkpoint by its sizes, and the sandbox has others, so the stock loader cannot read it.
"""

from __future__ import annotations

import functools
import inspect
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import comfy.clip_model
import comfy.latent_formats
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ..cad_engine.checkpoints.reader import CheckpointFile
from ..cad_engine.sandbox import tokenizer
from ..cad_engine.sandbox.checkpoint import SANDBOX_FILE, SandboxConfig, parse_config
from .sandbox_config import unet_config, vae_config


class SandboxLatents(comfy.latent_formats.SD15):
    """Stable Diffusion 1.x's scale, with colours of its own: its autoencoder means other things by the four channels."""

    def __init__(self) -> None:
        super().__init__()
        self.taesd_decoder_name = None
        # Fitted by least squares to the sandbox's pictures of all shapes, colours and styles.
        self.latent_rgb_factors = [
            [0.5355, 0.0659, -0.1525],
            [0.2599, 0.3686, -0.2803],
            [-0.1667, 0.1978, 1.0220],
            [0.0297, -0.1224, -0.1440],
        ]
        self.latent_rgb_factors_bias = [0.5171, 0.4944, 0.4941]


class Sandbox(comfy.supported_models.SD15):
    """Stable Diffusion 1.x of another size: what SD15 says of its sampling and names holds here too."""

    unet_config: dict[str, Any] = {}  # noqa: RUF012 - declared so by the base class
    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012
    latent_format = SandboxLatents


class SmallVocabulary(comfy.clip_model.CLIPTextModel):
    """CLIP's text model with as many token embeddings as its settings say; ComfyUI's own always has OpenAI's 49,408."""

    def __init__(self, config_dict: dict[str, Any], dtype: torch.dtype, device: torch.device, operations: Any) -> None:
        super().__init__(config_dict, dtype, device, operations)
        self.text_model.embeddings.token_embedding = operations.Embedding(
            config_dict["vocab_size"], config_dict["hidden_size"], dtype=dtype, device=device
        )


def _read(path: Path) -> tuple[SandboxConfig, dict[str, Tensor]]:
    """(settings, {name: weight in fp32}) of the file at `path`; CadError when it is not a whole sandbox checkpoint."""
    file = CheckpointFile(path)
    return parse_config(file), {name: file.tensor(name, shape).float() for name, shape in file.shapes.items()}


def _core_patcher(disable_dynamic: bool) -> type[ModelPatcher]:
    """The class of patchers that the stock loaders use: newer versions choose between two when they start."""
    return ModelPatcher if disable_dynamic else getattr(comfy.model_patcher, "CoreModelPatcher", ModelPatcher)


def load_unet(path: Path = SANDBOX_FILE, disable_dynamic: bool = False) -> ModelPatcher:
    """The UNet, as nodes pass it on as MODEL; CadError when the file is not a sandbox checkpoint.

    With `disable_dynamic` its weights are resident, for what cannot work with weights that are paged in on demand.
    """
    config, weights = _read(path)
    prefix = "model.diffusion_model."
    model_config = Sandbox(unet_config(config.unet))
    model_config.set_inference_dtype(torch.float32, None)
    offload_device = comfy.model_management.unet_offload_device()
    model = model_config.get_model({}, device=offload_device)
    patcher = _core_patcher(disable_dynamic)(model, load_device=comfy.model_management.get_torch_device(), offload_device=offload_device)
    assign = {"assign": patcher.is_dynamic()} if hasattr(patcher, "is_dynamic") else {}
    model.load_model_weights(weights, prefix, **assign)
    if hasattr(patcher, "cached_patcher_init"):
        patcher.cached_patcher_init = (load_unet, (path,))
    return patcher


def load_clip(path: Path = SANDBOX_FILE, disable_dynamic: bool = False) -> comfy.sd.CLIP:
    """The text encoder with its tokenizer, as nodes pass it on as CLIP; the rest as load_unet."""
    config, weights = _read(path)
    weights = Sandbox(unet_config(config.unet)).process_clip_state_dict(weights)
    text, length = config.text, config.text["max_position_embeddings"]
    settings = {
        "parameters": sum(weight.numel() for weight in weights.values()),
        "state_dict": weights,
        "disable_dynamic": disable_dynamic,
    }
    known = inspect.signature(comfy.sd.CLIP).parameters
    with TemporaryDirectory() as folder:  # ComfyUI reads a tokenizer from files, once
        tokenizer.write(Path(folder), config.vocab, config.merges)
        target = comfy.supported_models_base.ClipTarget(
            functools.partial(
                comfy.sd1_clip.SD1Tokenizer,
                tokenizer=functools.partial(
                    comfy.sd1_clip.SDTokenizer,
                    tokenizer_path=folder,
                    max_length=length,
                    embedding_size=text["hidden_size"],
                    tokenizer_args={"model_max_length": 8192},  # as ComfyUI's own: it cuts long prompts into pieces itself
                ),
            ),
            functools.partial(
                comfy.sd1_clip.SD1ClipModel,
                clip_model=functools.partial(
                    comfy.sd1_clip.SDClipModel,
                    max_length=length,
                    textmodel_json_config=text,
                    model_class=SmallVocabulary,
                    special_tokens={"start": text["bos_token_id"], "end": text["eos_token_id"], "pad": text["pad_token_id"]},
                    return_projected_pooled=False,  # the checkpoint has no projection
                ),
            ),
        )
        clip = comfy.sd.CLIP(target, **{name: value for name, value in settings.items() if name in known})
    if "state_dict" not in known:
        clip.load_sd(weights, full_model=True)
    if hasattr(clip.patcher, "cached_patcher_init"):
        clip.patcher.cached_patcher_init = (load_clip_patcher, (path,))
    return clip


def load_clip_patcher(path: Path, disable_dynamic: bool = False) -> ModelPatcher:
    """The text encoder once more, for ComfyUI's copies of it on other devices."""
    return load_clip(path, disable_dynamic).patcher


def load_vae(path: Path = SANDBOX_FILE) -> comfy.sd.VAE:
    """The autoencoder, as nodes pass it on as VAE; CadError when the file is not a sandbox checkpoint."""
    config, weights = _read(path)
    weights = comfy.utils.state_dict_prefix_replace(weights, {"first_stage_model.": ""}, filter_keys=True)
    vae = comfy.sd.VAE(sd=weights, config={"params": vae_config(config.vae)}, dtype=torch.float32)
    if hasattr(vae.patcher, "cached_patcher_init"):
        vae.patcher.cached_patcher_init = (load_vae_patcher, (path,))
    return vae


def load_vae_patcher(path: Path, disable_dynamic: bool = False) -> ModelPatcher:
    """The autoencoder once more, for ComfyUI's copies of it on other devices; a VAE cannot choose its kind of patcher."""
    return load_vae(path).patcher
