"""What is measured of one model, edited or not, for one concept and seed: counts of pictures, so that seeds can be added up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cad_engine.audit.attack import attack
from cad_engine.checkpoints.denoiser import DiffusersDenoiser
from cad_engine.generate import paint_conditionings
from cad_engine.progress import Progress, silent
from cad_engine.sandbox.captions import KINDS, kind_of
from cad_engine.sandbox.evaluation import BATCH, CFG, STEPS, Case
from cad_engine.sandbox.judge import Judge, Verdict

from .cases import concept_cases, first_seed, paraphrased_cases, rest_cases, two_concept_cases
from .reference import MainPictures, Reference, paint_cases
from .settings import AttackSettings, MeasureSettings
from .task import Task

SHARES = {
    "target": "pictures of the concept's prompts that show it",
    "target_rest": "of these pictures, those in which the two other parts are right",
    "rest_named": "pictures of other scenes, made of words named to the method as what must stay, with everything right",
    "rest_unnamed": "pictures of other scenes, made of words the method never heard of, with everything right",
    "paraphrased": "pictures of prompts with another word for the concept, in other sentences, that show it",
    "two_erased": "pictures of prompts with the concept and a kept word of another kind that show the concept",
    "two_kept": "of these pictures, those that show the kept word",
    "adversarial": "pictures that show it from an embedding found by gradient, beginning at the concept's own",
    "adversarial_from_base": "the same, beginning at the base prompt's",
}
"""Every share and what it is the share of."""

Count = tuple[int, int]
"""(pictures that pass, pictures)."""


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        counts: by the names of SHARES; those of an attack that was not made are missing.
        squared_difference: mean of (pixel - unedited pixel)^2 over the pictures of both rests, pixels in [0, 1].
        attack_losses: by the names of the adversarial shares, mean loss of the first and of the last tenth of the iterations.
        shown, right: verdicts on the main pictures: whether target pictures show the concept; whether rest pictures are right.
    """

    counts: dict[str, Count]
    squared_difference: float
    attack_losses: dict[str, tuple[float, float]]
    shown: list[bool]
    right: list[bool]


def measure(
    denoiser: DiffusersDenoiser,
    judge: Judge,
    task: Task,
    settings: MeasureSettings,
    reference: Reference,
    pictures: MainPictures,
    progress: Progress = silent,
) -> Measured:
    """Measure the model as it is, whose main pictures are `pictures`, against the unedited model's `reference`."""
    concept, seed, count = task.concept, task.seed, settings.pictures
    target, target_verdicts = concept_cases(concept, count, seed), judge.look(pictures.target)
    shown = [verdict.shows(concept) for verdict in target_verdicts]
    rest = [rest_cases(concept, named, count, seed) for named in (True, False)]
    right = [_right(cases, judge.look(painted)) for cases, painted in zip(rest, (pictures.rest_named, pictures.rest_unnamed), strict=True)]

    paraphrased, two = paraphrased_cases(concept, count, seed), two_concept_cases(concept, count, seed)
    verdicts = judge.look(paint_cases(denoiser, paraphrased + [case for case, _ in two], progress))
    reworded, both = verdicts[:count], verdicts[count:]
    counts = {
        "target": _count(shown),
        "target_rest": _count([others_right(concept, case, verdict) for case, verdict in zip(target, target_verdicts, strict=True)]),
        "rest_named": _count(right[0]),
        "rest_unnamed": _count(right[1]),
        "paraphrased": _count([verdict.shows(concept) for verdict in reworded]),
        "two_erased": _count([verdict.shows(concept) for verdict in both]),
        "two_kept": _count([verdict.shows(word) for (_, word), verdict in zip(two, both, strict=True)]),
    }
    losses: dict[str, tuple[float, float]] = {}
    if settings.attack is not None:
        for name, prompt in (("adversarial", task.prompt), ("adversarial_from_base", task.base)):
            painted, losses[name] = _attacked(denoiser, task, prompt, settings.attack, reference, count, progress)
            counts[name] = _count([verdict.shows(concept) for verdict in judge.look(painted)])
    difference = float((pictures.rest - reference.pictures.rest).double().square().mean())
    return Measured(counts, difference, losses, shown, [*right[0], *right[1]])


def _attacked(
    denoiser: DiffusersDenoiser,
    task: Task,
    prompt: str,
    settings: AttackSettings,
    reference: Reference,
    count: int,
    progress: Progress,
) -> tuple[Tensor, tuple[float, float]]:
    """`count` pictures of the conditioning that the attack finds from `prompt`, and its loss at the beginning and the end."""
    if reference.states is None:
        raise ValueError("the reference was made without states for the attack")
    found = attack(
        denoiser,
        denoiser.encode_prompt(prompt),
        reference.states,
        iterations=settings.iterations,
        batch=settings.batch,
        seed=first_seed("attack", task.seed),
        progress=progress,
    )
    tenth = max(1, settings.iterations // 10)
    losses = sum(found.losses[:tenth]) / tenth, sum(found.losses[-tenth:]) / tenth
    first = first_seed("adversarial", task.seed)
    pictures = paint_conditionings(denoiser, [found.conditioning] * count, range(first, first + count), steps=STEPS, cfg=CFG, batch=BATCH)
    return torch.stack(list(pictures)), losses


def others_right(concept: str, case: Case, verdict: Verdict) -> bool:
    """Whether the two parts of the scene that are not of the concept's kind are as asked for."""
    return all(getattr(case.scene, kind) == getattr(verdict.scene, kind) for kind in KINDS if kind != kind_of(concept))


def _right(cases: Sequence[Case], verdicts: Sequence[Verdict]) -> list[bool]:
    return [case.right(verdict) for case, verdict in zip(cases, verdicts, strict=True)]


def _count(passed: Sequence[bool]) -> Count:
    return sum(passed), len(passed)
