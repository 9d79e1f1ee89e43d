"""The control of every method: as many weights as it changes, in the same layers, drawn at random and set to zero."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmarks.erasing.task import Method, Outcome, Task
from cad_engine.checkpoints.denoiser import DiffusersDenoiser
from cad_engine.erasure import distinct_positions
from cad_engine.progress import Progress

from .changes import changed, restore, snapshot


@dataclass(frozen=True)
class RandomWeights:
    """Lets `method` work only to count what it changes in each parameter, takes that back, and zeroes as many at random.

    Drawn are weights that are not zero already, so that as many entries differ. The outcome's evaluations are those of `method`.
    """

    method: Method

    @torch.no_grad()
    def __call__(self, denoiser: DiffusersDenoiser, task: Task, progress: Progress) -> Outcome:
        before = snapshot(denoiser.unet)
        outcome = self.method(denoiser, task, progress)
        counts = changed(denoiser.unet, before)
        restore(denoiser.unet, before)
        generator = torch.Generator().manual_seed(task.seed)
        for name, parameter in denoiser.unet.named_parameters():
            if name in counts:
                nonzero = parameter.flatten().nonzero().flatten()
                drawn = distinct_positions(len(nonzero), min(counts[name], len(nonzero)), generator)
                parameter.flatten()[nonzero[drawn.to(nonzero.device)]] = 0
        return Outcome(sum(changed(denoiser.unet, before).values()), outcome.evaluations)
