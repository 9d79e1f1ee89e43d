"""The gradient of a linear layer's weight, g^T x, a few rows at a time: all of a large one would be as large as the sum it goes into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from .denoiser import WeightAccess

AT_ONCE = 2**22
"""Numbers of a gradient that are made together; one row where a row is longer."""


def weight_gradient(x: Tensor, g: Tensor, dtype: torch.dtype) -> Iterator[tuple[slice, Tensor]]:
    """(rows, gradient [rows, in]) of g^T x, block after block of rows; each in `dtype`, on the device of `x`, the caller's to change.

    Args:
        x: input [tokens, in].
        g: gradient of the output [tokens, out].
    """
    x = x.to(dtype)
    rows = max(1, AT_ONCE // x.shape[1])
    for first in range(0, g.shape[1], rows):
        block = slice(first, first + rows)
        yield block, g[:, block].to(dtype).T @ x


def times_weight(sums: Mapping[str, Tensor], layers: Mapping[str, Any], access: WeightAccess, device: torch.device, power: int = 1) -> None:
    """Multiply the sum [out, in] of each layer by its weight, `power` times, in place; on `device`, wherever the sums are kept."""
    for name, total in sums.items():
        product = total.to(device)
        with access(layers[name], product) as (weight, _):
            for _ in range(power):
                product.mul_(weight)
        if product is not total:
            total.copy_(product.to(total.device))
