"""The components of a single-file checkpoint, built on the meta device and filled weight by weight."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from ..errors import CadError
from ..schedule import NoiseSchedule
from .components import Components
from .detect import SUPPORTED, VAE_PREFIX, Architecture, detect
from .names import inverse, rename, unet_modules, vae_modules
from .reader import CheckpointFile, Shape
from .schedules import zero_terminal_snr

M = TypeVar("M", bound=nn.Module)


def _fill(build: Callable[[], M], fetch: Callable[[str, Shape], Tensor], device: torch.device, dtype: torch.dtype) -> M:
    """What `build` makes, with every weight from `fetch(name, shape)`; nothing is allocated but the weights themselves."""
    with init_empty_weights():
        module = build()
    weights = {name: fetch(name, tuple(empty.shape)).to(device, dtype) for name, empty in module.state_dict().items()}
    module.load_state_dict(weights, assign=True)
    return module.to(device)


def _unet(file: CheckpointFile, found: Architecture, device: torch.device, dtype: torch.dtype) -> UNet2DConditionModel:
    names = inverse(unet_modules(found.unet))
    used: set[str] = set()

    def fetch(name: str, shape: Shape) -> Tensor:
        source = found.unet_prefix + rename(name, names)
        used.add(source)
        return file.tensor(source, shape)

    unet = _fill(partial(UNet2DConditionModel.from_config, found.unet), fetch, device, dtype)
    if found.unet_prefix and (unknown := [name for name in file.shapes if name.startswith(found.unet_prefix) and name not in used]):
        raise CadError(
            f"{file.path}: its UNet has {len(unknown)} weights that a {found.family} UNet has not, such as {min(unknown)}; "
            f"supported are {SUPPORTED}"
        )
    return unet


def _vae(file: CheckpointFile, config: dict[str, Any], device: torch.device, dtype: torch.dtype) -> AutoencoderKL:
    names = inverse(vae_modules(config))
    return _fill(
        partial(AutoencoderKL.from_config, config),
        lambda name, shape: file.tensor(VAE_PREFIX + rename(name, names), shape),
        device,
        dtype,
    )


def load_single_file(path: Path, device: torch.device, dtype: torch.dtype) -> Components:
    """Load the .safetensors checkpoint at `path`; CadError when it cannot be read or is not supported."""
    file = CheckpointFile(path)
    found = detect(file)
    encoders: list[CLIPTextModel | CLIPTextModelWithProjection] = []
    for encoder in found.text:
        kind = CLIPTextModelWithProjection if encoder.projected else CLIPTextModel
        config = CLIPTextConfig(**encoder.config)
        encoders.append(_fill(partial(kind, config), partial(encoder.fetch, file), device, dtype))
    schedule = NoiseSchedule.scaled_linear()
    return Components(
        family=found.family,
        prediction=found.prediction,
        schedule=zero_terminal_snr(schedule) if found.zero_terminal_snr else schedule,
        unet=_unet(file, found, device, dtype),
        vae=None if found.vae is None else _vae(file, found.vae, device, torch.promote_types(dtype, torch.float32)),
        text_encoders=tuple(encoders),
        tokenizers=tuple(encoder.make_tokenizer() for encoder in found.text),
    )
