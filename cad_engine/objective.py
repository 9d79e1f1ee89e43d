"""The objectives J of the paper, as mean squared errors between a fixed target and eps(x_t, c, t).

Erase (eq. 6):    J = + E || sg[eps(x_t, c_b, t)] - eps(x_t, c, t) ||^2 / d, x_t from the model's own sampling of the concept.
Amplify (eq. 7):  J = - E || eps - eps(x_t, c, t) ||^2 / d, x_t noised latents of the concept's images.

d is the number of elements of one latent: a constant that changes no ranking and makes J readable. The expectation is the
mean over all (x_t, t) given. No gradient flows through the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from .denoiser import Conditioning, Denoiser
from .progress import Progress, silent
from .trajectory import Point, noised_points

Kind = Literal["erase", "amplify"]


@dataclass(frozen=True)
class Target:
    """At timestep `t`: latents `x_t` and what eps(x_t, c, t) is compared with, `eps`, both [N, C, H, W] on the CPU."""

    t: int
    x_t: Tensor
    eps: Tensor


@dataclass(frozen=True)
class Objective:
    """J as a function of the model's weights: `sign` * mean over `targets` of the squared error of eps(x_t, c, t).

    Attributes:
        kind: "erase" or "amplify"; erasing removes positive attributions, amplifying negative ones.
        conditioning: c, the concept's.
        targets: one a timestep.
    """

    kind: Kind
    conditioning: Conditioning
    targets: Sequence[Target]

    @property
    def sign(self) -> int:
        return 1 if self.kind == "erase" else -1

    @property
    def samples(self) -> int:
        """Number of (x_t, t) pairs that the expectation runs over."""
        return sum(len(target.x_t) for target in self.targets)

    @torch.no_grad()
    def value(self, denoiser: Denoiser, *, batch: int = 4) -> float:
        """J of the model as its weights are now, accumulated in float64; forwards only."""
        total = 0.0
        for target in self.targets:
            for x_t, eps in zip(target.x_t.split(batch), target.eps.split(batch), strict=True):
                output = denoiser.eps(x_t.to(denoiser.device), target.t, self.conditioning)
                error = (output - eps.to(output.device, output.dtype)).square().flatten(1).mean(dim=1)
                total += float(error.cpu().double().sum())
        return self.sign * total / self.samples


@torch.no_grad()
def erase_objective(
    denoiser: Denoiser,
    concept: Conditioning,
    base: Conditioning | None,
    points: Sequence[Point],
    *,
    batch: int = 4,
    progress: Progress = silent,
) -> Objective:
    """Eq. 6 on sampled `points`. `base` None means the prompt that sampling used as unconditional: nothing is computed again."""
    targets = []
    progress("base", 0, len(points))
    for number, point in enumerate(points):
        eps = point.eps_uncond
        if base is not None or eps is None:
            if base is None:
                raise ValueError("these points carry no unconditional prediction (guidance 1); give the base conditioning")
            chunks = [denoiser.eps(x_t.to(denoiser.device), point.t, base).cpu() for x_t in point.x_t.split(batch)]
            eps = torch.cat(chunks)
        targets.append(Target(point.t, point.x_t, eps))
        progress("base", number + 1, len(points))
    return Objective("erase", concept, targets)


def amplify_objective(denoiser: Denoiser, concept: Conditioning, latents: Tensor, *, steps: int = 10, seed: int = 0) -> Objective:
    """Eq. 7 on clean, scaled `latents` [N, C, H, W] of the concept's images, each noised at `steps` timesteps."""
    points = noised_points(denoiser, latents, steps=steps, seed=seed)
    return Objective("amplify", concept, [Target(t, x_t, eps) for t, x_t, eps in points])
