"""Rounds on UNets of Stable Diffusion's full size with random weights: do they run, what memory do they take, how long is an evaluation?

What they find means nothing; shapes, memory and time are those of real weights.

    python -m benchmarks.full_size_rounds --model sd1                    # 512 x 512 pixels
    python -m benchmarks.full_size_rounds --model sdxl --latent 32       # a quarter of SDXL's side

Memory is the process's peak beyond what the loaded model takes (Linux), on a GPU what PyTorch has allocated beyond it.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch

from benchmarks.erasing.settings import machine
from benchmarks.full_size import PIXELS_PER_LATENT, UNETS, PeakMemory, full_size_parser, random_denoiser, write_json
from cad_engine import cost
from cad_engine.components import choose_layers
from cad_engine.concept import concept_goals
from cad_engine.concept_settings import ConceptSettings
from cad_engine.rounds import solve


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
    memory = PeakMemory(device)
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
        "extra_memory_gib": round(memory.gib(), 2),
        "machine": machine(),
    }


def main() -> None:
    """Measure what the command line asks for and print it as JSON."""
    parser = full_size_parser("full_size_rounds", __doc__, latent=64)
    parser.add_argument("--model", choices=list(UNETS), default="sd1")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--checkpointing", action=argparse.BooleanOptionalAction, default=True)
    options = parser.parse_args()
    dtype = getattr(torch, options.dtype)
    found = measure(options.model, options.latent, options.device, dtype, options.batch, options.checkpointing)
    write_json(found, options.json)


if __name__ == "__main__":
    main()
