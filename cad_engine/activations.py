"""What the activations of one sample take in a forward and backward, measured on the model itself.

One forward of the size that is to come is enough: what autograd would save for backward is counted and let go at once, so it takes no more
memory than a forward without gradients. No table of layers can be wrong or out of date, and it is the same for any UNet class.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._pytree import tree_leaves

from .denoiser import Conditioning, Denoiser
from .gradients import CHECKPOINTED_BLOCKS, captured_gradients

PASSING = 4
"""Gradients and other passing tensors of backward, in tensors as large as the largest that is saved."""


@dataclass(frozen=True)
class Activations:
    """Bytes that one sample takes at most at once: with all activations kept, and with those of blocks computed again."""

    kept: int
    checkpointed: int


class _Saved:
    """Storages that autograd saves, by where: inside one of the blocks that can be checkpointed, or outside (None).

    `weight` are the bytes of the largest weight in float32: one at a time is cast, patched or laid out anew for the pass.
    """

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.bytes: dict[int, int] = {}
        self.inside: dict[int | None, set[int]] = {None: set()}
        self._block: int | None = None
        self._references: list[StorageWeakRef] = []

    def enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """A block begins; its inputs are kept in any case."""
        for value in tree_leaves((args, dict(kwargs))):
            if isinstance(value, Tensor):
                self._count(value)
        if self._block is None:
            self._block = id(module)

    def leave(self, module: nn.Module, *_: Any) -> None:
        if self._block == id(module):
            self._block = None

    def save(self, tensor: Tensor) -> None:
        """For torch.autograd.graph.saved_tensors_hooks."""
        if not isinstance(tensor, nn.Parameter):
            self._count(tensor)

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        reference = StorageWeakRef(storage)
        if reference.cdata not in self.bytes:
            self._references.append(reference)  # as long as there is one, no other storage is given the same number
            self.bytes[reference.cdata] = storage.nbytes()
        self.inside.setdefault(self._block, set()).add(reference.cdata)

    def sum(self, storages: set[int]) -> int:
        return sum(self.bytes[storage] for storage in storages)

    def activations(self) -> Activations:
        passing = self.weight + PASSING * max(self.bytes.values(), default=0)
        outside = self.inside[None]
        block = max((self.sum(saved - outside) for saved in self.inside.values()), default=0)
        return Activations(self.sum(set(self.bytes)) + passing, self.sum(outside) + block + passing)


def measured_activations(denoiser: Denoiser, targets: Mapping[str, nn.Module], x_t: Tensor, conditioning: Conditioning) -> Activations:
    """What one of the samples `x_t` [1, C, H, W] takes when gradients of `targets` are asked for; the model is left as it was.

    All but the sums of gradients themselves, in the precision that the model computes in.
    """
    saved = _Saved(4 * max(p.numel() for p in denoiser.unet.parameters()))
    with (
        ExitStack() as stack,
        torch.inference_mode(False),
        torch.enable_grad(),
        captured_gradients(denoiser.unet, targets, _no_backward, denoiser.weight_access),
        torch.autograd.graph.saved_tensors_hooks(saved.save, _no_backward),
    ):
        for module in denoiser.unet.modules():
            if type(module).__name__ in CHECKPOINTED_BLOCKS:
                stack.callback(module.register_forward_pre_hook(saved.enter, with_kwargs=True).remove)
                stack.callback(module.register_forward_hook(saved.leave).remove)
        denoiser.eps(x_t.to(denoiser.device), len(denoiser.schedule) // 2, conditioning)
    return saved.activations()


def _no_backward(*_: Any) -> Any:
    raise AssertionError("what was saved is only counted, and backward asked for it")
