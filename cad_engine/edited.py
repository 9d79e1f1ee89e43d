"""A model as an edit would make it, without touching its weights: what is fetched of them is scaled on the way.

So rounds that look at the edited model can be stopped anywhere, and work on offloaded, quantised and LoRA-patched weights as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .denoiser import Denoiser, WeightAccess
from .gradients import captured_gradients


@dataclass(frozen=True)
class Change:
    """Relative changes D of some weights of one layer: w_i becomes w_i (1 + D_i).

    Attributes:
        index: flattened positions in the weight [out, in], int64 [k].
        relative: D, [k] in the dtype that is computed in.
    """

    index: Tensor
    relative: Tensor


def edited_access(access: WeightAccess, layers: Mapping[str, nn.Module], changes: Mapping[str, Change]) -> WeightAccess:
    """`access`, with `changes` by layer name on what it yields; a changed weight is a copy, in the dtype asked for."""
    by_module = {id(layers[name]): change for name, change in changes.items() if len(change.index)}

    @contextmanager
    def changed(module: nn.Module, like: Tensor) -> Iterator[tuple[Any, Any]]:
        with access(module, like) as (weight, bias):
            change = by_module.get(id(module))
            if change is not None:
                flat = weight.flatten().clone()
                index = change.index.to(flat.device)
                flat[index] *= (1 + change.relative).to(flat.device, flat.dtype)
                weight = flat.view(weight.shape)
            yield weight, bias

    return changed


def edited(denoiser: Denoiser, changes: Mapping[str, Change]) -> AbstractContextManager[Tensor]:
    """Inside the block `denoiser` predicts as with `changes`; for forwards only. The model is left as captured_gradients leaves it."""
    access = edited_access(denoiser.weight_access, denoiser.layers, changes)
    return captured_gradients(denoiser.unet, {}, _unused, access)


def _unused(name: str, x: Tensor, g: Tensor) -> None:
    raise AssertionError(f"no gradient was asked for, and {name} handed one over")
