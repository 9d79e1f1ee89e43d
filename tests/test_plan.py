"""Which states rounds look at."""

from __future__ import annotations

from collections import Counter

import pytest

from cad_engine.contexts import pairs
from cad_engine.plan import Deck, Picture, Plan, forwards, in_batches


def test_every_step_is_drawn_equally_often() -> None:
    deck = Deck(10, 0)
    drawn = Counter(step for count in (1, 4, 1, 3, 1) * 20 for step in deck.draw(count))
    assert set(drawn.values()) == {20}
    assert Deck(10, 0).draw(10) == tuple(range(10))
    assert Deck(10, 1).draw(4) != Deck(10, 2).draw(4)


@pytest.mark.parametrize("count", [1, 3, 7])
def test_the_steps_of_a_picture_are_different_and_in_order(count: int) -> None:
    deck = Deck(7, 5)
    for _ in range(30):
        steps = deck.draw(count)
        assert len(set(steps)) == count
        assert list(steps) == sorted(steps)


def test_states_are_shared_out_among_pictures() -> None:
    made = Deck(10, 0).pictures("a star", 3, 8)
    assert [len(picture.steps) for picture in made] == [3, 3, 2]
    assert [picture.prompt for picture in made] == ["a star"] * 3
    assert len(Deck(10, 0).pictures("a star", 5, 2)) == 2  # no picture without a state


def test_pictures_painted_equally_far_go_together() -> None:
    pictures = [Picture("", (last,)) for last in (9, 0, 5, 1)]
    assert in_batches(pictures, 2) == [[1, 3], [2, 0]]
    assert forwards(pictures, 2, False) == 2 * 1 + 2 * 9
    assert forwards(pictures, 2, True) == 2 * forwards(pictures, 2, False)
    assert forwards(pictures, 1, False) == 9 + 0 + 5 + 1


def test_the_plan_covers_every_prompt() -> None:
    told = pairs("star", "shape", ("a {}", "a red {}"))
    plan = Plan(told, ("a heart", "a ring"), 20, 10, 0)
    first = plan.first()
    sizes = plan.sizes
    assert [pair for pair, _ in first.own] == [pair for pair in told for _ in range(2)]
    for (pair, pictures), prompt in zip(first.own, (prompt for one in told for prompt in (one.concept, one.base)), strict=True):
        assert {picture.prompt for picture in pictures} == {prompt}
        assert prompt in (pair.concept, pair.base)
        assert sum(len(picture.steps) for picture in pictures) == sizes.own
    assert [pictures[0].prompt for pictures in first.kept] == ["a heart", "a ring"]
    assert all(sum(len(picture.steps) for picture in pictures) == sizes.kept for pictures in first.kept)
    assert len(first.free) == sizes.free_pictures
    again = plan.again()
    assert [pair for pair, _ in again] == list(told)
    assert all(picture.prompt == pair.concept for pair, pictures in again for picture in pictures)
    assert Plan(told, ("a heart", "a ring"), 20, 10, 0).first() == first
