"""How much work an attribution is, stage by stage, known before it begins: for progress bars and for telling people."""

from __future__ import annotations

from .concept import ConceptSettings
from .goal_maker import Sizes
from .keep import trajectories_each
from .rounds import LOOKS

BACKWARD = 3
"""A forward and backward, in forwards of the UNet."""


def evaluations(settings: ConceptSettings, images: int | None = None) -> dict[str, int]:
    """Forwards of the UNet on one sample that each stage of concept.attribute_concept takes, in the order of the stages.

    Rounds are told at their longest: one may find its step with fewer looks at L, and be the last.

    `images` is the number of given images of the concept, None when it samples its own.
    """
    guided = 2 if settings.cfg > 1 else 1
    samples = settings.steps * (settings.trajectories if images is None else images)
    costs = {}
    if images is None:
        costs["sampling"] = guided * samples
    if settings.objective == "erase" and (settings.base.strip() or guided == 1):
        costs["base"] = samples
    if settings.rounds:
        return {**costs, **_rounds(settings, guided), "attribution": BACKWARD * samples}
    kept = len(settings.kept_prompts)
    own = kept * trajectories_each(settings.trajectories, kept) * settings.steps if kept else 0
    if kept:
        costs["keep"] = guided * own
    costs["attribution"] = BACKWARD * samples
    if kept:
        # The objective's states twice, under the concept and under what is kept; the kept prompts' under them and half of them under "".
        costs["harm"] = BACKWARD * (2 * samples + own + kept * -(-own // kept // 2))
    return costs


def _rounds(settings: ConceptSettings, guided: int) -> dict[str, int]:
    pairs, keep, steps = settings.pairs(), len(settings.kept_prompts), settings.steps
    sizes = Sizes.of(settings.trajectories, steps, len(pairs), keep)
    prompts = sum(2 if pair.concept != pair.base else 1 for pair in pairs)
    pictures = guided * (prompts * sizes.pictures + keep * sizes.kept_pictures) + sizes.free_pictures
    half = -(-sizes.own // 2)
    erase = prompts * sizes.own + len(pairs) * sizes.free
    kept_there = prompts * half + len(pairs) * sizes.free
    kept = kept_there + keep * sizes.kept + -(-keep * sizes.kept // 4)
    costs = {
        "sampling for rounds": steps * pictures + 2 * erase + kept_there + 2 * keep * sizes.kept,
        "gradient of every weight": BACKWARD * erase,
        "harm of every weight": BACKWARD * (erase + kept),
    }
    both = erase + kept
    for number in range(1, settings.rounds + 1):
        again = 0
        if number > 1:
            both += len(pairs) * (sizes.own + half)
            again = len(pairs) * (guided * steps * sizes.pictures + 2 * sizes.own + half) + both
        # One forward and two backwards a state, and the looks at L.
        costs[f"round {number}"] = again + (2 * BACKWARD - 1 + LOOKS) * both
    return costs
