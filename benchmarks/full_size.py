"""UNets of Stable Diffusion's full size with random weights: shapes, memory and time are those of real ones."""

from __future__ import annotations

import resource
import sys
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from cad_engine.checkpoints.components import Components
from cad_engine.checkpoints.denoiser import DiffusersDenoiser, PromptConditioning
from cad_engine.schedule import NoiseSchedule

UNETS: dict[str, dict[str, Any]] = {
    "sd1": {"cross_attention_dim": 768},  # diffusers' defaults are Stable Diffusion 1.x
    "sdxl": {
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": [1, 2, 10],
        "attention_head_dim": [5, 10, 20],
        "cross_attention_dim": 2048,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
        "use_linear_projection": True,
    },
}
PIXELS_PER_LATENT = 8


class RandomDenoiser(DiffusersDenoiser):
    """A UNet of full size with random weights, whose prompts have random conditionings."""

    def encode_prompt(self, prompt: str) -> PromptConditioning:
        """A random conditioning of the right shape, the same for the same prompt."""
        generator = torch.Generator().manual_seed(sum(map(ord, prompt)))
        context = torch.randn(1, 77, self.unet.config.cross_attention_dim, generator=generator)
        return PromptConditioning(context, torch.randn(1, 1280, generator=generator) if self.family == "sdxl" else None)


def random_denoiser(model: str, device: str, dtype: torch.dtype) -> RandomDenoiser:
    """The UNet of `model`, with weights as small as trained ones are."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNETS[model])
    unet = unet.to(dtype).to_empty(device=device)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            _ = parameter.normal_(0, 0.02) if parameter.ndim > 1 else parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    parts = Components(model, "epsilon", NoiseSchedule.scaled_linear(), unet, None, (), ())  # type: ignore[arg-type]
    return RandomDenoiser(parts.pipeline(), model, "epsilon", parts.schedule, f"random {model}")  # type: ignore[arg-type]


def memory(device: str) -> float:
    """The peak so far, in GiB."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)
