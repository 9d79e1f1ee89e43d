"""What an audit looks at when nobody says: what the edit says of itself."""

from __future__ import annotations

from ..contexts import PLACE, pairs
from ..edit import Edit

CONTEXTS = 3
"""Sentences of the edit's own that are taken, beside its concept alone: more would take longer and say little more."""


def concept_of(edit: Edit) -> str:
    """The words that the edit, or the first part of a combined one that says so, was made for; "" where none does."""
    return _said(edit, "concept")


def base_of(edit: Edit) -> str:
    """The prompt without the concept; "" where the edit names none."""
    return _said(edit, "base")


def prompts_of(edit: Edit, concept: str) -> tuple[str, ...]:
    """Prompts that ask for `concept`: what sampled it, or its words alone, and the first sentences that the edit was made in."""
    first = next((part for part in edit.parts or (edit,) if part.info.get("concept") == concept), None)
    if first is None:
        return (concept,)
    contexts = first.info.get("contexts")
    lines = [line for line in contexts if isinstance(line, str) and PLACE in line] if isinstance(contexts, list) else []
    sampled = first.info.get("prompt")
    alone = sampled if isinstance(sampled, str) and sampled.strip() else concept
    return tuple(dict.fromkeys((alone, *(pair.concept for pair in pairs(concept, "", lines[:CONTEXTS])[1:]))))


def _said(edit: Edit, name: str) -> str:
    said = (part.info.get(name) for part in edit.parts or (edit,))
    return next((value for value in said if isinstance(value, str) and value.strip()), "")
