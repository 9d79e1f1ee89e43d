"""LoRAs, fused into a pipeline's weights."""

from __future__ import annotations

from pathlib import Path

from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from torch import nn

from ..errors import CadError
from .reader import CheckpointFile

_COMPONENTS = ("unet", "text_encoder", "text_encoder_2")
_TEXT_NAMES = ("lora_te", "text_encoder")


def fuse_lora(pipeline: StableDiffusionPipeline | StableDiffusionXLPipeline, path: Path, scale: float) -> None:
    """Add `scale` times the LoRA at `path` to the weights of `pipeline`, which keeps its plain modules.

    Kohya's and diffusers' (PEFT) names are understood. Raises CadError when the file is missing, not a LoRA, or made for
    another model; the pipeline may be half changed then and must not be used.
    """
    names = CheckpointFile(path).shapes
    if pipeline.text_encoder is None and any(name.startswith(_TEXT_NAMES) for name in names):
        raise CadError(f"{path}: this LoRA changes the text encoder too, and the model has none; use a full checkpoint of the same model")
    parts: dict[str, nn.Module] = {name: part for name in _COMPONENTS if (part := getattr(pipeline, name, None)) is not None}
    try:
        pipeline.load_lora_weights(str(path.parent), weight_name=path.name, local_files_only=True, use_safetensors=True)
        loaded = [name for name, part in parts.items() if getattr(part, "peft_config", None)]
        pipeline.fuse_lora(components=loaded, lora_scale=scale)
    # The converters meet files they were not made for, and fail in whatever way they come to.
    except Exception as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CadError(f"{path}: not a LoRA for this model ({reason[0]}); use one that was trained for the same base model") from error
    pipeline.unload_lora_weights()
    for part in parts.values():
        part.requires_grad_(False)
