"""A model that the engine loaded itself, and an edit, as an audit needs them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..checkpoints.denoiser import DiffusersDenoiser
from ..concept import attribute_concept
from ..denoiser import Conditioning
from ..edit import Edit, applied
from ..erasure import edit_from_attribution
from ..generate import paint_conditionings
from ..progress import Progress
from .attack import AttackStates, attack, attack_states
from .settings import AMPLIFY_RULE, ATTACK_BATCH, ATTACK_SEED, STATE_PICTURES, AuditSettings


class CheckpointModel:
    """See AuditedModel; after every call the model is to the bit as it was. Raises CadError for an edit of another architecture."""

    def __init__(self, denoiser: DiffusersDenoiser, edit: Edit, settings: AuditSettings) -> None:
        self._denoiser, self._edit, self._settings = denoiser, edit, settings
        self._weights = {name: module.weight for name, module in denoiser.layers.items()}
        self._states: AttackStates | None = None
        with applied(edit, self._weights):
            pass  # what does not fit is said before anything is painted

    def before(self, prompts: Sequence[str], seeds: Sequence[int], progress: Progress) -> Tensor:
        """See AuditedModel.before."""
        encoded = {prompt: self._denoiser.encode_prompt(prompt) for prompt in set(prompts)}
        return self._paint([encoded[prompt] for prompt in prompts], seeds, progress)

    def after(self, prompts: Sequence[str], seeds: Sequence[int], progress: Progress) -> Tensor:
        """See AuditedModel.after."""
        with applied(self._edit, self._weights):
            return self.before(prompts, seeds, progress)

    def remember(self, prompt: str, progress: Progress) -> None:
        """See AuditedModel.remember."""
        given = self._settings
        self._states = attack_states(
            self._denoiser,
            prompt,
            given.seed + ATTACK_SEED,
            STATE_PICTURES,
            steps=given.steps,
            cfg=given.cfg,
            batch=given.batch,
            size=given.size,
            progress=progress,
        )

    def attacked(self, start: str, seeds: Sequence[int], searching: Progress, painting: Progress) -> Tensor:
        """See AuditedModel.attacked."""
        if self._states is None:
            raise ValueError("remember must be called before attacked")
        given = self._settings
        with applied(self._edit, self._weights):
            found = attack(
                self._denoiser,
                self._denoiser.encode_prompt(start),
                self._states,
                iterations=given.iterations,
                batch=ATTACK_BATCH,
                seed=given.seed,
                checkpointing=given.checkpointing,
                progress=searching,
            )
            return self._paint([found.conditioning] * len(seeds), seeds, painting)

    def amplified(self, shown: Tensor, prompts: Sequence[str], seeds: Sequence[int], searching: Progress, painting: Progress) -> Tensor:
        """See AuditedModel.amplified."""
        with applied(self._edit, self._weights):
            latents = self._denoiser.encode(shown)
            attribution = attribute_concept(self._denoiser, self._settings.amplifying(), latents, searching)
            with applied(edit_from_attribution(attribution, self._settings.ratio, AMPLIFY_RULE), self._weights):
                return self.before(prompts, seeds, painting)

    def _paint(self, conditionings: Sequence[Conditioning], seeds: Sequence[int], progress: Progress) -> Tensor:
        given = self._settings
        pictures = paint_conditionings(
            self._denoiser,
            conditionings,
            seeds,
            steps=given.steps,
            cfg=given.cfg,
            batch=given.batch,
            size=given.size,
            progress=progress,
        )
        return torch.stack(list(pictures))
