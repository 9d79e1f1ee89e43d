"""What is done when memory runs out: the same work with smaller batches, then with activations computed again; the result is the same."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

from .errors import CadError

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Footprint:
    """What decides over the memory of a pass: samples computed together, and whether activations are recomputed in backward."""

    batch: int
    checkpointing: bool

    @property
    def smaller(self) -> Footprint | None:
        """Half the batch; at one sample, checkpointing; None where neither is left."""
        if self.batch > 1:
            return Footprint(self.batch // 2, self.checkpointing)
        return None if self.checkpointing else Footprint(1, True)

    def __str__(self) -> str:
        return f"batch {self.batch}{', checkpointing' if self.checkpointing else ''}"


def stepping_down(work: Callable[[Footprint], T], footprint: Footprint) -> T:
    """`work(footprint)`, begun anew with a smaller one as often as the device runs out of memory.

    Raises CadError when the smallest does not fit either.
    """
    while True:
        try:
            return work(footprint)
        except torch.cuda.OutOfMemoryError as error:
            smaller = footprint.smaller
            if smaller is None:
                raise CadError(
                    f"the device ran out of memory even with {footprint}; attribute fewer components or a smaller size, "
                    f"or free memory that other programs hold ({str(error).splitlines()[0]})"
                ) from None
            _log.warning("CAD: the device ran out of memory with %s; beginning again with %s", footprint, smaller)
        # Outside the handler, which holds the frames, and with them the tensors, of what failed.
        footprint = smaller
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
