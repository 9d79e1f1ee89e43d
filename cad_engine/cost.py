"""How much work an attribution is, stage by stage, known before it begins: for progress bars and for telling people."""

from __future__ import annotations

from .concept import ConceptSettings
from .keep import trajectories_each

BACKWARD = 3
"""A forward and backward, in forwards of the UNet."""


def evaluations(settings: ConceptSettings, images: int | None = None) -> dict[str, int]:
    """Forwards of the UNet on one sample that each stage of concept.attribute_concept takes, in the order of the stages.

    `images` is the number of given images of the concept, None when it samples its own.
    """
    guided = 2 if settings.cfg > 1 else 1
    samples = settings.steps * (settings.trajectories if images is None else images)
    costs = {}
    if images is None:
        costs["sampling"] = guided * samples
    if settings.objective == "erase" and (settings.base.strip() or guided == 1):
        costs["base"] = samples
    kept = len(settings.kept_prompts)
    own = kept * trajectories_each(settings.trajectories, kept) * settings.steps if kept else 0
    if kept:
        costs["keep"] = guided * own
    costs["attribution"] = BACKWARD * samples
    if kept:
        # The objective's states twice, under the concept and under what is kept; the kept prompts' under them and half of them under "".
        costs["harm"] = BACKWARD * (2 * samples + own + kept * -(-own // kept // 2))
    return costs
