"""The sandbox's grammar: how a scene is put into words, and which words it understands.

A part that is left out, or named by its neutral word ("shape", "colored", "in any style"), may be anything; without a style a
picture is plain. So "a red shape" is the matched base prompt of "a red star".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .world import COLOURS, SHAPES, STYLES, Scene

NEUTRAL_SHAPE = "shape"
NEUTRAL_COLOUR = "colored"
NEUTRAL_STYLE = "any"

PARAPHRASES = {
    "circle": "disc",
    "square": "box",
    "triangle": "three-sided figure",
    "star": "five-pointed figure",
    "heart": "love symbol",
    "cross": "plus sign",
    "ring": "hoop",
    "crescent": "moon",
    "arrow": "pointer",
    "hexagon": "six-sided figure",
    "red": "crimson",
    "green": "emerald",
    "blue": "azure",
    "yellow": "golden",
    "purple": "violet",
    "black": "dark",
    "plain": "flat",
    "outline": "outlined",
    "dotted": "speckled",
    "striped": "hatched",
    "blurry": "hazy",
    "negative": "inverted",
}
"""A second wording for every concept, rarer in the training captions than the first."""

KINDS = {"shape": SHAPES, "colour": COLOURS, "style": STYLES}


def kind_of(concept: str) -> str:
    """'shape', 'colour' or 'style' of a concept word; ValueError names all words when it is none of them."""
    for kind, words in KINDS.items():
        if concept in words:
            return kind
    known = "; ".join(f"{kind}s {', '.join(words)}" for kind, words in KINDS.items())
    raise ValueError(f"the sandbox does not know the concept {concept!r}; it knows {known}")


def _with_article(phrase: str) -> str:
    return ("an " if phrase[0] in "aeiou" else "a ") + phrase


def prompt(shape: str | None = None, colour: str | None = None, style: str | None = None) -> str:
    """The standard prompt for the given parts, e.g. prompt("star", "red", "dotted") = "a red star in dotted style".

    A missing shape becomes the neutral word; a missing colour or style is left out.
    """
    words = [word for word in (colour, shape or NEUTRAL_SHAPE) if word]
    tail = f" in {style} style" if style and style != "plain" else ""
    return _with_article(" ".join(words)) + tail


@dataclass(frozen=True)
class ConceptPrompts:
    """The prompts that go with one concept: what samples it, what scores it, and their matched bases."""

    concept: str
    kind: str
    sample: str
    base: str


@dataclass(frozen=True)
class Wording:
    """A concept as ConceptSettings wants it for rounds: its words, the neutral ones for them, and sentences with {} in their place."""

    concept: str
    base: str
    contexts: tuple[str, ...]


def wording(concept: str, parts: Mapping[str, Sequence[str]], count: int = 6) -> Wording:
    """`concept` alone and in `count` sentences with other `parts` (words by kind), of which it names no others."""
    kind = kind_of(concept)
    words, base = {"shape": (concept, NEUTRAL_SHAPE), "colour": (concept, NEUTRAL_COLOUR), "style": (f"in {concept} style", "")}[kind]
    alone = {"shape": "a {}", "colour": f"a {{}} {NEUTRAL_SHAPE}", "style": f"a {NEUTRAL_SHAPE} {{}}"}[kind]

    def sentence(turn: int) -> str:
        shape, colour = (parts[name][turn % len(parts[name])] for name in ("shape", "colour"))
        style = parts["style"][(turn + 1 + turn // len(parts["style"])) % len(parts["style"])]
        if kind == "style":
            return f"{prompt(shape, colour)} {{}}"
        return prompt("{}" if kind == "shape" else shape, "{}" if kind == "colour" else colour, style)

    return Wording(words, base, (alone, *(sentence(turn) for turn in range(count))))


def concept_prompts(concept: str) -> ConceptPrompts:
    """Prompt and matched base prompt of one concept: the same sentence with the concept's neutral word in its place."""
    kind = kind_of(concept)
    if kind == "shape":
        return ConceptPrompts(concept, kind, prompt(shape=concept), prompt())
    if kind == "colour":
        return ConceptPrompts(concept, kind, prompt(colour=concept), prompt(colour=NEUTRAL_COLOUR))
    return ConceptPrompts(concept, kind, prompt(style=concept), prompt())


def random_caption(scene: Scene, rng: np.random.Generator) -> str:
    """One training caption for `scene`; about one in ten is empty, one word in eight is a paraphrase."""
    if rng.random() < 0.10:
        return ""

    def word(concept: str) -> str:
        return PARAPHRASES[concept] if rng.random() < 0.125 else concept

    shape = NEUTRAL_SHAPE if rng.random() < 0.10 else word(scene.shape)
    draw = rng.random()
    colour = "" if draw < 0.12 else NEUTRAL_COLOUR if draw < 0.15 else word(scene.colour)
    if rng.random() < 0.06:
        style = NEUTRAL_STYLE
    elif scene.style == "plain" and rng.random() < 0.7:
        style = ""
    else:
        style = word(scene.style)
    noun = f"{colour} {shape}".strip()
    tail = f" in {style} style" if style else ""
    draw = rng.random()
    if draw < 0.45:
        return _with_article(noun) + tail
    if draw < 0.60:
        return f"a {rng.choice(['picture', 'photo'])} of {_with_article(noun)}{tail}"
    if draw < 0.75:
        return noun + tail
    if draw < 0.88 and style != NEUTRAL_STYLE:
        return _with_article(f"{style} {noun}".strip())
    return ", ".join(part for part in (shape, colour, f"{style} style" if style else "") if part)
