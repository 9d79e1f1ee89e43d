"""Tiny models of every family in ComfyUI's own classes, and the same UNet as plain PyTorch for plain autograd."""

from __future__ import annotations

from typing import Any

import comfy.model_base
import comfy.model_patcher
import comfy.supported_models
import comfy.weight_adapter
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
from torch import Tensor

FAMILIES = ("sd1", "sd2_v", "sdxl", "inpainting")
STORAGE = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn}
SIDE = 8
_CONTEXT = {"sd1": 16, "sd2_v": 24, "sdxl": 32, "inpainting": 16}
_CONFIGS = {
    "sd1": comfy.supported_models.SD15,
    "sd2_v": comfy.supported_models.SD20,
    "sdxl": comfy.supported_models.SDXL,
    "inpainting": comfy.supported_models.SD15,
}


def unet_config(family: str) -> dict[str, Any]:
    return {
        "image_size": SIDE,
        "in_channels": 9 if family == "inpainting" else 4,
        "out_channels": 4,
        "model_channels": 64,
        "channel_mult": [1, 2],
        "num_res_blocks": [1, 1],
        "transformer_depth": [1, 2] if family == "sdxl" else [1, 1],
        "transformer_depth_output": [1, 1, 2, 2] if family == "sdxl" else [1, 1, 1, 1],
        "transformer_depth_middle": 1,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": family in ("sd2_v", "sdxl"),
        "context_dim": _CONTEXT[family],
        "adm_in_channels": 2816 if family == "sdxl" else None,
        **({"num_classes": "sequential"} if family == "sdxl" else {}),
        "use_temporal_attention": False,
        "use_temporal_resblock": False,
        "legacy": False,
    }


def make(family: str, storage: torch.dtype, seed: int = 0) -> comfy.model_patcher.ModelPatcher:
    """A MODEL of `family` whose weights are random, stored as `storage` and computed with in float32, as on this ComfyUI's CPU."""
    config = _CONFIGS[family](unet_config(family))
    config.set_inference_dtype(storage, None if storage == torch.float32 else torch.float32)
    if family == "sd2_v":
        model = comfy.model_base.BaseModel(config, comfy.model_base.ModelType.V_PREDICTION, torch.device("cpu"))
    else:
        model = config.get_model({}, "", torch.device("cpu"))
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.diffusion_model.named_parameters():
        spread = 0.1 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
        centre = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        parameter.data.copy_(centre + spread * torch.randn(parameter.shape, generator=generator))
    model.diffusion_model.eval()
    kind = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    return kind(model, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))


def conditioning(family: str, seed: int) -> list[Any]:
    """What CLIPTextEncode would give, of random numbers."""
    generator = torch.Generator().manual_seed(seed)
    context = torch.randn(1, 7, _CONTEXT[family], generator=generator)
    return [[context, {"pooled_output": torch.randn(1, 1280, generator=generator)}]]


def lora(model: comfy.model_patcher.ModelPatcher, names: list[str], seed: int = 1) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Patches of a rank-2 LoRA for the matrices `names`, and what it adds to each [out, in]."""
    generator = torch.Generator().manual_seed(seed)
    patches, deltas = {}, {}
    for name in names:
        rows, columns = model.model.get_submodule(name.removesuffix(".weight")).weight.shape
        up, down = torch.randn(rows, 2, generator=generator), torch.randn(2, columns, generator=generator) * columns**-0.5
        patches[name] = comfy.weight_adapter.LoRAAdapter({name}, (up, down, 1.0, None, None, None))
        deltas[name] = up @ down / 2  # alpha / rank
    return patches, deltas


def plain_unet(family: str, weights: dict[str, Tensor]) -> UNetModel:
    """ComfyUI's UNet with PyTorch's own layers in float64 and these weights, for plain autograd."""

    class Operations:
        Linear, Conv2d, GroupNorm, LayerNorm = torch.nn.Linear, torch.nn.Conv2d, torch.nn.GroupNorm, torch.nn.LayerNorm

        @staticmethod
        def conv_nd(dims: int, *arguments: Any, **options: Any) -> torch.nn.Module:
            return torch.nn.Conv2d(*arguments, **options)

    config = _CONFIGS[family](unet_config(family))
    with torch.inference_mode(False):
        unet = UNetModel(**config.unet_config, dtype=torch.float64, device=torch.device("cpu"), operations=Operations)
        unet.load_state_dict({name: weight.double().clone() for name, weight in weights.items()})
    return unet.eval()
