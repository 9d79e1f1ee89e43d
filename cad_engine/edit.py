"""Edits: a sparse set of weights and the factor that each is multiplied by. Small, shareable, exact, reversible."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from .errors import CadError, shown


@dataclass(frozen=True)
class LayerEdit:
    """Weights of one layer's matrix [out_features, in_features].

    Attributes:
        index: flattened positions (row * in_features + column), ascending, no two alike, int64 [k].
        factor: what each weight is multiplied by at strength 1, float32 [k]; None means 0, which is ablation.
    """

    out_features: int
    in_features: int
    index: Tensor
    factor: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return self.out_features, self.in_features

    def factors(self, strength: float) -> Tensor:
        """Factors at `strength`, float32 [k]: 1 at strength 0, `factor` at 1, straight on beyond."""
        factor = torch.zeros(len(self.index)) if self.factor is None else self.factor
        return 1 + strength * (factor - 1)


@dataclass
class Edit:
    """`layers` by weight name (see Denoiser.layers), and what the edit was made from."""

    layers: dict[str, LayerEdit]
    info: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of weights taken."""
        return sum(len(layer.index) for layer in self.layers.values())


def ablation(positions: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, int]], info: dict[str, Any]) -> Edit:
    """The edit that sets the selected `positions` (see selection.select) of matrices of `shapes` to zero."""
    return Edit({name: LayerEdit(*shapes[name], index) for name, index in positions.items()}, info)


def check_fits(edit: Edit, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise CadError when a layer of `edit` is missing from a model's `shapes` or has another shape there."""
    for name, layer in edit.layers.items():
        if name not in shapes:
            raise CadError(f"this edit is for another architecture: the model has no layer {shown(name)}")
        if tuple(shapes[name]) != layer.shape:
            raise CadError(
                f"this edit is for another architecture: {shown(name)} is {list(shapes[name])} in the model and "
                f"{list(layer.shape)} in the edit"
            )


def with_strength(edit: Edit, strength: float) -> Edit:
    """`edit` whose full effect is what `edit` does at `strength`, so that a file of it needs no further number.

    Raises CadError for a strength that is not finite.
    """
    if not math.isfinite(strength):
        raise CadError(f"strength must be a number, got {strength}; 1 is the edit's full effect")
    if strength == 1:
        return edit
    layers = {name: LayerEdit(*layer.shape, layer.index, layer.factors(strength)) for name, layer in edit.layers.items()}
    return Edit(layers, {**edit.info, "strength": strength})


def combine(edits: Sequence[tuple[Edit, float]]) -> Edit:
    """One edit that does what several `(edit, strength)` do one after the other: factors of a shared weight multiply."""
    layers: dict[str, LayerEdit] = {}
    for edit, strength in edits:
        for name in edit.layers.keys() & layers.keys():
            check_fits(Edit({name: edit.layers[name]}), {name: layers[name].shape})
        for name, layer in edit.layers.items():
            index, factor = layer.index, layer.factors(strength)
            if name in layers:
                other = layers[name]
                both = torch.cat([other.index, index])
                index, place = both.unique(return_inverse=True)
                factors = torch.cat([other.factors(1.0), factor])
                factor = torch.ones(len(index)).scatter_reduce(0, place, factors, "prod")
            layers[name] = LayerEdit(layer.out_features, layer.in_features, index, factor if factor.any() else None)
    return Edit(layers, {"combined": [edit.info | {"strength": strength} for edit, strength in edits]})


def edited_weight(weight: Tensor, layer: LayerEdit, strength: float = 1.0) -> Tensor:
    """A copy of `weight` [out, in] with `layer` applied; untouched weights are bit-identical."""
    copy = weight.detach().clone()
    _scale_in_place(copy, layer, strength)
    return copy


def _place(weight: Tensor, layer: LayerEdit) -> tuple[Tensor, Tensor]:
    """Rows and columns of the edited weights, on the device of `weight`, which need not be contiguous."""
    index = layer.index.to(weight.device)
    return index // layer.in_features, index % layer.in_features


def _scale_in_place(weight: Tensor, layer: LayerEdit, strength: float) -> None:
    place, factor = _place(weight, layer), layer.factors(strength).to(weight.device)
    # In float32, so that a half-precision weight is rounded once.
    before = weight[place].to(torch.promote_types(weight.dtype, torch.float32))
    weight[place] = (before * factor).to(weight.dtype)


@contextmanager
def applied(edit: Edit, weights: Mapping[str, Tensor], strength: float = 1.0) -> Iterator[None]:
    """The edit applied in place to `weights` (by name) inside the block, and every bit as before after it.

    Only the touched weights are remembered. To use several edits at once, `combine` them first.
    Raises CadError, with nothing changed, when the edit does not fit.
    """
    check_fits(edit, {name: tuple(weight.shape) for name, weight in weights.items()})
    with ExitStack() as stack:
        for name, layer in edit.layers.items():
            weight = weights[name].detach()
            # Registered before the change: an interrupt can neither leave a layer changed nor skip another's restoration.
            stack.callback(_write, weight, _place(weight, layer), weight[_place(weight, layer)].clone())
            with torch.inference_mode():  # inference tensors can be changed in no other mode, ordinary ones in this one, too
                _scale_in_place(weight, layer, strength)
        yield


def _write(weight: Tensor, place: tuple[Tensor, Tensor], values: Tensor) -> None:
    with torch.inference_mode():
        weight[place] = values
