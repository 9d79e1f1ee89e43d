"""Loading a model from wherever it is; nothing is ever downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from ..errors import CadError
from ..sandbox.checkpoint import SANDBOX_FILE
from .denoiser import DiffusersDenoiser
from .folder import load_folder
from .lora import fuse_lora
from .single_file import load_single_file


def load_model(
    source: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    prediction: Literal["auto", "epsilon", "v_prediction"] = "auto",
    loras: Sequence[tuple[str | Path, float]] = (),
) -> DiffusersDenoiser:
    """Load the model at `source` on `device`, its UNet and text encoders in `dtype`.

    Args:
        source: a diffusers folder (with model_index.json), a single-file .safetensors checkpoint of Stable Diffusion 1.x, 2.x
            or XL, or "sandbox", the small model that is shipped with this package ("./sandbox" is a folder of that name).
        device: where the model goes.
        dtype: a floating-point type. The autoencoder stays in float32 at least, because SDXL's overflows in fp16.
        prediction: what the UNet predicts, when the source is silent or wrong about it.
        loras: (.safetensors file, scale) of LoRAs in kohya's or diffusers' format, fused into the weights in this order.

    Raises CadError when the source or a LoRA is missing, damaged or not supported.
    """
    device = torch.device(device)
    path = SANDBOX_FILE if str(source) == "sandbox" else Path(source)
    if not path.exists():
        if path == SANDBOX_FILE:
            raise CadError(f"{path}: the sandbox's checkpoint is not in this installation; install the package again")
        raise CadError(f"{path}: there is no such file or folder; models are never downloaded, so give the path of a local one")
    components = load_folder(path, device, dtype) if path.is_dir() else load_single_file(path, device, dtype)
    pipeline = components.pipeline()
    for lora, scale in loras:
        fuse_lora(pipeline, Path(lora), scale)
    return DiffusersDenoiser(
        pipeline,
        components.family,
        components.prediction if prediction == "auto" else prediction,
        components.schedule,
        str(source),
    )
