"""What must stay as it is: the predictions eps(x_t, c, t) that an edit shall leave alone, and the states at which they are looked at.

Kept are the prompts of a keep list, each at states of its own sampling; the empty prompt at half of these, because guidance
uses it in every picture; and at the states of the objective the empty prompt, the base prompt and the keep list by turns, because
an edit is strongest there. Every state counts the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .denoiser import Conditioning, Denoiser
from .objective import Objective
from .progress import Progress, silent
from .trajectory import Sampling, sample_trajectories


@dataclass(frozen=True)
class States:
    """Samples of one prompt: eps(x_t[b], conditioning, t[b]).

    Attributes:
        conditioning: the prompt's.
        t: timesteps, int64 [N] on the CPU.
        x_t: noisy latents [N, C, H, W] on the CPU.
    """

    conditioning: Conditioning
    t: Tensor
    x_t: Tensor

    def __len__(self) -> int:
        return len(self.t)


def objective_states(objective: Objective) -> States:
    """All samples of `objective` under the concept, timestep by timestep."""
    times = [torch.full((len(target.x_t),), target.t) for target in objective.targets]
    return States(objective.conditioning, torch.cat(times), torch.cat([target.x_t for target in objective.targets]))


def trajectories_each(trajectories: int, prompts: int) -> int:
    """How many pictures are sampled of each kept prompt: together about as many as of the concept, at least two of each."""
    return max(2, -(-trajectories // prompts))


def kept_states(
    denoiser: Denoiser,
    keep: Sequence[str],
    base: str,
    objective: Objective,
    sampling: Sampling,
    progress: Progress = silent,
) -> list[States]:
    """The states at which the prompts `keep`, "" and `base` ("" when there is none) are to stay, see above.

    `sampling` is the concept's: the seeds of the kept prompts follow those of its trajectories. Raises CadError as
    trajectory.sample_trajectories does.
    """
    empty = denoiser.encode_prompt("")
    prompts = [denoiser.encode_prompt(prompt) for prompt in keep]
    each = trajectories_each(sampling.trajectories, len(keep))
    total = len(keep) * -(-each // sampling.batch) * sampling.steps
    kept: list[States] = []
    for number, conditioning in enumerate(prompts):

        def staged(_: str, done: int, part: int, number: int = number) -> None:
            progress("keep", number * part + done, total)

        points, _ = sample_trajectories(
            denoiser,
            conditioning,
            empty,
            trajectories=each,
            steps=sampling.steps,
            cfg=sampling.cfg,
            seed=sampling.seed + sampling.trajectories + number * each,
            batch=sampling.batch,
            spacing=sampling.spacing,
            latent_shape=sampling.latent_shape,
            progress=staged,
        )
        t = torch.tensor([point.t for point in points]).repeat_interleave(each)
        x_t = torch.cat([point.x_t for point in points])
        kept += [States(conditioning, t, x_t), States(empty, t[::2], x_t[::2])]
    at_concept = [empty, *([denoiser.encode_prompt(base)] if base.strip() else []), *prompts]
    return kept + _by_turns(objective, at_concept)


def _by_turns(objective: Objective, conditionings: Sequence[Conditioning]) -> list[States]:
    """The states of `objective`, each under one of `conditionings`; the turn moves on with the sample and with the timestep."""
    turns = torch.cat([(torch.arange(len(target.x_t)) + step) % len(conditionings) for step, target in enumerate(objective.targets)])
    states = objective_states(objective)
    shared = [States(conditioning, states.t[turns == i], states.x_t[turns == i]) for i, conditioning in enumerate(conditionings)]
    return [part for part in shared if len(part)]
