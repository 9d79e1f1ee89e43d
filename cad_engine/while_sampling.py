"""Attribution while sampling (paper, eq. 6): a sampling step needs only a backward pass on top of the predictions it makes anyway.

With the empty prompt as base, a step of classifier-free guidance has predicted both sides of J already. So n pictures of k steps take 2 n k
evaluations and n k backward passes (and n where a step leads in, see NoiseSchedule.lead), and nothing of a picture is kept.

Pictures begin at antithetic noise, of which as many say more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .accumulator import GradientAccumulator
from .denoiser import Conditioning, Denoiser
from .gradients import captured_gradients
from .progress import Progress, silent
from .trajectory import Sampling, antithetic_noise, led_in


@dataclass(frozen=True)
class Prompts:
    """Conditionings of one attribution.

    Attributes:
        concept: c.
        base: c_b; None for the empty prompt.
        sampled: the prompt whose pictures are painted; None for the concept.
        empty: the empty prompt's.
    """

    concept: Conditioning
    base: Conditioning | None
    sampled: Conditioning | None
    empty: Conditioning


def scores_while_sampling(
    denoiser: Denoiser,
    prompts: Prompts,
    layer_names: list[str],
    sampling: Sampling,
    *,
    only: range | None = None,
    checkpointing: bool = False,
    sums_on: torch.device | None = None,
    progress: Progress = silent,
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[int]]:
    """Dense scores a_i [out, in] and their sums by timestep, as of attribution.attribution_scores, and the timesteps.

    The points (x_t, t) are those of trajectory.sample_trajectories with the same `sampling`, antithetic. With `only`, it is what these
    trajectories, none or more of all, add to the scores of all. `sums_on` is where the scores are kept, None for the model's device. Raises
    CadError for a count of steps that the schedule does not have, and when a score is not finite.
    """
    steps, cfg = sampling.steps, sampling.cfg
    timesteps, lead = denoiser.schedule.ddim_timesteps(steps, sampling.spacing), denoiser.schedule.lead(steps, sampling.spacing)
    painted = prompts.concept if prompts.sampled is None else prompts.sampled
    own = range(sampling.trajectories) if only is None else only
    layers = {name: denoiser.layers[name] for name in layer_names}
    dtype = torch.float64 if next(denoiser.unet.parameters()).dtype == torch.float64 else torch.float32
    accumulator = GradientAccumulator(layers, steps, denoiser.weight_access, dtype, sums_on or denoiser.device)
    scale = 1 / (sampling.trajectories * steps * math.prod(sampling.latent_shape))
    chunks = [own[start : start + sampling.batch] for start in range(0, len(own), sampling.batch)]
    progress("attribution", 0, len(chunks) * steps)
    for number, chunk in enumerate(chunks):
        noise = antithetic_noise(sampling.seed, chunk, sampling.latent_shape)
        x = led_in(denoiser, noise.to(denoiser.device), lead, timesteps[0], painted)
        for step, t in enumerate(timesteps):
            last = step + 1 == steps
            accumulator.at(step, scale)
            with torch.no_grad():
                target = denoiser.eps(x, t, prompts.empty if prompts.base is None else prompts.base)
                eps_uncond = target if prompts.base is None or cfg <= 1 or last else denoiser.eps(x, t, prompts.empty)
            with (
                torch.inference_mode(False),
                torch.enable_grad(),
                captured_gradients(denoiser.unet, layers, accumulator, denoiser.weight_access, checkpointing=checkpointing) as anchor,
            ):
                output = denoiser.eps(x, t, prompts.concept)
                # A sum, so that gradients in half precision are of ordinary size; the accumulator's scale makes it the mean.
                torch.autograd.grad((output - target).square().sum(), anchor)
            if not last:  # nobody asks for the picture itself
                with torch.no_grad():
                    eps = output.detach() if prompts.sampled is None else denoiser.eps(x, t, prompts.sampled)
                    if cfg > 1:
                        eps = eps_uncond + cfg * (eps - eps_uncond)
                    x = denoiser.schedule.ddim_step(x, eps, t, timesteps[step + 1])
            progress("attribution", number * steps + step + 1, len(chunks) * steps)
    return accumulator.times_weight(denoiser.device), accumulator.timestep_mass, timesteps


def forwards_each(steps: int, cfg: float, *, base: bool, sampled: bool, lead: bool) -> int:
    """Predictions that one trajectory takes beside the one of each step that is differentiated.

    `base`, `sampled`: whether these prompts are others than the empty one and the concept. `lead`: whether a step leads in.
    """
    guided = steps - 1 if cfg > 1 else 0
    return (steps + guided if base else steps) + (steps - 1 if sampled else 0) + lead
