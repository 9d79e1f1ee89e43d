"""With how much memory an attribution begins: what was asked for, or less where there is not so much."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .activations import measured_activations
from .components import choose_layers
from .concept_settings import ConceptSettings
from .denoiser import Denoiser
from .footprint import Footprint, Needs, fitting
from .memory import free_memory

SURE_TO_FIT = 2**18
"""Bytes for each latent pixel, sample and byte of a number that no forward and backward takes: twice those of Stable Diffusion XL. Where
so many are free, there is nothing to measure."""


def affordable(denoiser: Denoiser, settings: ConceptSettings, latents: Tensor | None = None, sharing: int = 1) -> Footprint:
    """The fastest footprint for `settings` (and given `latents` [N, C, H, W]) that the free memory has room for.

    By an estimate that takes one forward of the UNet, except where much more than enough is free. Where nothing is known of the memory, it
    is what was asked for. `sharing` processes take from the same memory.
    """
    free = denoiser.free_memory()
    free = None if free is None else free // sharing
    names = choose_layers(denoiser.layers, settings.components)
    targets: dict[str, Any] = {name: denoiser.layers[name] for name in names}
    number = max(4, next(denoiser.unet.parameters()).element_size())  # sums are never in half precision
    matrices = 2 if settings.kept_prompts else 1  # scores, and with prompts to keep their harms
    sums = matrices * number * sum(layer.out_features * layer.in_features for layer in targets.values())
    shape = settings.sampling(denoiser).latent_shape if latents is None else tuple(latents.shape[1:])
    if free is None or sums + SURE_TO_FIT * number * settings.batch * shape[1] * shape[2] <= free:
        return Footprint(settings.batch, bool(settings.checkpointing))
    activations = measured_activations(denoiser, targets, torch.zeros(1, *shape), denoiser.encode_prompt(settings.concept))
    host_free = None if denoiser.device.type == "cpu" else free_memory(torch.device("cpu"))
    return fitting(settings.batch, settings.checkpointing, Needs(sums, activations), free, host_free)
