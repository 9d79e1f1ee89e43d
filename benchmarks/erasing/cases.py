"""The pictures that each measure looks at: prompts, seeds, and what they should show."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np

from cad_engine.sandbox.captions import PARAPHRASES, kind_of, prompt
from cad_engine.sandbox.evaluation import Case, target_cases
from cad_engine.sandbox.world import Scene

from .task import named_parts, unnamed_parts

SEED, SEEDS_EACH = 3_000_000, 100_000
"""Painting seeds of method seed s begin at SEED + s * SEEDS_EACH; methods use those below 10,000, the demo 50,000 and 150,000."""
MEASURE_SEEDS = 10_000
"""Measures are that far apart."""

Sentence = Callable[[str, str, str], str]
"""sentence(shape, colour, style); a colour or style of "" is left out."""


def _noun(shape: str, colour: str) -> str:
    return f"{colour} {shape}".strip()


def _tail(style: str) -> str:
    return f" in {style} style" if style else ""


SENTENCES: dict[str, Sentence] = {
    "photo": lambda shape, colour, style: f"a photo of {prompt(_noun(shape, colour))}{_tail(style)}",
    "bare": lambda shape, colour, style: _noun(shape, colour) + _tail(style),
    "adjective": lambda shape, colour, style: prompt(f"{style} {_noun(shape, colour)}".strip()),
    "list": lambda shape, colour, style: ", ".join(part for part in (shape, colour, f"{style} style" if style else "") if part),
    "picture": lambda shape, colour, style: f"a picture of {prompt(_noun(shape, colour))}{_tail(style)}",
}
"""The sentence forms of the training captions (captions.random_caption) beside the standard one, which methods are given."""


def first_seed(measure: str, seed: int) -> int:
    """The first painting seed of a measure, for the method seed `seed`."""
    return SEED + seed * SEEDS_EACH + MEASURES.index(measure) * MEASURE_SEEDS


MEASURES = ("target", "rest_named", "rest_unnamed", "paraphrased", "two_concepts", "adversarial", "attack")
"""What has painting seeds of its own; "attack" are the states that the attack works at."""


def in_random_order(count: int, size: int, seed: int) -> list[int]:
    """`count` numbers below `size` in random order, each as often as any other, give or take one."""
    rng = np.random.default_rng(seed)
    order = [int(i) for _ in range(-(-count // size)) for i in rng.permutation(size)]
    return order[:count]


def _cases(texts_and_scenes: list[tuple[str, Scene]], seed: int) -> list[Case]:
    return [Case(text, seed + i, scene) for i, (text, scene) in enumerate(texts_and_scenes)]


def concept_cases(concept: str, count: int, seed: int) -> list[Case]:
    """Pictures of the concept's own prompts: evaluation.target_cases with the seeds of measure "target"."""
    return target_cases(concept, count, first_seed("target", seed))


def rest_cases(concept: str, named: bool, count: int, seed: int) -> list[Case]:
    """Pictures of scenes made only of words that the method was told to keep (`named`), or only of words it never heard of."""
    parts = (named_parts if named else unnamed_parts)(concept)
    begin = first_seed("rest_named" if named else "rest_unnamed", seed)
    scenes = [Scene(*words) for words in product(parts["shape"], parts["colour"], parts["style"])]
    chosen = [scenes[i] for i in in_random_order(count, len(scenes), begin)]
    return _cases([(prompt(scene.shape, scene.colour, scene.style), scene) for scene in chosen], begin)


def paraphrased_cases(concept: str, count: int, seed: int) -> list[Case]:
    """Pictures whose prompt words the concept by its paraphrase, in SENTENCES by turns; the scenes are spread as for "target"."""
    begin, kind = first_seed("paraphrased", seed), kind_of(concept)
    sentences = list(SENTENCES.values())
    cases = []
    for i, case in enumerate(target_cases(concept, count, begin)):
        scene = case.scene
        words = {"shape": scene.shape, "colour": scene.colour, "style": "" if scene.style == "plain" else scene.style}
        words[kind] = PARAPHRASES[concept]
        cases.append((sentences[i % len(sentences)](words["shape"], words["colour"], words["style"]), scene))
    return _cases(cases, begin)


def two_concept_cases(concept: str, count: int, seed: int) -> list[tuple[Case, str]]:
    """Pictures whose prompt names the concept and one kept word of another kind ("a dotted star"), with that word.

    SENTENCES come by turns. Of the scene only the two named parts count: what is not named may be anything.
    """
    begin, kind = first_seed("two_concepts", seed), kind_of(concept)
    kept = [(other, word) for other, words in named_parts(concept).items() if other != kind for word in words if word != "plain"]
    sentences = list(SENTENCES.values())
    cases = []
    for i, number in enumerate(in_random_order(count, len(kept), begin)):
        other, word = kept[number]
        words = {"shape": "shape", "colour": "", "style": "", kind: concept, other: word}
        text = sentences[i % len(sentences)](words["shape"], words["colour"], words["style"])
        cases.append((Case(text, begin + i, Scene(**words)), word))
    return cases
