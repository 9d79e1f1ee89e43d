"""How much memory an attribution takes, and which of the ways to take less of it is chosen before the work begins."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from .activations import Activations

SHARE = 0.9
"""Of the free memory that is planned with; the rest is for what an allocator cannot use."""
_GIB = 2**30

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Footprint:
    """What decides over the memory of a pass.

    Attributes:
        batch: samples computed together.
        checkpointing: whether activations are recomputed in backward.
        on_host: whether sums of gradients are kept in the host's memory instead of the device's.
    """

    batch: int
    checkpointing: bool
    on_host: bool = False

    @property
    def sums_on(self) -> torch.device | None:
        """The device of the sums, None for the model's."""
        return torch.device("cpu") if self.on_host else None

    def smaller(self, host: bool) -> Footprint | None:
        """Half the batch; at one sample, checkpointing; then, where `host` memory is another than the device's, sums there; else None."""
        if self.batch > 1:
            return Footprint(self.batch // 2, self.checkpointing, self.on_host)
        if not self.checkpointing:
            return Footprint(1, True, self.on_host)
        return Footprint(1, True, True) if host and not self.on_host else None

    def __str__(self) -> str:
        checkpointing = ", checkpointing" if self.checkpointing else ""
        return f"batch {self.batch}{checkpointing}{', sums in host memory' if self.on_host else ''}"


@dataclass(frozen=True)
class Needs:
    """Bytes that an attribution takes beside the model: `sums` of gradients, and activations."""

    sums: int
    activations: Activations

    def on_device(self, footprint: Footprint) -> int:
        """On the device, with `footprint`."""
        each = self.activations.checkpointed if footprint.checkpointing else self.activations.kept
        return each * footprint.batch + (0 if footprint.on_host else self.sums)


def choices(batch: int, checkpointing: bool | None, host: bool) -> Iterator[Footprint]:
    """Footprints from the fastest to the smallest: at most `batch`, and `checkpointing` as it is said, or both ways.

    A smaller batch costs little, checkpointing a third of the time, and sums on the host a transfer of them all with every pass; so there,
    where `host` memory is another than the device's, few large passes come first.
    """
    batches = [batch]
    while batches[-1] > 1:
        batches.append(batches[-1] // 2)
    ways = (False, True) if checkpointing is None else (checkpointing,)
    for way in ways:
        yield from (Footprint(size, way) for size in batches)
    if host:
        for size in batches:
            yield from (Footprint(size, way, True) for way in ways)


def fitting(batch: int, checkpointing: bool | None, needs: Needs, free: int, host_free: int | None) -> Footprint:
    """The first of `choices` that fits into `free` bytes of the device, or the smallest; says so when it is not the first.

    `host_free` is None where the host's memory is the device's.
    """
    host = host_free is not None and needs.sums <= SHARE * host_free
    possible = list(choices(batch, checkpointing, host))
    asked = possible[0]
    for footprint in possible:
        if needs.on_device(footprint) <= SHARE * free:
            break
    else:
        footprint = min(possible, key=needs.on_device)
    needed = needs.on_device(footprint)
    if needed > SHARE * free:
        _log.warning(
            "CAD: %.1f GiB of memory are free, and even %s needs %.1f by estimate; trying it", free / _GIB, footprint, needed / _GIB
        )
    elif footprint != asked:
        _log.warning(
            "CAD: %.1f GiB of memory are free, and %s needs %.1f by estimate; taking %s, which needs %.1f",
            free / _GIB,
            asked,
            needs.on_device(asked) / _GIB,
            footprint,
            needed / _GIB,
        )
    return footprint
