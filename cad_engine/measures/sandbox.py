"""The sandbox's judge as a measure: whether a concept is seen, and whether everything is that a prompt names."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import CadError
from ..sandbox.captions import KINDS, PARAPHRASES, kind_of
from ..sandbox.judge import Judge, Verdict

SIDE = 64
"""Pixels of the pictures that the judge reads."""


class SandboxConcept:
    """1 where the judge sees `concept`, a shape, colour or style of the sandbox; CadError when it is none."""

    counts = True

    def __init__(self, concept: str) -> None:
        try:
            kind_of(concept)
        except ValueError as error:
            raise CadError(str(error)) from error
        self.name = f"pictures in which the sandbox's judge sees “{concept}”"
        self.concept = concept
        self._judge = Judge.load()

    def values(self, pictures: Tensor, prompts: Sequence[str]) -> Tensor:
        """See Measure.values; CadError for pictures that are not 64 x 64."""
        return torch.tensor([float(verdict.shows(self.concept)) for verdict in looked(self._judge, pictures)])


class SandboxRight:
    """1 where the judge sees every shape, colour and style that the prompt names, in these words or the sandbox's other ones for them."""

    name = "pictures in which the sandbox's judge sees all that the prompt names"
    counts = True

    def __init__(self) -> None:
        self._judge = Judge.load()

    def values(self, pictures: Tensor, prompts: Sequence[str]) -> Tensor:
        """See Measure.values; CadError for pictures that are not 64 x 64."""
        verdicts = looked(self._judge, pictures)
        return torch.tensor(
            [float(all(verdict.shows(word) for word in named(prompt))) for verdict, prompt in zip(verdicts, prompts, strict=True)]
        )


def named(prompt: str) -> list[str]:
    """The words of the sandbox's world that `prompt` names, by themselves or in their other wording."""
    text = f" {' '.join(''.join(sign if sign.isalnum() or sign == '-' else ' ' for sign in prompt.casefold()).split())} "
    words = [word for known in KINDS.values() for word in known]
    return [word for word in words if f" {word} " in text or f" {PARAPHRASES[word]} " in text]


def looked(judge: Judge, pictures: Tensor) -> list[Verdict]:
    """The judge's verdicts on `pictures` [B, 3, 64, 64]; CadError for another size, on which it was not trained."""
    if tuple(pictures.shape[1:]) != (3, SIDE, SIDE):
        raise CadError(
            f"the sandbox's judge reads pictures of {SIDE} x {SIDE} pixels, got {list(pictures.shape)}; it is for the sandbox alone"
        )
    return judge.look(pictures)
