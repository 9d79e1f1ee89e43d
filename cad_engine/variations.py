"""Sentences that nobody named: what rounds look at beside the contexts and the keep list that they were given.

An edit reaches, and spares, what it was looked at with. Two things widen that, and neither needs to be told a word:

- **Invented words.** A word of a context or of a kept prompt is replaced by syllables that mean nothing ("a red {} in zobi style"), the
  concept and its base prompt in the same place: what the edit does may not hang on the words around the concept.
- **Neighbours.** In the place of the concept's own words, the words whose token embeddings are nearest to one of them ("purple" and "black"
  for "red") are kept: they are at risk first. Words nearer than SAME are left alone, as they may say the same ("crimson"). Own words that
  follow each other are replaced together, as "vans gogh" would still say Van Gogh.
"""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import replace

from .concept_settings import ConceptSettings
from .contexts import PLACE
from .own_words import own_words, words
from .vocabulary import Vocabulary

INVENTED_CONTEXTS, INVENTED_KEEP = 24, 8
"""How many sentences with invented words there are."""
NEIGHBOURS, SENTENCES_EACH = 6, 2
"""How many of the nearest words are kept, and in how many of the contexts each."""
SAME = 0.5
"""Words with at least this cosine to the concept's word may say the same."""


def varied(settings: ConceptSettings, vocabulary: Vocabulary | None) -> ConceptSettings:
    """`settings` with contexts and a keep list widened as above; as they are without rounds. Their seed decides on the syllables."""
    if not settings.rounds:
        return settings
    chance = random.Random(settings.seed)
    contexts = [PLACE, *settings.context_lines]
    invented = [_invented(contexts[turn % len(contexts)], chance) for turn in range(INVENTED_CONTEXTS)]
    kept = settings.kept_prompts
    also = [_invented(kept[turn % len(kept)], chance) for turn in range(INVENTED_KEEP)]
    near = () if vocabulary is None else neighbours(settings, vocabulary)
    return replace(settings, contexts=(*settings.context_lines, *invented), keep=(*kept, *also, *near))


def neighbours(settings: ConceptSettings, vocabulary: Vocabulary) -> tuple[str, ...]:
    """Sentences about the nearest neighbours of the concept's own words (own_words.own_words), by turns in all contexts."""
    own = own_words(settings.concept, settings.base)
    near = {word: vocabulary.near(word) for word in own if word in vocabulary}
    same = {other for others in near.values() for other, closeness in others if closeness >= SAME} | set(own)
    ranked = sorted(((closeness, word, other) for word, others in near.items() for other, closeness in others), reverse=True)
    others = [(word, other) for _, word, other in ranked if other not in same]
    # Of words that are replaced together, each may bring the same sentence; so many pairs have NEIGHBOURS different ones.
    said = dict.fromkeys(_instead(settings.concept, own, word, other) for word, other in others[: NEIGHBOURS * len(own)])
    places = itertools.cycle(settings.context_lines or (PLACE,))
    nearest = list(said)[:NEIGHBOURS]
    return tuple(dict.fromkeys(next(places).replace(PLACE, sentence) for sentence in nearest for _ in range(SENTENCES_EACH)))


def _instead(concept: str, own: tuple[str, ...], word: str, other: str) -> str:
    """`concept` with `other` in the place of `word` and of the `own` words that it stands together with, blanks or hyphens between them."""
    one = rf"(?:{'|'.join(re.escape(each) for each in own)})"
    together = re.compile(rf"\b{one}(?:[\s-]+{one})*\b", re.IGNORECASE)
    return together.sub(lambda found: other if word in words(found[0]) else found[0], concept)


def _invented(sentence: str, chance: random.Random) -> str:
    """`sentence` with one of its words (not the concept's place) replaced by syllables, or with some added when it has none."""
    places = list(re.finditer(r"[^\W\d_]{3,}", sentence))
    syllables = "".join(chance.choice("bdfgklmnprstvz") + chance.choice("aeiou") for _ in range(chance.randint(1, 2)))
    if not places:
        return f"{sentence}, {syllables}"
    place = chance.choice(places)
    return sentence[: place.start()] + syllables + sentence[place.end() :]
