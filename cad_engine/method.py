"""The ways to attribute, as people name them, and the engine's settings that each of them stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from .concept_settings import ConceptSettings
from .errors import CadError, shown
from .objective import Kind
from .own_words import words
from .schedule import Spacing
from .variations import neighbours, varied
from .vocabulary import Vocabulary

METHODS = {"rounds": ("cross_attention_kv",), "per harm": ("ff", "attention"), "paper": ("ff",)}
"""Each with the components (see components.GROUPS) that it is for, when nobody says which."""
ROUNDS = 5
"""At most so many, when nobody says how many: concepts that are drawn in many places need the last two (docs/erasing.md)."""


STEPS, STEPS_WHILE_SAMPLING = 10, 4
"""Sampling steps when nobody says how many; the second where attribution is made while sampling (docs/method.md)."""
AUTOMATIC: Final = "auto"
"""The spacing of timesteps that suits the method."""


@dataclass(frozen=True)
class Chosen:
    """What of ConceptSettings the method decides, and what people should know of it: lines of text, none when all is as they said."""

    keep: tuple[str, ...]
    rounds: int
    contexts: tuple[str, ...]
    components: tuple[str, ...]
    steps: int
    spacing: Spacing
    remarks: tuple[str, ...]


def chosen(
    method: str | None,
    objective: Kind,
    keep: Sequence[str],
    contexts: Sequence[str],
    rounds: int,
    ordinary: Sequence[str],
    steps: int = 0,
    spacing: Spacing | Literal["auto"] = AUTOMATIC,
    prompt: str = "",
) -> Chosen:
    """`method` with the prompts `keep`, the sentences `contexts` and the sampled `prompt`; `ordinary` are the prompts
    that are kept when nobody says which.

    Rounds erase only: to amplify, they stand for "per harm" with a keep list and for "paper" without one. None is "rounds" without a
    remark about that. `steps` 0 and `spacing` AUTOMATIC are what suits the method. Raises CadError for another method, or for a number of
    rounds that is none.
    """
    if method is not None and method not in METHODS:
        raise CadError(f"method must be one of {', '.join(METHODS)}, got {shown(method)!r}")
    lines, sentences = _lines(keep), _lines(contexts)
    remarks, used = [], method or "rounds"
    if used == "rounds" and objective == "amplify":
        used = "per harm" if lines else "paper"
        if method is not None:
            remarks.append(f"rounds are for the objective erase; to amplify, the method {used} was used")
    if used == "rounds" and rounds < 1:
        raise CadError(f"rounds must be at least 1, got {rounds}; to rank weights without rounds, choose the method per harm or paper")
    unused = [
        name for name, given in (("keep", lines), ("contexts", sentences), ("prompt", prompt.strip())) if given and not _uses(used, name)
    ]
    if unused:
        remarks.append(f"the method {used} does not use {' and '.join(unused)}")
    if used == "paper":
        lines = ()
    elif not lines:
        lines = tuple(ordinary)
        remarks.append(f"keep is empty, so {len(lines)} ordinary prompts were kept")
    while_sampling = used == "paper" and objective == "erase"
    in_rounds = used == "rounds"
    return Chosen(
        keep=lines,
        rounds=rounds if in_rounds else 0,
        contexts=sentences if in_rounds else (),
        components=METHODS[used],
        steps=steps or (STEPS_WHILE_SAMPLING if while_sampling else STEPS),
        spacing=spacing if spacing != AUTOMATIC else "centred" if while_sampling else "trailing",
        remarks=tuple(remarks),
    )


def widened(settings: ConceptSettings, vocabulary: Vocabulary | None) -> tuple[ConceptSettings, tuple[str, ...]]:
    """`settings` as variations.varied makes them, and what people should know of it: nothing where there are no rounds.

    `vocabulary` is None for a text encoder whose words are not known. Raises CadError for settings that make no sense.
    """
    settings.check()
    if not settings.rounds:
        return settings, ()
    if vocabulary is None:
        remark = "no words near the concept were looked for, as this text encoder is of another build"
    else:
        near = _near(settings, vocabulary)
        remark = f"also kept: {', '.join(near)}" if near else "the text encoder knows no word of the concept, so no words near it were kept"
    return varied(settings, vocabulary), (remark,)


def _near(settings: ConceptSettings, vocabulary: Vocabulary) -> list[str]:
    """The words that variations.neighbours keeps, nearest first."""
    own = words(settings.concept)
    said = neighbours(replace(settings, contexts=()), vocabulary)  # the concept itself with another word in place of one of its own
    return list(dict.fromkeys(word for sentence in said for word in words(sentence) if word not in own))


def _uses(method: str, name: str) -> bool:
    return {"keep": method != "paper", "contexts": method == "rounds", "prompt": method != "rounds"}[name]


def _lines(given: Sequence[str]) -> tuple[str, ...]:
    return tuple(line.strip() for line in given if line.strip())
