"""Real UNet classes, small enough for exact checks: Stable Diffusion 1.x, 2.x (v prediction) and XL in shape, random weights."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import UNet2DConditionModel

from cad_engine.checkpoints.components import Components
from cad_engine.checkpoints.denoiser import DiffusersDenoiser, PromptConditioning
from cad_engine.schedule import NoiseSchedule

CONTEXT_WIDTH, POOLED_WIDTH, TIME_ID_WIDTH = 24, 16, 8

_COMMON: dict[str, Any] = {
    "sample_size": 8,
    "block_out_channels": (32, 64),
    "layers_per_block": 1,
    "cross_attention_dim": CONTEXT_WIDTH,
    "norm_num_groups": 8,  # with one channel a group, time embeddings would have no effect at all
}
_CROSS = {
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}
UNETS: dict[str, dict[str, Any]] = {
    "sd1": {**_COMMON, **_CROSS, "attention_head_dim": 4},
    "sd2": {**_COMMON, **_CROSS, "attention_head_dim": (2, 4), "use_linear_projection": True},
    "sdxl": {
        **_COMMON,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2),
        "attention_head_dim": (2, 4),
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": TIME_ID_WIDTH,
        "projection_class_embeddings_input_dim": POOLED_WIDTH + 6 * TIME_ID_WIDTH,
    },
}
FAMILIES = tuple(UNETS)


def tiny_denoiser(family: str = "sd1", dtype: torch.dtype = torch.float64, seed: int = 0) -> DiffusersDenoiser:
    """A denoiser without text encoder and autoencoder; "sd2" predicts v."""
    torch.manual_seed(seed)
    unet = UNet2DConditionModel(**UNETS[family]).to(dtype)
    prediction = "v_prediction" if family == "sd2" else "epsilon"
    parts = Components(family, prediction, NoiseSchedule.scaled_linear(), unet, None, (), ())  # type: ignore[arg-type]
    return DiffusersDenoiser(parts.pipeline(), family, prediction, parts.schedule, f"tiny {family}")  # type: ignore[arg-type]


def conditioning(family: str, seed: int, dtype: torch.dtype = torch.float64) -> PromptConditioning:
    """A random prompt's conditioning."""
    generator = torch.Generator().manual_seed(1000 + seed)
    context = torch.randn(1, 7, CONTEXT_WIDTH, generator=generator, dtype=dtype)
    pooled = torch.randn(1, POOLED_WIDTH, generator=generator, dtype=dtype) if family == "sdxl" else None
    return PromptConditioning(context, pooled)


def weights(denoiser: DiffusersDenoiser) -> dict[str, torch.Tensor]:
    """The weights of all linear layers by name (the model's own tensors)."""
    return {name: module.weight for name, module in denoiser.layers.items()}


def snapshot(denoiser: DiffusersDenoiser) -> dict[str, torch.Tensor]:
    """Copies of all parameters, to compare bit by bit later."""
    return {name: value.detach().clone() for name, value in denoiser.unet.state_dict().items()}


def assert_unchanged(denoiser: DiffusersDenoiser, before: dict[str, torch.Tensor]) -> None:
    """Every parameter is bit-identical, no forward is replaced, no parameter asks for or has a gradient."""
    after = denoiser.unet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all("forward" not in module.__dict__ for module in denoiser.unet.modules())
    assert all(p.grad is None and not p.requires_grad for p in denoiser.unet.parameters())
