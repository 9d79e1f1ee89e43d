"""The reference's algorithm as the paper describes it, written plainly with autograd: what an attribution costs without this project."""

from __future__ import annotations

import torch
from torch import Tensor

from cad_engine.checkpoints.denoiser import DiffusersDenoiser
from cad_engine.trajectory import initial_noise

STEPS, CFG = 50, 3.0


def reference_scores(denoiser: DiffusersDenoiser, concept: str, names: list[str], seed: int, steps: int = STEPS) -> dict[str, Tensor]:
    """Scores a_i [out, in] of the layers `names` against the empty prompt.

    For each step a fresh picture is sampled through it, concept and empty prompt are predicted there together, and the gradients of all
    parameters are added up in a second copy of them. (The published code scores each latent with the timestep of the step before; here it
    is its own.)
    """
    unet, schedule = denoiser.unet, denoiser.schedule
    cond, empty = denoiser.encode_prompt(concept), denoiser.encode_prompt("")
    both = denoiser.together([cond, empty])
    times = schedule.ddim_timesteps(steps, "leading")
    parameters = list(unet.parameters())
    sums = [torch.zeros_like(parameter) for parameter in parameters]
    for last in range(steps):
        x = initial_noise(seed + last, 1, denoiser.latent_shape).to(denoiser.device)
        with torch.no_grad():
            for step in range(last + 1):
                here, t = x, times[step]
                eps, eps_uncond = denoiser.eps(x.expand(2, -1, -1, -1), torch.tensor([t, t]), both).split(1)
                if step + 1 < steps:
                    x = schedule.ddim_step(x, eps_uncond + CFG * (eps - eps_uncond), t, times[step + 1])
        unet.requires_grad_(True)
        try:
            eps, target = denoiser.eps(here.expand(2, -1, -1, -1), torch.tensor([t, t]), both).split(1)
            ((eps - target.detach()).square().mean() / steps).backward()
        finally:
            unet.requires_grad_(False)
        for total, parameter in zip(sums, parameters, strict=True):
            if parameter.grad is not None:
                total += parameter.grad
                parameter.grad = None
    found = {id(parameter): total for parameter, total in zip(parameters, sums, strict=True)}
    layers = {name: denoiser.layers[name].weight for name in names}
    return {name: weight.detach() * found[id(weight)] for name, weight in layers.items()}


def reference_predictions(steps: int = STEPS) -> tuple[int, int]:
    """Predictions on one sample that it makes, without a gradient and with one."""
    return steps * (steps + 1), 2 * steps
