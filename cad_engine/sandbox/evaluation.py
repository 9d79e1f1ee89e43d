"""Measuring an edit on the sandbox: is the concept still painted, and is everything else still right?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from torch import Tensor

from ..checkpoints.denoiser import DiffusersDenoiser
from ..generate import generate
from ..progress import Progress, silent
from .captions import kind_of, prompt
from .judge import Judge, Verdict
from .world import COLOURS, RARE_SHAPE, SHAPES, STYLES, Scene

STEPS, CFG, BATCH = 15, 3.0, 24
COMMON_SHAPES = tuple(shape for shape in SHAPES if shape != RARE_SHAPE)


@dataclass(frozen=True)
class Case:
    """One picture to paint: its prompt, its seed, and what it should show."""

    prompt: str
    seed: int
    scene: Scene

    def right(self, verdict: Verdict) -> bool:
        """Whether shape, colour and style are all as asked for."""
        return verdict.scene == self.scene


def _cases(scenes: Sequence[Scene], seed: int) -> list[Case]:
    return [Case(prompt(scene.shape, scene.colour, scene.style), seed + i, scene) for i, scene in enumerate(scenes)]


def target_cases(concept: str, count: int, seed: int) -> list[Case]:
    """`count` pictures whose prompt names `concept`, the other two parts going through their combinations in random order.

    CadError or ValueError as captions.kind_of. The rare shape appears only when it is the concept.
    """
    kind = kind_of(concept)
    shapes = (concept,) if kind == "shape" else COMMON_SHAPES
    colours = (concept,) if kind == "colour" else COLOURS
    styles = (concept,) if kind == "style" else STYLES
    return _cases(_spread([Scene(*parts) for parts in product(shapes, colours, styles)], count, seed), seed)


def other_cases(concept: str, count: int, seed: int) -> list[Case]:
    """`count` pictures whose prompt does not name `concept`, nor the rare shape, which the model hardly knows."""
    kind_of(concept)
    scenes = [Scene(*parts) for parts in product(COMMON_SHAPES, COLOURS, STYLES) if concept not in parts]
    return _cases(_spread(scenes, count, seed), seed + 100_000)


def _spread(scenes: list[Scene], count: int, seed: int) -> list[Scene]:
    """`count` of `scenes` in random order, each as often as any other give or take one."""
    rng = np.random.default_rng(seed)
    order = [int(i) for _ in range(-(-count // len(scenes))) for i in rng.permutation(len(scenes))]
    return [scenes[i] for i in order[:count]]


@dataclass(frozen=True)
class Painted:
    """Pictures [N, 3, 64, 64] of `cases` and the judge's verdicts."""

    cases: list[Case]
    pictures: Tensor
    verdicts: list[Verdict]

    def showing(self, concept: str) -> float:
        """The part of the pictures that show `concept`."""
        return sum(verdict.shows(concept) for verdict in self.verdicts) / len(self.verdicts)

    def right(self) -> list[bool]:
        """For each picture, whether shape, colour and style are all as asked for."""
        return [case.right(verdict) for case, verdict in zip(self.cases, self.verdicts, strict=True)]

    @property
    def accuracy(self) -> float:
        """The part of the pictures in which everything is right."""
        return sum(self.right()) / len(self.cases)


def paint(denoiser: DiffusersDenoiser, judge: Judge, cases: list[Case], progress: Progress = silent) -> Painted:
    """Paint `cases` with the model as it is and let the judge look."""
    pictures = generate(
        denoiser, [case.prompt for case in cases], [case.seed for case in cases], steps=STEPS, cfg=CFG, batch=BATCH, progress=progress
    )
    return Painted(cases, pictures, judge.look(pictures))
