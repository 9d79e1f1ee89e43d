"""ESD (Gandikota et al. 2023, arXiv 2303.07345): fine-tune the model to be steered away from the concept by the concept's own name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy, deepcopy
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor
from torch.nn import Parameter

from benchmarks.erasing.task import Outcome, Task
from cad_engine.checkpoints.denoiser import DiffusersDenoiser, PromptConditioning
from cad_engine.cost import BACKWARD
from cad_engine.progress import Progress
from cad_engine.trajectory import initial_noise

from .changes import changed, snapshot

Part = Literal["x", "u"]
RATES: dict[Part, float] = {"x": 5e-4, "u": 5e-5}
"""Learning rates of Adam."""


def tuned_parameters(denoiser: DiffusersDenoiser, part: Part) -> list[Parameter]:
    """ESD-x: those of cross-attention; ESD-u: all others, convolutions and norms included."""
    return [parameter for name, parameter in denoiser.unet.named_parameters() if (".attn2." in name) == (part == "x")]


@contextmanager
def asking_for_gradients(parameters: list[Parameter]) -> Iterator[None]:
    """`parameters` require gradients inside the block; after it they are as before, without gradients."""
    before = [parameter.requires_grad for parameter in parameters]
    try:
        for parameter in parameters:
            parameter.requires_grad_(True)
        yield
    finally:
        for parameter, required in zip(parameters, before, strict=True):
            parameter.requires_grad_(required)
            parameter.grad = None


@dataclass(frozen=True)
class Prompts:
    """What ESD needs encoded: the concept, the empty prompt, and what the concept is to become, None for the empty prompt."""

    concept: PromptConditioning
    empty: PromptConditioning
    anchor: PromptConditioning | None = None


def side_by_side(denoiser: DiffusersDenoiser, x_t: Tensor, t: int, prompts: Sequence[PromptConditioning]) -> Sequence[Tensor]:
    """eps(x_t, c, t) for each of `prompts` in one forward, which takes less time than one each; [B, C, H, W] each."""
    conditioning = denoiser.together([prompt for prompt in prompts for _ in range(len(x_t))])
    return denoiser.eps(x_t.repeat(len(prompts), 1, 1, 1), t, conditioning).chunk(len(prompts))


@torch.no_grad()
def negative_guidance(frozen: DiffusersDenoiser, prompts: Prompts, x_t: Tensor, t: int, eta: float) -> Tensor:
    """The target eps_0(x_t, anchor) - eta (eps_0(x_t, c) - eps_0(x_t, "")) of the unedited model (paper, section 4); [B, C, H, W]."""
    anchors = [] if prompts.anchor is None else [prompts.anchor]
    concept, empty, *rest = side_by_side(frozen, x_t, t, [prompts.concept, prompts.empty, *anchors])
    return (rest[0] if rest else empty) - eta * (concept - empty)


@dataclass(frozen=True)
class ESD:
    """Fine-tunes with Adam; x_t comes from the model being tuned, sampled under the concept up to a random step.

    The paper tunes SD 1.4 for 1000 iterations of one sample at 1e-5. Iterations and learning rates here are those of a small model, chosen
    among 3e-4, 5e-4 and 1e-3 (x) and 5e-5, 1e-4 (u) on "star" and "red" with seed 0: higher ones cost the other pictures more, lower ones
    leave the concept. Aiming at the matched base prompt was no better than at the paper's empty one.

    Attributes:
        part: see tuned_parameters.
        learning_rate: of Adam; RATES[part] when None.
        eta: strength of the negative guidance.
        matched: aim at the matched base prompt instead of the empty one.
        iterations, batch: of Adam.
        steps, cfg: of sampling.
    """

    part: Part
    learning_rate: float | None = None
    eta: float = 1.0
    matched: bool = False
    iterations: int = 100
    batch: int = 4
    steps: int = 10
    cfg: float = 3.0

    def __call__(self, denoiser: DiffusersDenoiser, task: Task, progress: Progress) -> Outcome:
        before = snapshot(denoiser.unet)
        frozen = copy(denoiser)
        frozen.unet = deepcopy(denoiser.unet)
        anchor = denoiser.encode_prompt(task.base) if self.matched else None
        prompts = Prompts(denoiser.encode_prompt(task.prompt), denoiser.encode_prompt(""), anchor)
        parameters = tuned_parameters(denoiser, self.part)
        optimiser = torch.optim.Adam(parameters, lr=self.learning_rate or RATES[self.part])
        timesteps = denoiser.schedule.ddim_timesteps(self.steps)
        ends = torch.randint(self.steps, (self.iterations,), generator=torch.Generator().manual_seed(task.seed)).tolist()
        evaluations = 0
        progress("tuning", 0, self.iterations)
        with asking_for_gradients(parameters):
            for iteration, end in enumerate(ends):
                # Each task's seed has a range of noises of its own.
                noise = initial_noise(task.seed * self.iterations * self.batch + iteration * self.batch, self.batch, denoiser.latent_shape)
                x_t = self.sample(denoiser, prompts, noise.to(denoiser.device), timesteps[: end + 1])
                target = negative_guidance(frozen, prompts, x_t, timesteps[end], self.eta)
                optimiser.zero_grad(set_to_none=True)
                (denoiser.eps(x_t, timesteps[end], prompts.concept) - target).square().mean().backward()
                optimiser.step()
                evaluations += self.batch * (2 * end + (3 if self.matched else 2) + BACKWARD)
                progress("tuning", iteration + 1, self.iterations)
        return Outcome(sum(changed(denoiser.unet, before).values()), evaluations)

    @torch.no_grad()
    def sample(self, denoiser: DiffusersDenoiser, prompts: Prompts, x: Tensor, timesteps: list[int]) -> Tensor:
        """x_t at the last of `timesteps` from noise `x` [B, C, H, W], with DDIM and classifier-free guidance."""
        for t, t_next in pairwise(timesteps):
            concept, empty = side_by_side(denoiser, x, t, [prompts.concept, prompts.empty])
            x = denoiser.schedule.ddim_step(x, empty + self.cfg * (concept - empty), t, t_next)
        return x
