"""Sums of squared weight gradients, sample by sample: the diagonal of a Gauss-Newton curvature from random probes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .denoiser import WeightAccess
from .errors import CadError
from .weight_gradient import times_weight, weight_gradient


class CurvatureAccumulator:
    """A sink (see gradients.py) that adds scale_b * (g_b^T x_b)^2 of each sample b, elementwise, into one matrix [out, in] a layer.

    The square is taken before samples are summed, so what is computed together in a batch changes nothing. Of a probe v . eps
    with random signs v, its mean over v is the sum over all outputs of (d eps / d w)^2 (Hutchinson).

    Raises CadError, in the middle of the backward pass, when a gradient is not finite.

    Args:
        device: where the sums are kept; gradients are made where the pass is, and carried there.

    Attributes:
        squares: layer name -> sum of squares [out, in] on `device`.
    """

    def __init__(self, layers: Mapping[str, Any], dtype: torch.dtype, device: torch.device) -> None:
        shapes = {name: (module.out_features, module.in_features) for name, module in layers.items()}
        self.layers = layers
        self.squares = {name: torch.zeros(shape, dtype=dtype, device=device) for name, shape in shapes.items()}
        self._scale = 1.0

    def scaled(self, scale: float) -> CurvatureAccumulator:
        """Multiply the squares of what comes next by `scale`."""
        self._scale = scale
        return self

    def __call__(self, name: str, x: Tensor, g: Tensor) -> None:
        total = self.squares[name]
        x = x.detach().reshape(len(x), -1, x.shape[-1])
        g = g.detach().reshape(len(g), -1, g.shape[-1])
        for x_b, g_b in zip(x, g, strict=True):
            for rows, gradient in weight_gradient(x_b, g_b, total.dtype):
                gradient = gradient.to(total.device)
                total[rows].addcmul_(gradient, gradient, value=self._scale)
        if not math.isfinite(float(total.sum())):
            raise CadError(
                f"the curvature of {name} is not finite: the model overflows in {x.dtype}, or its weights are damaged; "
                "compute in bfloat16 or float32, or get the checkpoint again"
            )

    def times_weight_squared(self, access: WeightAccess, device: torch.device) -> dict[str, Tensor]:
        """w^2 times the sums, in place: the curvature along the relative change of each weight. `device` is the model's."""
        times_weight(self.squares, self.layers, access, device, power=2)
        return self.squares
