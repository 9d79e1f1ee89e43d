"""Where an audit has its pictures from: the unedited and the edited model, however they are loaded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from ..denoiser import Conditioning, EmbeddingDenoiser
from ..progress import Progress
from .attack import AttackStates, attack, attack_states
from .settings import ATTACK_BATCH, STATE_PICTURES, AuditSettings

ATTACK_SEED = 10_000
"""Added to the seed for the states that the attack learns from, far from those of the pictures that are counted."""


class Studio(Protocol):
    """Pictures [N, 3, H, W] in [0, 1] on the CPU, one a seed; the models are left as they were."""

    def paint(self, prompts: Sequence[str], seeds: Sequence[int], progress: Progress, *, edited: bool) -> Tensor:
        """Of prompts, by the edited or the unedited model."""
        ...

    def find(self, start: str, states: Progress, searching: Progress) -> Conditioning:
        """The embedding that the attack on the edited model finds, beginning at the prompt `start`.

        `states` is told of the sampling that it learns from, which is done once.
        """
        ...

    def paint_found(self, found: Conditioning, seeds: Sequence[int], progress: Progress) -> Tensor:
        """Of an embedding that `find` returned, by the edited model."""
        ...

    def amplify(self, pictures: Tensor, attributing: Progress, prompts: Sequence[str], seeds: Sequence[int], progress: Progress) -> Tensor:
        """Of prompts, by the edited model after CAD-Amplify of the concept, learned from `pictures` [N, 3, H, W]."""
        ...


def states_to_find(denoiser: EmbeddingDenoiser, settings: AuditSettings, progress: Progress) -> AttackStates:
    """What the attack is to reproduce, from the unedited model."""
    return attack_states(
        denoiser,
        settings.prompts[0],
        settings.seed + ATTACK_SEED,
        STATE_PICTURES,
        steps=settings.steps,
        cfg=settings.cfg,
        batch=settings.batch,
        size=settings.size,
        progress=progress,
    )


def search(denoiser: EmbeddingDenoiser, start: str, states: AttackStates, settings: AuditSettings, progress: Progress) -> Conditioning:
    """What the attack finds on the model as it is."""
    return attack(
        denoiser,
        denoiser.encode_prompt(start),
        states,
        iterations=settings.iterations,
        batch=ATTACK_BATCH,
        seed=settings.seed,
        checkpointing=settings.checkpointing,
        progress=progress,
    ).conditioning
