"""Gradients of a few chosen weights, sample by sample: rows of the Jacobian along random directions of the output.

Of a probe v . eps(x_b) with random signs v, the row w_i d(v . eps)/dw_i over the chosen weights i is one random combination of all
outputs; many such rows carry the whole Gauss-Newton matrix of these weights, with what couples them (E_v of a row's outer product
with itself is J^T J).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .errors import CadError


class ChosenGradients:
    """A sink (see gradients.py) that keeps w_i dJ/dw_i of chosen weights for each sample of the pass.

    Raises CadError, in the middle of the backward pass, when a gradient is not finite.

    Args:
        chosen: flattened positions in each layer's weight [out, in], int64 [k].
        weights: their values, [k] each, which gradients are multiplied by: those of the unedited model, so that rows are derivatives along
            the relative change D.
    """

    def __init__(self, layers: Mapping[str, Any], chosen: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
        self.layers, self.chosen, self.weights = layers, chosen, weights
        self._rows: dict[str, Tensor] = {}

    def __call__(self, name: str, x: Tensor, g: Tensor) -> None:
        index, weights = self.chosen[name].to(x.device), self.weights[name]
        x = x.detach().reshape(len(x), -1, x.shape[-1]).to(weights.dtype)
        g = g.detach().reshape(len(g), -1, g.shape[-1]).to(weights.dtype)
        # Of one sample after the other: gradients of a whole batch may be as large as the model.
        row = torch.stack([(g_b.T @ x_b).flatten()[index] for x_b, g_b in zip(x, g, strict=True)]) * weights
        if not math.isfinite(float(row.sum())):
            raise CadError(
                f"a gradient of {name} is not finite: the model overflows in {x.dtype}, or its weights are damaged; "
                "compute in bfloat16 or float32, or get the checkpoint again"
            )
        self._rows[name] = row

    def take(self) -> Tensor:
        """The rows of the last pass, [samples, all chosen weights] in the order of `chosen`; forgets them."""
        rows = torch.cat([self._rows[name] for name in self.chosen], dim=1)
        self._rows = {}
        return rows
