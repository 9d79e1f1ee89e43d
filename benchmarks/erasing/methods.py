"""The methods that are compared: this project's, and its peers."""

from __future__ import annotations

import torch

from benchmarks import peers
from cad_engine import cost
from cad_engine.checkpoints.denoiser import DiffusersDenoiser
from cad_engine.concept import ConceptSettings, attribute_concept
from cad_engine.edit import edited_weight
from cad_engine.erasure import edit_from_attribution
from cad_engine.progress import Progress
from cad_engine.sandbox.captions import wording

from .task import Method, Outcome, Task, named_parts

COMPONENTS, ROUNDS = ("ff", "attention"), 4
SEEDS_APART = 1000
"""Between tasks: one run uses a few hundred seeds."""


def cad(denoiser: DiffusersDenoiser, task: Task, progress: Progress) -> Outcome:
    """What CAD Attribute and CAD Erase do with their defaults, told the words that every method may know (task.named_parts)."""
    words = wording(task.concept, named_parts(task.concept))
    settings = ConceptSettings(
        words.concept,
        base=words.base,
        keep=task.keep,
        rounds=ROUNDS,
        contexts=words.contexts,
        components=COMPONENTS,
        batch=20,
        seed=task.seed * SEEDS_APART,
    )
    edit = edit_from_attribution(attribute_concept(denoiser, settings, progress=progress), None)
    with torch.no_grad():
        for name, layer in edit.layers.items():
            weight = denoiser.layers[name].weight
            weight.copy_(edited_weight(weight, layer))
    return Outcome(len(edit), sum(cost.evaluations(settings).values()))


METHODS: dict[str, Method] = {"cad": cad, **peers.METHODS}
