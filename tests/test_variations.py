"""Sentences that nobody named: by invented words, and by the neighbours of the concept's word."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cad_engine.checkpoints.load import load_model
from cad_engine.concept_settings import ConceptSettings
from cad_engine.variations import INVENTED_CONTEXTS, INVENTED_KEEP, NEIGHBOURS, SAME, SENTENCES_EACH, neighbours, varied
from cad_engine.vocabulary import Vocabulary

SETTINGS = ConceptSettings(
    "red",
    base="colored",
    keep=("a green circle", "a yellow ring in dotted style"),
    rounds=2,
    contexts=("a {} shape", "a {} heart in dotted style"),
)


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    denoiser = load_model("sandbox")
    return Vocabulary.of(denoiser.pipeline.tokenizer, denoiser.pipeline.text_encoder)


def test_the_vocabulary_is_whole_words(vocabulary: Vocabulary) -> None:
    assert {"red", "star", "dotted", "five", "style"} <= set(vocabulary.words)
    assert all(word.isalpha() and word.islower() and len(word) >= 3 for word in vocabulary.words)
    assert "a" not in vocabulary
    with pytest.raises(KeyError):
        vocabulary.near("zzz")


def test_closeness_is_the_cosine_of_token_embeddings() -> None:
    tokens = [("red</w>", 3), ("blue</w>", 0), ("dark</w>", 1), ("re", 2), ("re</w>", 4), ("12a</w>", 5)]
    embeddings = torch.tensor([[0.0, 2.0], [3.0, 3.0], [9.0, 9.0], [5.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    found = Vocabulary(tokens, embeddings)
    assert found.words == ["blue", "dark", "red"]
    (first, one), (second, two) = found.near("red")
    assert (first, second) == ("dark", "blue")
    assert (one, two) == pytest.approx((0.5**0.5, 0.0), abs=1e-6)


def test_neighbours_are_near_but_do_not_say_the_same(vocabulary: Vocabulary) -> None:
    found = neighbours(SETTINGS, vocabulary)
    words = [word for word, closeness in vocabulary.near("red") if closeness < SAME][:NEIGHBOURS]
    assert len(found) <= NEIGHBOURS * SENTENCES_EACH
    assert found[0] == f"a {words[0]} shape"
    assert found[1] == f"a {words[0]} heart in dotted style"
    assert {word for word in words if any(word in sentence for sentence in found)} == set(words)
    assert "purple" in words
    # Its other word, as near as can be, is left to go with it.
    assert vocabulary.near("red")[0][0] == "crimson"
    assert not any("crimson" in sentence or "red" in sentence.split() for sentence in found)


def test_words_of_the_base_prompt_have_no_neighbours(vocabulary: Vocabulary) -> None:
    settings = replace(SETTINGS, concept="a shape in dotted style", base="a shape", contexts=())
    found = neighbours(settings, vocabulary)
    assert found
    assert all(sentence.startswith("a shape in ") for sentence in found)
    # "in" and "style" are not in the base either; with another word in their place, the sentence would still ask for what is erased.
    assert all(sentence.endswith(" style") and "dotted" not in sentence for sentence in found)
    assert neighbours(replace(settings, concept="a shape qq", base="a shape"), vocabulary) == ()


@pytest.mark.parametrize("concept", ["a dotted negative star", "a dotted-negative Star", "dotted negative"])
def test_own_words_that_stand_together_are_replaced_together(vocabulary: Vocabulary, concept: str) -> None:
    found = neighbours(replace(SETTINGS, concept=concept, base="", contexts=()), vocabulary)
    assert len(found) == NEIGHBOURS
    assert all(len(sentence.split()) == (2 if concept.startswith("a") else 1) for sentence in found)
    assert not any(word in sentence.casefold() for sentence in found for word in ("dotted", "negative", "star"))


def test_own_words_that_stand_apart_are_replaced_one_at_a_time(vocabulary: Vocabulary) -> None:
    found = neighbours(replace(SETTINGS, concept="a dotted shape of red", base="a shape", contexts=()), vocabulary)
    assert {sentence.split()[1] == "dotted" for sentence in found} == {True, False}
    assert all(("dotted" in sentence) != ("red" in sentence.split()) for sentence in found)


def test_a_filler_by_itself_is_a_concept(vocabulary: Vocabulary) -> None:
    found = neighbours(replace(SETTINGS, concept="a style", base="", contexts=()), vocabulary)
    assert found
    assert not any("style" in sentence for sentence in found)


@pytest.mark.parametrize("concept", ["star2", "star_shape", "a star\u00e9"])
def test_part_of_a_word_has_no_neighbours(vocabulary: Vocabulary, concept: str) -> None:
    settings = replace(SETTINGS, concept=concept, base="", contexts=())
    assert neighbours(settings, vocabulary) == ()
    varied(settings, vocabulary).check()


def test_settings_are_widened_and_the_seed_decides_how(vocabulary: Vocabulary) -> None:
    wide = varied(SETTINGS, vocabulary)
    assert wide.contexts[:2] == SETTINGS.contexts
    assert len(wide.contexts) == 2 + INVENTED_CONTEXTS
    assert all("{}" in context for context in wide.contexts)
    assert wide.keep[:2] == SETTINGS.keep
    assert wide.keep[2 + INVENTED_KEEP :] == neighbours(SETTINGS, vocabulary)
    invented = {word for sentence in wide.contexts[2:] for word in sentence.replace("{}", "").replace(",", "").split()}
    assert len(invented - {"a", "shape", "heart", "in", "dotted", "style"}) > INVENTED_CONTEXTS // 3
    wide.check()
    assert varied(SETTINGS, vocabulary) == wide
    assert varied(replace(SETTINGS, seed=1), vocabulary).contexts != wide.contexts
    assert varied(SETTINGS, None).keep == wide.keep[: 2 + INVENTED_KEEP]


def test_without_rounds_settings_stay(vocabulary: Vocabulary) -> None:
    one_shot = replace(SETTINGS, rounds=0, contexts=())
    assert varied(one_shot, vocabulary) is one_shot


def test_a_concept_without_contexts_gets_some(vocabulary: Vocabulary) -> None:
    wide = varied(replace(SETTINGS, contexts=()), vocabulary)
    assert len(wide.pairs()) > INVENTED_CONTEXTS // 2
    assert all(pair.concept.startswith("red, ") and pair.base.startswith("colored, ") for pair in wide.pairs()[1:])
