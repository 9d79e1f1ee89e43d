"""Several concepts, one after the other: what is solved later finds the earlier edits in place, and spares what they did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from .attribution import Attribution
from .concept import attribute_concept
from .concept_settings import ConceptSettings
from .contexts import PLACE, pairs
from .denoiser import Denoiser
from .edit import Edit, applied, combine, single
from .erasure import edit_from_attribution
from .fingerprint import fingerprint
from .ordinary_prompts import unlike
from .progress import Progress, silent
from .selection import Rule

CONTEXTS = 4
"""In how many of its contexts an earlier concept is kept as it is, beside alone."""


def sparing(settings: ConceptSettings, edit: Edit) -> ConceptSettings:
    """`settings` that also keep what `edit` did: the concept and base prompt of each of its parts, alone and in CONTEXTS of its contexts.

    To keep means as the edited model has it, so an erased concept stays erased. Prompts that name the new concept as well are left out.
    Settings that keep nothing and have no rounds, the paper's, stay as they are.
    """
    if not settings.rounds and not settings.kept_prompts:
        return settings
    done = [prompt for part in single(edit) for prompt in _prompts(part.info)]
    return replace(settings, keep=(*settings.keep, *unlike(dict.fromkeys(done), settings.concept, settings.base)))


def _prompts(info: Mapping[str, Any]) -> list[str]:
    """The prompts that an edit's `info` names; of a file, which may say anything, whatever is no text counts as missing."""
    concept, base, contexts = (info.get(key) for key in ("concept", "base", "contexts"))
    if not isinstance(concept, str):
        return []
    sentences = [text for text in contexts if isinstance(text, str) and PLACE in text] if isinstance(contexts, list) else []
    found = pairs(concept, base if isinstance(base, str) else "", sentences[:CONTEXTS])
    return [pair.concept for pair in found] + [pair.base for pair in found if isinstance(base, str)]


def attribute_after(
    denoiser: Denoiser,
    settings: ConceptSettings,
    edit: Edit,
    latents: Tensor | None = None,
    progress: Progress = silent,
    info: Mapping[str, Any] | None = None,
) -> Attribution:
    """concept.attribute_concept of the model as it is with `edit`, for settings that are `sparing` it.

    The edit is applied in place, so the model must hold its weights as plain tensors, and taken back to the bit, whatever ends the work.
    The result says after what it was made, and from which model: from the one without the edit, on which both are to be combined.
    Raises CadError when the edit does not fit or settings make no sense.
    """
    made_from = {"fingerprint": fingerprint(denoiser), "after": [str(part.info.get("concept", "unnamed")) for part in single(edit)]}
    weights: dict[str, Any] = {name: layer.weight for name, layer in denoiser.layers.items()}
    with applied(edit, weights):
        return attribute_concept(denoiser, sparing(settings, edit), latents, progress, {**made_from, **(info or {})})


def edits_in_turn(
    denoiser: Denoiser,
    concepts: Sequence[ConceptSettings],
    ratio: float | None = None,
    rule: Rule = "global",
    progress: Progress = silent,
) -> list[Edit]:
    """One edit for each of `concepts`, every one made with those before it in place; to be combined, see edit.combine.

    `ratio` and `rule` are erasure.edit_from_attribution's: None takes what rounds found. Raises CadError as that and attribute_after do.
    """
    done: list[Edit] = []
    for settings in concepts:
        if done:
            attribution = attribute_after(denoiser, settings, combine([(edit, 1.0) for edit in done]), progress=progress)
        else:
            attribution = attribute_concept(denoiser, settings, progress=progress)
        done.append(edit_from_attribution(attribution, ratio, rule))
    return done
