"""Sums of weight gradients over many backward passes, and what of them is told apart by timestep."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .denoiser import WeightAccess
from .errors import CadError
from .weight_gradient import times_weight, weight_gradient


class GradientAccumulator:
    """A sink (see gradients.py) that adds g^T x of each target layer into a float32 (or float64) matrix [out, in].

    At each backward pass the positive and the negative part of w * grad are summed by layer as well, so that the mass of
    a layer is known for each timestep. Positive and negative parts are those of one pass (all samples of a batch together): their
    sum does not depend on the batch size, each by itself does.

    Raises CadError, in the middle of the backward pass, when a gradient is not finite.

    Args:
        device: where the sums are kept; gradients are made where the pass is, and carried there.

    Attributes:
        gradients: layer name -> sum of gradients [out, in] on `device`.
        timestep_mass: layer name -> [timesteps, 2]: positive and negative sums of w * grad, float64 on the CPU.
    """

    def __init__(self, layers: Mapping[str, Any], timesteps: int, access: WeightAccess, dtype: torch.dtype, device: torch.device) -> None:
        self.layers, self.access = layers, access
        shapes = {name: (module.out_features, module.in_features) for name, module in layers.items()}
        self.gradients = {name: torch.zeros(shape, dtype=dtype, device=device) for name, shape in shapes.items()}
        self.timestep_mass = {name: torch.zeros(timesteps, 2, dtype=torch.float64) for name in layers}
        self._step, self._scale = 0, 1.0

    def at(self, step: int, scale: float) -> GradientAccumulator:
        """Count what comes next to timestep number `step`; `scale` is multiplied into its gradients."""
        self._step, self._scale = step, scale
        return self

    def __call__(self, name: str, x: Tensor, g: Tensor) -> None:
        total = self.gradients[name]
        x = x.detach().reshape(-1, x.shape[-1])
        g = g.detach().reshape(-1, g.shape[-1])
        nets, positives = [], []
        with self.access(self.layers[name], x.new_empty(0, dtype=total.dtype)) as (weight, _):
            for rows, gradient in weight_gradient(x, g, total.dtype):
                gradient.mul_(self._scale)
                total[rows] += gradient.to(total.device)
                attribution = gradient.mul_(weight[rows])
                nets.append(attribution.sum(dim=1))
                positives.append(attribution.clamp_(min=0).sum(dim=1))
        # By row on the device, then in float64 on the CPU: not every device has float64.
        net, positive = torch.stack([torch.cat(nets), torch.cat(positives)]).cpu().double().sum(dim=1).tolist()
        if not math.isfinite(net):
            raise CadError(
                f"the attribution of {name} is not finite: the model overflows in {x.dtype}, or its weights are damaged; "
                "compute in bfloat16 or float32, or get the checkpoint again"
            )
        self.timestep_mass[name][self._step] += torch.tensor([positive, net - positive])

    def times_weight(self, device: torch.device) -> dict[str, Tensor]:
        """The sums times the effective weights, in place: the attribution. `device` is the model's."""
        times_weight(self.gradients, self.layers, self.access, device)
        return self.gradients
