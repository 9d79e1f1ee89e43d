"""The UNet's weights before a method, to count afterwards what it changed and to put them back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def snapshot(unet: nn.Module) -> dict[str, Tensor]:
    """A copy of every parameter of `unet` by its name."""
    return {name: parameter.detach().clone() for name, parameter in unet.named_parameters()}


def changed(unet: nn.Module, before: Mapping[str, Tensor]) -> dict[str, int]:
    """How many entries of each parameter differ from `before`; parameters in which none does are left out."""
    counts = {name: int((parameter.detach() != before[name]).sum()) for name, parameter in unet.named_parameters()}
    return {name: count for name, count in counts.items() if count}


@torch.no_grad()
def restore(unet: nn.Module, before: Mapping[str, Tensor]) -> None:
    """Every parameter of `unet` as it was at the `snapshot`, to the bit."""
    for name, parameter in unet.named_parameters():
        parameter.copy_(before[name])
