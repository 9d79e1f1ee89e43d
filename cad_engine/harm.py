"""Attribution per harm: what a weight does for the objective against what taking it away does to everything that must stay.

With D_i the relative change of weight i (-1 when it is ablated), the loss

    L = J + KEEP_WEIGHT * K,    K = E || eps(x_t, c', t) - eps_0(x_t, c', t) ||^2 / d over the kept states, eps_0 the unedited model,

is to second order, and without the terms that couple two weights, the sum over i of a_i D_i + 1/2 h_i D_i^2, where

    a_i = w_i dJ/dw_i          (K has no gradient at the unedited model)
    h_i = 2 w_i^2 ( E_J || d eps / d w_i ||^2 / d + KEEP_WEIGHT * E_K || d eps / d w_i ||^2 / d )    (Gauss-Newton).

What a diagonal cannot see, that many small changes add up, is put into one factor kappa on h. Ablating then pays while
a_i > kappa / 2 h_i, so the weights in the order of 2 a_i / h_i are the right ones for every kappa, and that score is the kappa up
to which a weight goes. To amplify, the squared error is -J: a_i turns its sign, h_i does not, and the most negative scores go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from .curvature import CurvatureAccumulator
from .denoiser import Denoiser
from .errors import CadError
from .gradients import captured_gradients
from .keep import States, objective_states
from .objective import Objective
from .progress import Progress, silent

KEEP_WEIGHT = 1.0
"""How much a squared change of what is kept counts against one of the objective."""
DAMPING = 1.0
"""Part of the mean of h that is added to each h_i: with little of it, the order is that of what looks harmless, not of what helps."""
_PROBE_SEEDS = 0x5BD1E995_2545F491
"""Sets the probes' random numbers apart from the noise that trajectories of the same seed begin with."""


def probe(seed: int, number: int, like: Tensor) -> Tensor:
    """Random signs +-1 in the shape of one latent `like` [C, H, W], a function of `seed` and the sample's `number` alone; on the CPU."""
    generator = torch.Generator().manual_seed((seed + number) ^ _PROBE_SEEDS)
    return torch.randint(0, 2, like.shape, generator=generator).to(like.dtype) * 2 - 1


def harm(
    denoiser: Denoiser,
    objective: Objective,
    kept: Sequence[States],
    layer_names: Sequence[str],
    *,
    seed: int = 0,
    batch: int = 4,
    checkpointing: bool = False,
    sums_on: torch.device | None = None,
    progress: Progress = silent,
) -> dict[str, Tensor]:
    """h by layer, [out, in] each, from one random probe a state: float32, or float64 for a float64 model; not damped.

    On `sums_on`, or on the model's device.

    The model is left as by attribution.attribution_scores. Raises CadError when a gradient is not finite.
    """
    layers = {name: denoiser.layers[name] for name in layer_names}
    dtype = torch.float64 if objective.targets[0].eps.dtype == torch.float64 else torch.float32
    accumulator = CurvatureAccumulator(layers, dtype, sums_on or denoiser.device)
    groups = [(objective_states(objective), 1 / objective.samples)]
    groups += [(states, KEEP_WEIGHT / sum(map(len, kept))) for states in kept]
    total, done = sum(len(states) for states, _ in groups), 0
    progress("harm", 0, total)
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        captured_gradients(denoiser.unet, layers, accumulator, denoiser.weight_access, checkpointing=checkpointing) as anchor,
    ):
        for states, share in groups:
            accumulator.scaled(2 * share / states.x_t[0].numel())
            for t, x_t in zip(states.t.split(batch), states.x_t.split(batch), strict=True):
                output = denoiser.eps(x_t.to(denoiser.device), t, states.conditioning)
                signs = torch.stack([probe(seed, done + b, latent) for b, latent in enumerate(x_t)])
                torch.autograd.grad((output * signs.to(output.device, output.dtype)).sum(), anchor)
                done += len(x_t)
                progress("harm", done, total)
    return accumulator.times_weight_squared(denoiser.weight_access, denoiser.device)


def per_harm(scores: Mapping[str, Tensor], harms: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """2 a_i / (h_i + DAMPING * mean h) in place of a_i in `scores`; the mean is that over all layers. Both [out, in] by layer.

    Raises CadError when no weight has any harm, as in a model whose weights are zero.
    """
    total = sum(float(h.sum(dim=1).cpu().double().sum()) for h in harms.values())
    if not total > 0:
        raise CadError(
            "no weight of the chosen layers changes what the model predicts, so there is nothing to weigh; is the checkpoint whole?"
        )
    damping = DAMPING * total / sum(h.numel() for h in harms.values())
    for name, score in scores.items():
        score.mul_(2).div_(harms[name].add_(damping))
    return scores
