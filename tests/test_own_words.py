"""Which words of a prompt make the concept."""

from __future__ import annotations

import pytest

from cad_engine.ordinary_prompts import GENERAL, unlike
from cad_engine.own_words import own_words


@pytest.mark.parametrize(
    ("concept", "base", "own"),
    [
        ("a red star", "a shape", ("red", "star")),
        ("a red star", "a red shape", ("star",)),
        ("in dotted style", "", ("dotted",)),
        ("a painting in the style of Van Gogh", "a painting", ("van", "gogh")),
        ("Star, star", "", ("star",)),
        ("a star_2", "a", ("star_2",)),
        ("oil painting", "", ("oil",)),
        ("a painting", "", ("painting",)),
        ("the", "", ()),
        ("a star", "a star", ()),
        ("", "", ()),
    ],
)
def test_own_words(concept: str, base: str, own: tuple[str, ...]) -> None:
    assert own_words(concept, base) == own


def test_ordinary_prompts_without_the_concept() -> None:
    assert not any("red" in prompt.split() for prompt in unlike(GENERAL, "a Red thing", "a thing"))
    assert not any("painting" in prompt for prompt in unlike(GENERAL, "painting", ""))
    # Words that say little by themselves leave nothing out.
    assert unlike(GENERAL, "a photo of a zebra in the style of Monet", "") == GENERAL
