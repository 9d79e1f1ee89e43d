"""What an audit needs of a model and an edit, and nothing else: pictures without and with the edit, and attempts to undo it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor

from ..progress import Progress


class AuditedModel(Protocol):
    """Paints pictures [N, 3, H, W] in [0, 1], picture i of `prompts[i]` from `seeds[i]`; the model itself is left as it is.

    `before` is asked for everything that it is asked for first, so that a model is not changed to and fro.
    """

    def before(self, prompts: Sequence[str], seeds: Sequence[int], progress: Progress) -> Tensor:
        """Pictures of the unedited model."""
        ...

    def after(self, prompts: Sequence[str], seeds: Sequence[int], progress: Progress) -> Tensor:
        """Pictures of the edited model."""
        ...

    def remember(self, prompt: str, progress: Progress) -> None:
        """Make the states of the unedited model that `attacked` is to reproduce (see attack.py)."""
        ...

    def attacked(self, start: str, seeds: Sequence[int], searching: Progress, painting: Progress) -> Tensor:
        """Pictures of the edited model from an embedding found by gradient, which begins at the prompt `start`; after `remember`."""
        ...

    def amplified(self, shown: Tensor, prompts: Sequence[str], seeds: Sequence[int], searching: Progress, painting: Progress) -> Tensor:
        """Pictures of the edited model after CAD-Amplify on it, with the pictures `shown` of the concept."""
        ...
