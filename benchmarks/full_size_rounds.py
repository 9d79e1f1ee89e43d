"""Rounds on UNets of Stable Diffusion's full size with random weights: do they run, what memory do they take, how long is an evaluation?

What they find means nothing; shapes, memory and time are those of real weights.

    python -m benchmarks.full_size_rounds --model sd1                    # 512 x 512 pixels
    python -m benchmarks.full_size_rounds --model sdxl --latent 32       # a quarter of SDXL's side

Memory is the process's peak beyond what the loaded model takes (Linux and macOS), on a GPU what PyTorch has allocated beyond it.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from benchmarks.erasing.settings import machine
from cad_engine import cost
from cad_engine.checkpoints.components import Components
from cad_engine.checkpoints.denoiser import DiffusersDenoiser, PromptConditioning
from cad_engine.components import choose_layers
from cad_engine.concept import ConceptSettings, concept_goals
from cad_engine.rounds import solve
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


def measure(model: str, latent: int, device: str, dtype: torch.dtype, batch: int, checkpointing: bool) -> dict[str, Any]:
    """One round for one concept with few states; the seconds of a whole one follow from those of an evaluation."""
    denoiser = random_denoiser(model, device, dtype)
    names = choose_layers(denoiser.layers, ["cross_attention_kv"])
    x, c = torch.randn(1, 4, latent, latent), denoiser.encode_prompt("")
    with torch.no_grad():
        denoiser.eps(x.to(device), 500, c)
        began = time.perf_counter()
        denoiser.eps(x.to(device), 500, c)
        forward = time.perf_counter() - began
    before = memory(device)
    few = ConceptSettings("a", "b", keep=("c", "d"), rounds=1, trajectories=1, steps=1, batch=batch, size=(latent, latent))
    began = time.perf_counter()
    solution = solve(denoiser, concept_goals(denoiser, few), names, rounds=1, batch=batch, checkpointing=checkpointing)
    seconds, told = time.perf_counter() - began, cost.evaluations(few)
    evaluations = sum(told[stage] for stage in told if stage not in ("sampling", "base", "attribution"))
    return {
        "model": model,
        "pixels": latent * PIXELS_PER_LATENT,
        "dtype": str(dtype).removeprefix("torch."),
        "device": device,
        "batch": batch,
        "checkpointing": checkpointing,
        "weights": sum(denoiser.layers[name].weight.numel() for name in names),
        "candidates": sum(len(change.index) for change in solution.changes.values()),
        "forward_seconds": round(forward, 3),
        "seconds": round(seconds, 2),
        "evaluations_at_most": evaluations,
        "model_gib": round(sum(p.numel() * p.element_size() for p in denoiser.unet.parameters()) / 2**30, 2),
        "extra_memory_gib": round(memory(device) - before, 2),
        "machine": machine(),
    }


def main() -> None:
    """Measure what the command line asks for and print it as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.full_size_rounds", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--model", choices=list(UNETS), default="sd1")
    parser.add_argument("--latent", type=int, default=64, help="side of the latents; 64 is 512 pixels")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--checkpointing", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    found = measure(options.model, options.latent, options.device, dtype, options.batch, options.checkpointing)
    text = json.dumps(found, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
