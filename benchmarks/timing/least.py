"""How small a step over the floor can be: by the number of operations, whatever they are written with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.full_size import random_denoiser

from .steps import Steps


def least_over_floor(model: str, latent: int) -> float:
    """Operations of the floor and of the gradients of the feed-forward layers' weights, as multiples of the floor's; on no device."""
    steps = Steps(random_denoiser(model, "meta", torch.float32), latent)
    gradients = 0

    def count(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal gradients
        gradients += 2 * given[0].numel() * output.shape[-1]  # g^T x of all places

    hooks = [layer.register_forward_hook(count) for layer in steps.layers.values()]
    try:
        with FlopCounterMode(display=False) as counted:
            steps.floor()
    finally:
        for hook in hooks:
            hook.remove()
    return 1 + gradients / counted.get_total_flops()
