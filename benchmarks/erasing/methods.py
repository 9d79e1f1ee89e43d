"""The methods that are compared: this project's, and its peers."""

from __future__ import annotations

from dataclasses import replace

import torch

from benchmarks import peers
from benchmarks.peers.uce import UCE
from cad_engine import cost
from cad_engine.checkpoints.denoiser import DiffusersDenoiser
from cad_engine.concept import attribute_concept
from cad_engine.concept_settings import ConceptSettings
from cad_engine.edit import edited_weight
from cad_engine.erasure import edit_from_attribution
from cad_engine.method import ROUNDS
from cad_engine.progress import Progress
from cad_engine.sandbox.captions import wording
from cad_engine.variations import varied
from cad_engine.vocabulary import Vocabulary

from .task import Method, Outcome, Task, named_parts

CONTEXTS = 12
SEEDS_APART = 1000
"""Between tasks: one run uses a few hundred seeds."""


def cad_settings(denoiser: DiffusersDenoiser, task: Task) -> ConceptSettings:
    """The defaults of CAD Attribute, told the words that every method may know (task.named_parts)."""
    words = wording(task.concept, named_parts(task.concept), CONTEXTS)
    told = ConceptSettings(
        words.concept,
        base=words.base,
        keep=task.keep,
        rounds=ROUNDS,
        contexts=words.contexts,
        components=("cross_attention_kv",),
        batch=20,
        seed=task.seed * SEEDS_APART,
    )
    return varied(told, Vocabulary.of(denoiser.pipeline.tokenizer, denoiser.pipeline.text_encoder))


def cad(denoiser: DiffusersDenoiser, task: Task, progress: Progress) -> Outcome:
    """What CAD Attribute and CAD Erase do with cad_settings."""
    settings = cad_settings(denoiser, task)
    edit = edit_from_attribution(attribute_concept(denoiser, settings, progress=progress), None)
    with torch.no_grad():
        for name, layer in edit.layers.items():
            weight = denoiser.layers[name].weight
            weight.copy_(edited_weight(weight, layer))
    return Outcome(len(edit), sum(cost.evaluations(settings).values()))


def uce_varied(denoiser: DiffusersDenoiser, task: Task, progress: Progress) -> Outcome:
    """UCE that preserves all that `cad` keeps: its neighbours and invented words, too."""
    return UCE(preserve=True)(denoiser, replace(task, keep=cad_settings(denoiser, task).keep), progress)


METHODS: dict[str, Method] = {"cad": cad, "uce + cad's keep list": uce_varied, **peers.METHODS}
