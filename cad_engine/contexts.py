"""Sentences around a concept: where else its words are said than alone.

An edit that was made at "a star" only need not reach "a red star in dotted style": the text encoder gives the word another embedding
in every sentence. A context is a sentence with {} in the concept's place; the base prompt in the same place makes its matched base.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .errors import CadError, shown

PLACE = "{}"


@dataclass(frozen=True)
class Pair:
    """A prompt with the concept in it, and the same sentence without."""

    concept: str
    base: str


def check_contexts(contexts: Iterable[str]) -> None:
    """Raise CadError for a context without a place for the concept."""
    for context in contexts:
        if PLACE not in context:
            raise CadError(f"context {shown(context)!r} has no {PLACE} in the place of the concept; write e.g. 'a photo of {PLACE}'")


def pairs(concept: str, base: str, contexts: Iterable[str]) -> tuple[Pair, ...]:
    """Concept and base by themselves, and in each of `contexts`, each pair once. Blanks around what is left out are taken away."""

    def said(context: str, words: str) -> str:
        return " ".join(context.replace(PLACE, words).split()).strip(" ,")

    found = [Pair(concept.strip(), base.strip())]
    found += [Pair(said(context, concept), said(context, base)) for context in contexts]
    return tuple(dict.fromkeys(found))
