"""A short name for the weights of a model, the same in whatever program and half or full precision it is loaded."""

from __future__ import annotations

import hashlib

import torch

from .denoiser import Denoiser

SAMPLES = 64
"""Weights looked at in each linear layer, evenly spread: enough to tell checkpoints apart, quick on a model of any size."""


@torch.no_grad()
def fingerprint(denoiser: Denoiser) -> str:
    """16 hexadecimal digits over names, shapes and sampled effective weights, rounded to float16, of all linear layers."""
    digest = hashlib.sha256()
    for name in sorted(denoiser.layers):
        module = denoiser.layers[name]
        with denoiser.weight_access(module, torch.empty(0, device=denoiser.device)) as (weight, _):
            flat = weight.reshape(-1)
            sampled = flat[torch.linspace(0, len(flat) - 1, SAMPLES, dtype=torch.float64).long().to(flat.device)]
            # Adding 0 turns -0.0 into 0.0: an ablated weight has no sign.
            digest.update(f"{name}{list(weight.shape)}".encode())
            digest.update((sampled.to(torch.float16) + 0.0).cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
