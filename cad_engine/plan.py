"""Which states (t, x_t) rounds look at, decided before anything is painted, so that every picture is painted only as far as it is needed.

A picture of which the state before its fourth step is wanted takes three steps. Over all pictures every step is wanted equally
often, so half of the sampling is saved, and the evaluations are known beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from .contexts import Pair

STATES_OF_CONCEPT, STATES_OF_KEEP = 6, 6
"""States of J, and states of kept prompts' own pictures, for each trajectory of the concept."""


@dataclass(frozen=True)
class Picture:
    """A picture to be painted: its prompt, and before which steps (counted from 0, ascending) its latents are wanted."""

    prompt: str
    steps: tuple[int, ...]

    @property
    def steps_made(self) -> int:
        return self.steps[-1]


@dataclass(frozen=True)
class Sizes:
    """How many pictures and states (t, x_t) there are of each kind, for so many pairs and kept prompts."""

    pictures: int  # of each prompt of the concept
    kept_pictures: int  # of each kept prompt
    free_pictures: int
    own: int  # states from the pictures of each prompt of the concept
    free: int  # states from free pictures, for each pair
    kept: int  # states from the pictures of each kept prompt

    @classmethod
    def of(cls, trajectories: int, steps: int, pairs: int, keep: int) -> Sizes:
        """At least one state of everything, and no more than the pictures have."""
        states = max(1, STATES_OF_CONCEPT * trajectories // (3 * pairs))
        pictures, kept_pictures, free = max(1, trajectories // (2 * pairs)), max(1, trajectories // (2 * keep)), max(1, trajectories // 4)
        return cls(
            pictures=pictures,
            kept_pictures=kept_pictures,
            free_pictures=free,
            own=min(states, pictures * steps),
            free=min(states, free * steps),
            kept=min(max(1, STATES_OF_KEEP * trajectories // keep), kept_pictures * steps),
        )


class Deck:
    """Numbers of steps in random order, each as often as any other."""

    def __init__(self, steps: int, seed: int) -> None:
        self.steps, self._random = steps, torch.Generator().manual_seed(seed)
        self._left: list[int] = []

    def draw(self, count: int) -> tuple[int, ...]:
        """`count` different steps, ascending."""
        drawn: list[int] = []
        while len(drawn) < count:
            fresh = next((step for step in self._left if step not in drawn), None)
            if fresh is None:
                self._left += torch.randperm(self.steps, generator=self._random).tolist()
                continue
            self._left.remove(fresh)
            drawn.append(fresh)
        return tuple(sorted(drawn))

    def pictures(self, prompt: str, pictures: int, states: int) -> list[Picture]:
        """At most `pictures` of `prompt`, with `states` states of them in all."""
        each, more = divmod(states, pictures)
        counts = (each + (number < more) for number in range(pictures))
        return [Picture(prompt, self.draw(count)) for count in counts if count]


def in_batches(pictures: Sequence[Picture], batch: int) -> list[list[int]]:
    """Numbers of `pictures`, those painted equally far together."""
    order = sorted(range(len(pictures)), key=lambda number: pictures[number].steps_made)
    return [order[first : first + batch] for first in range(0, len(order), batch)]


def forwards(pictures: Sequence[Picture], batch: int, guided: bool, lead: bool = False) -> int:
    """Evaluations that painting them takes; `lead`: whether a step leads in, see NoiseSchedule.lead."""
    steps = (len(some) * pictures[some[-1]].steps_made for some in in_batches(pictures, batch))
    return (2 if guided else 1) * sum(steps) + len(pictures) * lead


class Plan:
    """All pictures of rounds, in their order: `first`, then `again` before every further round."""

    def __init__(self, pairs: Sequence[Pair], keep: Sequence[str], trajectories: int, steps: int, seed: int) -> None:
        self.pairs, self.keep = pairs, keep
        self.sizes = Sizes.of(trajectories, steps, len(pairs), len(keep))
        self._deck, self._steps = Deck(steps, seed), steps

    def first(self) -> First:
        """What the unedited model paints."""
        sizes, deck = self.sizes, self._deck
        own = [
            (pair, deck.pictures(prompt, sizes.pictures, sizes.own))
            for pair in self.pairs
            for prompt in dict.fromkeys((pair.concept, pair.base))
        ]
        kept = [deck.pictures(prompt, sizes.kept_pictures, sizes.kept) for prompt in self.keep]
        return First(own, kept, [Picture("", tuple(range(self._steps)))] * sizes.free_pictures)

    def again(self) -> list[tuple[Pair, list[Picture]]]:
        """What an edited model paints: the concept's prompts."""
        return [(pair, self._deck.pictures(pair.concept, self.sizes.pictures, self.sizes.own)) for pair in self.pairs]


@dataclass(frozen=True)
class First:
    """Pictures of the concept's and base prompts by their pair, of each kept prompt, and of nothing in particular, without guidance."""

    own: list[tuple[Pair, list[Picture]]]
    kept: list[list[Picture]]
    free: list[Picture]

    @property
    def guided(self) -> list[list[Picture]]:
        return [*(pictures for _, pictures in self.own), *self.kept]
