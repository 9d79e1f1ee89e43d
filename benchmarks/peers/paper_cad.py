"""CAD as in its paper (arXiv 2412.02542): zero each row's highest positive attributions in the feed-forward layers, one shot."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from benchmarks.erasing.task import Outcome, Task
from cad_engine import cost
from cad_engine.checkpoints.denoiser import DiffusersDenoiser
from cad_engine.concept import attribute_concept
from cad_engine.concept_settings import ConceptSettings
from cad_engine.edit import Edit, edited_weight
from cad_engine.erasure import edit_from_attribution
from cad_engine.progress import Progress

from .changes import changed, snapshot


@dataclass(frozen=True)
class PaperCAD:
    """Eq. 6 with the rule `row`; nothing is told what must stay.

    Attributes:
        ratio: part of each row. The paper's 0.001 takes nothing from rows of 64 to 512 inputs; 0.1 is what shows an effect here.
        matched: score against the matched base prompt instead of the paper's empty one.
        trajectories, steps: of sampling the concept.
    """

    ratio: float = 0.1
    matched: bool = False
    trajectories: int = 20
    steps: int = 10

    def settings(self, task: Task) -> ConceptSettings:
        """What is attributed."""
        return ConceptSettings(
            task.prompt,
            base=task.base if self.matched else "",
            components=("ff",),
            trajectories=self.trajectories,
            steps=self.steps,
            seed=task.seed * self.trajectories,  # tasks of different seeds share no noise
            batch=min(20, self.trajectories),
        )

    def edit(self, denoiser: DiffusersDenoiser, task: Task, progress: Progress) -> Edit:
        """The weights to be zeroed."""
        return edit_from_attribution(attribute_concept(denoiser, self.settings(task), progress=progress), self.ratio, "row")

    @torch.no_grad()
    def __call__(self, denoiser: DiffusersDenoiser, task: Task, progress: Progress) -> Outcome:
        edit = self.edit(denoiser, task, progress)
        before = snapshot(denoiser.unet)
        for name, layer in edit.layers.items():
            denoiser.layers[name].weight.copy_(edited_weight(denoiser.layers[name].weight, layer))
        return Outcome(sum(changed(denoiser.unet, before).values()), sum(cost.evaluations(self.settings(task)).values()))
