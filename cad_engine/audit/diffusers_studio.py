"""Pictures for an audit of a model that the engine loaded itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..checkpoints.denoiser import DiffusersDenoiser
from ..concept import attribute_concept
from ..denoiser import Conditioning
from ..edit import Edit, applied, check_fits
from ..erasure import edit_from_attribution
from ..generate import paint, paint_conditionings
from ..progress import Progress
from .attack import AttackStates
from .settings import AuditSettings
from .studio import search, states_to_find


class DiffusersStudio:
    """The Studio of a model that the engine loaded itself; `edit` is applied to its weights only as long as needed.

    Raises CadError for an edit of another architecture.
    """

    def __init__(self, denoiser: DiffusersDenoiser, edit: Edit, settings: AuditSettings) -> None:
        self._denoiser, self._edit, self._settings = denoiser, edit, settings
        self._weights: dict[str, Tensor] = {name: module.weight for name, module in denoiser.layers.items()}
        self._sampling: dict[str, Any] = {name: getattr(settings, name) for name in ("steps", "cfg", "batch", "size")}
        self._states: AttackStates | None = None
        check_fits(edit, {name: tuple(weight.shape) for name, weight in self._weights.items()})

    def paint(self, prompts: Sequence[str], seeds: Sequence[int], progress: Progress, *, edited: bool) -> Tensor:
        """See Studio."""
        with applied(self._edit if edited else Edit({}), self._weights):
            return torch.stack(list(paint(self._denoiser, prompts, seeds, **self._sampling, progress=progress)))

    def find(self, start: str, states: Progress, searching: Progress) -> Conditioning:
        """See Studio."""
        if self._states is None:
            self._states = states_to_find(self._denoiser, self._settings, states)
        with applied(self._edit, self._weights):
            return search(self._denoiser, start, self._states, self._settings, searching)

    def paint_found(self, found: Conditioning, seeds: Sequence[int], progress: Progress) -> Tensor:
        """See Studio."""
        each = [found] * len(seeds)
        with applied(self._edit, self._weights):
            return torch.stack(list(paint_conditionings(self._denoiser, each, seeds, **self._sampling, progress=progress)))

    def amplify(self, pictures: Tensor, attributing: Progress, prompts: Sequence[str], seeds: Sequence[int], progress: Progress) -> Tensor:
        """See Studio."""
        latents = self._denoiser.encode(pictures)
        with applied(self._edit, self._weights):
            attribution = attribute_concept(self._denoiser, self._settings.amplifying(), latents, attributing)
            more = edit_from_attribution(attribution, self._settings.ratio, "row_min1")
            with applied(more, self._weights):
                return self.paint(prompts, seeds, progress, edited=False)  # on top of the edit that is applied here
