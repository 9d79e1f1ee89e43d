"""What every measure of pictures has in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor


class Measure(Protocol):
    """Numbers about pictures.

    Attributes:
        name: what a report calls it, such as "pictures that show a star".
        counts: whether a value above 0 says that the picture has it; values of other measures can only be compared.
    """

    name: str
    counts: bool

    def values(self, pictures: Tensor, prompts: Sequence[str]) -> Tensor:
        """One number a picture, float [B], the higher the more of it.

        Args:
            pictures: [B, 3, H, W] in [0, 1].
            prompts: what each was painted from.
        """
        ...
