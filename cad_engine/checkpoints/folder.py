"""The components of a diffusers folder, loaded one by one from its own files: safetensors only, no code of the folder's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import SafetensorError
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ..errors import CadError, first_line
from ..schedule import NoiseSchedule, Prediction
from .components import Components
from .detect import SUPPORTED, Family
from .names import inverse, rename, unet_modules
from .schedules import from_scheduler_config

_PIPELINES = tuple(f"StableDiffusion{kind}{task}Pipeline" for kind in ("", "XL") for task in ("", "Img2Img", "Inpaint"))


def load_folder(folder: Path, device: torch.device, dtype: torch.dtype) -> Components:
    """Load the diffusers model in `folder`; CadError when it is incomplete, damaged or not supported."""
    index = _read_json(folder, "model_index.json", "give the folder that holds it, or a single .safetensors file")
    if index.get("_class_name") not in _PIPELINES:
        raise CadError(f"{folder}: this is a {index.get('_class_name')} model; supported are {SUPPORTED}")
    scheduler = _read_json(folder, "scheduler/scheduler_config.json", "copy the folder again, whole")
    prediction = scheduler.get("prediction_type", "epsilon")
    if prediction not in ("epsilon", "v_prediction") or str(scheduler.get("_class_name")).startswith(("FlowMatch", "EDM")):
        raise CadError(
            f"{folder}: its scheduler is {scheduler.get('_class_name')} with prediction type {prediction!r}; "
            "supported are schedulers of Stable Diffusion that predict 'epsilon' or 'v_prediction'"
        )
    unet = _load(UNet2DConditionModel, folder, "unet", torch_dtype=dtype)
    family = _family(folder, unet)
    texts = _texts(folder, family, dtype)
    has_vae = (folder / "vae").is_dir()
    precise = torch.promote_types(dtype, torch.float32)
    return Components(
        family=family,
        prediction=_prediction(prediction),
        schedule=_schedule(folder, scheduler),
        unet=unet.to(device),
        vae=_load(AutoencoderKL, folder, "vae", torch_dtype=precise).to(device) if has_vae else None,
        text_encoders=tuple(encoder.to(device) for encoder, _ in texts),
        tokenizers=tuple(tokenizer for _, tokenizer in texts),
    )


def _schedule(folder: Path, config: dict[str, Any]) -> NoiseSchedule:
    try:
        return from_scheduler_config(config)
    except (NotImplementedError, TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise CadError(
            f"{folder}: its scheduler_config.json makes no noise schedule ({first_line(error)}); copy the folder again"
        ) from error


def _prediction(name: str) -> Prediction:
    return "v_prediction" if name == "v_prediction" else "epsilon"


def _read_json(folder: Path, name: str, remedy: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CadError(f"{folder}: not a complete diffusers folder, {name} is missing; {remedy}") from error
    except (OSError, ValueError) as error:
        raise CadError(f"{folder / name}: not readable as JSON ({first_line(error)}); copy the folder again") from error
    if not isinstance(content, dict):
        raise CadError(f"{folder / name}: should be a JSON object and is a {type(content).__name__}; copy the folder again")
    return content


def _load(kind: Any, folder: Path, name: str, **options: Any) -> Any:
    """One component from its sub-folder, every weight of it from a safetensors file."""
    part = folder / name
    files = [file.name for file in part.glob("*.safetensors")]
    if not files:
        raise CadError(f"{part}: it has no .safetensors file; pickled weights (.bin) are not read, convert them to .safetensors first")
    if all(".fp16." in file for file in files):
        options["variant"] = "fp16"
    try:
        module, report = kind.from_pretrained(part, local_files_only=True, use_safetensors=True, output_loading_info=True, **options)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, SafetensorError) as error:
        raise CadError(f"{part}: cannot be loaded as {kind.__name__} ({first_line(error)}); copy the folder again") from error
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise CadError(f"{part}: {len(missing)} weights of the {kind.__name__} are missing, such as {missing[0]}; copy the folder again")
    return module


def _family(folder: Path, unet: UNet2DConditionModel) -> Family:
    config = unet.config
    if config.in_channels not in (4, 9) or config.out_channels != 4 or config.time_cond_proj_dim is not None:
        raise CadError(
            f"{folder}: its UNet has {config.in_channels} input and {config.out_channels} output channels "
            f"and time_cond_proj_dim {config.time_cond_proj_dim}; supported are {SUPPORTED}"
        )
    names = inverse(unet_modules(config))
    for name in unet.state_dict():
        try:
            rename(name, names)
        except KeyError as error:
            raise CadError(f"{folder}: its UNet has a weight {name} that is not Stable Diffusion's; supported are {SUPPORTED}") from error
    if config.addition_embed_type == "text_time":
        if not (folder / "text_encoder").is_dir() and (folder / "text_encoder_2").is_dir():
            raise CadError(f"{folder}: this is the SDXL refiner; supported are {SUPPORTED}")
        return "sdxl"
    return "sd2" if config.use_linear_projection else "sd1"


def _texts(folder: Path, family: Family, dtype: torch.dtype) -> list[tuple[CLIPTextModel | CLIPTextModelWithProjection, CLIPTokenizer]]:
    """The text encoders of `family` with their tokenizers, or none when one is missing."""
    kinds = {"": CLIPTextModel, "_2": CLIPTextModelWithProjection} if family == "sdxl" else {"": CLIPTextModel}
    if not all((folder / f"text_encoder{suffix}").is_dir() for suffix in kinds):
        return []
    texts = []
    for suffix, kind in kinds.items():
        encoder = _load(kind, folder, f"text_encoder{suffix}", dtype=dtype)
        tokenizer = _tokenizer(folder / f"tokenizer{suffix}")
        if len(tokenizer) > encoder.config.vocab_size:
            raise CadError(
                f"{folder}: tokenizer{suffix} has {len(tokenizer)} tokens and text_encoder{suffix} knows {encoder.config.vocab_size}; "
                "they are not of one model, copy the folder again"
            )
        texts.append((encoder, tokenizer))
    return texts


def _tokenizer(folder: Path) -> CLIPTokenizer:
    try:
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    # The tokenizers library raises Exception itself.
    except Exception as error:
        raise CadError(f"{folder}: not a tokenizer ({first_line(error)}); copy the folder again") from error
