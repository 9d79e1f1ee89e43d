"""What is kept when nobody says what: a mix of ordinary prompts, of the kind that a model of this family is asked for most.

It stands for everything that has nothing to do with the concept. Neighbours of the concept (the other dogs when one breed is erased)
are kept better by naming them.
"""

from __future__ import annotations

from collections.abc import Iterable

from .own_words import own_words, words

GENERAL = (
    "a photo of a person in the street",
    "a portrait of a woman, oil painting",
    "a dog running on grass",
    "a bowl of fruit on a wooden table",
    "a city skyline at night",
    "mountains and a lake under a cloudy sky",
    "a red car parked in front of a house",
    "a living room with a sofa and a window",
    "a watercolor of flowers in a vase",
    "a black and white drawing of a horse",
)
SANDBOX = (
    "a red circle",
    "a blue triangle in dotted style",
    "a purple cross in blurry style",
    "a green arrow in negative style",
    "a yellow square in striped style",
    "a black heart in outline style",
    "a red hexagon in blurry style",
    "a blue star",
    "a green ring in dotted style",
    "a purple square in negative style",
)


def ordinary_prompts(family: str, concept: str, base: str = "") -> tuple[str, ...]:
    """The mix for a model of `family`, without prompts that share a word with `concept` that is not in `base` too.

    So erasing "a red star" against "a red shape" leaves out what has a star and keeps what is red.
    """
    return unlike(SANDBOX if family == "sandbox" else GENERAL, concept, base)


def unlike(prompts: Iterable[str], concept: str, base: str) -> tuple[str, ...]:
    """Those of `prompts` that have none of the concept's own words (own_words.own_words)."""
    own = set(own_words(concept, base))
    return tuple(prompt for prompt in prompts if own.isdisjoint(words(prompt)))
