"""What is done when memory runs out: the same work with a smaller footprint; the result is the same."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import TypeVar

import torch

from .errors import CadError
from .footprint import Footprint

T = TypeVar("T")

_SAYING = ("MPS backend out of memory", "DefaultCPUAllocator")
"""What errors say for which PyTorch has no class of their own."""

_log = logging.getLogger(__name__)


def stepping_down(work: Callable[[Footprint], T], footprint: Footprint, host: bool) -> T:
    """`work(footprint)`, begun anew with a smaller one as often as memory runs out; `host` as for Footprint.smaller.

    Raises CadError when the smallest does not fit either.
    """
    while True:
        try:
            return work(footprint)
        except RuntimeError as error:
            if not _out_of_memory(error):
                raise
            smaller = footprint.smaller(host)
            if smaller is None:
                raise CadError(
                    f"memory ran out even with {footprint}; attribute fewer components or a smaller size, "
                    f"or free memory that other programs hold ({str(error).splitlines()[0]})"
                ) from None
            _log.warning("CAD: memory ran out with %s; beginning again with %s", footprint, smaller)
        # Outside the handler, which holds the frames, and with them the tensors, of what failed.
        footprint = smaller
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.cuda.OutOfMemoryError) or any(text in str(error) for text in _SAYING)
