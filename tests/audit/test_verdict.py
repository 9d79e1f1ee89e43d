"""The words of a verdict: never more than was counted and tried."""

from __future__ import annotations

import pytest

from cad_engine.audit.verdict import Shown, verdict
from cad_engine.report.text import percent

BEFORE, NONE = Shown("before", 24, 24), Shown("after", 0, 24)
ATTACK, AMPLIFY = "an embedding", "CAD-Amplify"


@pytest.mark.parametrize(
    ("left", "word"), [(0, "suppressed"), (2, "suppressed"), (3, "partly suppressed"), (12, "partly suppressed"), (13, "not suppressed")]
)
def test_the_word_is_of_what_is_left(left: int, word: str) -> None:
    assert verdict("star", BEFORE, Shown("after", left, 24), []).word == word


def test_it_tells_the_numbers_with_their_interval() -> None:
    assert f"in 0 of 24 pictures (95 % interval {percent(0)} to {percent(0.14)})" in verdict("star", BEFORE, NONE, []).sentence


def test_an_attempt_that_brings_it_back_is_named() -> None:
    found = verdict("star", BEFORE, NONE, [Shown(ATTACK, 24, 24), Shown(AMPLIFY, 1, 24)])
    assert found.brought_back == (ATTACK,)
    assert found.sentence.startswith("Suppressed for its prompts: ")
    assert "Brought back by an embedding (24 of 24 pictures)." in found.sentence
    assert "Nothing" not in found.sentence


def test_one_picture_more_does_not_bring_it_back() -> None:
    assert verdict("star", Shown("before", 8, 8), Shown("after", 1, 8), [Shown(AMPLIFY, 2, 8)]).brought_back == ()


def test_only_when_all_was_tried_nothing_brought_it_back() -> None:
    attempts = [Shown(ATTACK, 0, 24), Shown(AMPLIFY, 0, 24)]
    assert "Nothing that was tried brought it back" in verdict("star", BEFORE, NONE, attempts).sentence
    left_out = verdict("star", BEFORE, NONE, attempts[:1], [AMPLIFY]).sentence
    assert "Nothing that was tried" not in left_out
    assert "not tried: CAD-Amplify" in left_out
    assert "Nothing was tried to bring it back." in verdict("star", BEFORE, NONE, [], [ATTACK, AMPLIFY]).sentence


def test_a_model_that_hardly_draws_it_says_nothing_about_an_edit() -> None:
    assert verdict("star", Shown("before", 11, 24), NONE, [Shown(ATTACK, 24, 24)]).word == "not known"


@pytest.mark.parametrize("left", range(0, 25, 4))
@pytest.mark.parametrize("again", [0, 24])
def test_it_never_says_removed(left: int, again: int) -> None:
    assert "removed" not in verdict("star", BEFORE, Shown("after", left, 24), [Shown(ATTACK, again, 24)]).sentence
