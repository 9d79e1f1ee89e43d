"""The words that make a concept: what its prompt says and its base prompt does not."""

from __future__ import annotations

import re

STOP_WORDS = frozenset(
    (
        *("a", "an", "the", "this", "that", "it", "its", "is", "are", "as", "and", "or"),
        *("in", "into", "of", "on", "at", "by", "with", "without", "for", "from", "to"),
    )
)
MEDIA = frozenset(
    (
        *("style", "styles", "photo", "photos", "photograph", "picture", "pictures", "image", "images"),
        *("painting", "paintings", "drawing", "drawings"),
    )
)
"""Words that say little beside others: in "in dotted style" only "dotted" is the concept's own. By themselves they are a concept."""


def words(text: str) -> list[str]:
    """Letters, digits and underscores that stand together, in lower case."""
    return re.findall(r"\w+", text.casefold())


def own_words(concept: str, base: str) -> tuple[str, ...]:
    """Words of `concept` that are not in `base`, each once, without STOP_WORDS, and without MEDIA unless there is nothing else."""
    said = {*words(base), *STOP_WORDS}
    own = tuple(dict.fromkeys(word for word in words(concept) if word not in said))
    return tuple(word for word in own if word not in MEDIA) or own
