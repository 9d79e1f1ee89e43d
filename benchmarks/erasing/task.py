"""What a method is told when it is to erase a concept of the sandbox, and what it says afterwards."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from cad_engine.checkpoints.denoiser import DiffusersDenoiser
from cad_engine.progress import Progress
from cad_engine.sandbox.captions import KINDS, concept_prompts, kind_of, prompt
from cad_engine.sandbox.evaluation import COMMON_SHAPES

WORDS = {**KINDS, "shape": COMMON_SHAPES}
"""Concepts by kind, without the rare shape, which the model hardly knows."""
KEPT_PROMPTS = 8


@dataclass(frozen=True)
class Task:
    """One concept to erase.

    Attributes:
        concept: a shape, colour or style of the sandbox, e.g. "star".
        prompt, base: the concept's prompt ("a star") and its matched base prompt ("a shape").
        keep: prompts named to the method as what must stay ("a red circle in dotted style").
        seed: of everything random in the method.
    """

    concept: str
    prompt: str
    base: str
    keep: tuple[str, ...]
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What a method did.

    Attributes:
        weights: how many weights it changed.
        evaluations: forwards of the UNet on one sample; a forward and backward counts as three.
    """

    weights: int
    evaluations: int


class Method(Protocol):
    """Erases `task.concept` from `denoiser` by changing weights of its UNet in place; the caller restores them."""

    def __call__(self, denoiser: DiffusersDenoiser, task: Task, progress: Progress) -> Outcome: ...


def named_parts(concept: str) -> dict[str, tuple[str, ...]]:
    """By kind, the words that the keep list names: every second one, without the concept."""
    kind_of(concept)
    return {kind: tuple(word for word in words if word != concept)[0::2] for kind, words in WORDS.items()}


def unnamed_parts(concept: str) -> dict[str, tuple[str, ...]]:
    """By kind, the words that the method never hears of."""
    kind_of(concept)
    return {kind: tuple(word for word in words if word != concept)[1::2] for kind, words in WORDS.items()}


def keep_list(concept: str) -> tuple[str, ...]:
    """KEPT_PROMPTS prompts made of the named words, in which every named word comes up."""
    parts = named_parts(concept)
    turns = range(KEPT_PROMPTS)
    return tuple(prompt(*(words[(i + i // len(words) * shift) % len(words)] for shift, words in enumerate(parts.values()))) for i in turns)


def task(concept: str, seed: int) -> Task:
    """The task of erasing `concept`; ValueError names all concepts when the sandbox does not know it."""
    prompts = concept_prompts(concept)
    return Task(concept, prompts.sample, prompts.base, keep_list(concept), seed)
