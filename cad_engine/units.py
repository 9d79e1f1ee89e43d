"""Components larger than a weight: neurons of feed-forward layers, heads of attentions, whole layers.

A unit's attribution is the first-order estimate of what J loses when the unit's output is set to zero. Setting certain weights to zero
does exactly that, so it is the sum of their a_i:

    neuron: hidden unit j of a feed-forward block leaves it through column j of `ff.net.2.weight` [d, inner];
    head:   head h of an attention leaves it through the columns h * width .. (h + 1) * width of `to_out.0.weight` [d, heads * width];
    layer:  the matrix of one linear layer; its bias stays.

The sum by column is x_j dJ/dx_j of the column's input x_j, so it knows of the neuron's or head's gates, keys and queries, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from .errors import CadError, shown
from .reduction import LayerScores

Unit = Literal["weight", "neuron", "head", "layer"]
UNITS: tuple[Unit, ...] = get_args(Unit)


def check_unit(unit: str) -> None:
    """Raise CadError unless `unit` is one of UNITS."""
    if unit not in UNITS:
        raise CadError(f"unit must be one of {', '.join(UNITS)}, got {unit!r}")


def columns_are(name: str) -> Unit | None:
    """What a column, or a group of columns, of the layer `name` is: "neuron", "head", or None for neither."""
    if name.endswith(".ff.net.2.weight"):
        return "neuron"
    if name.endswith((".attn1.to_out.0.weight", ".attn2.to_out.0.weight")):
        return "head"
    return None


def head_counts(unet: nn.Module, layers: Mapping[str, nn.Module]) -> dict[str, int]:
    """How many heads the attention has whose output each of `layers` is, by weight name; other layers are not in it.

    Read from the modules: diffusers' and the original implementation's attention both have `heads`, and `to_out` begins with the layer.
    """
    names = {id(module): name for name, module in layers.items()}
    counts = {}
    for module in unet.modules():
        heads, out = getattr(module, "heads", None), getattr(module, "to_out", None)
        if type(heads) is int and isinstance(out, (nn.Sequential, nn.ModuleList)) and len(out) and id(out[0]) in names:
            counts[names[id(out[0])]] = heads
    return counts


def holds(name: str, unit: Unit) -> bool:
    """Whether the layer `name` is the way out of units of this kind."""
    return unit == "layer" or columns_are(name) == unit


def unit_sums(name: str, layer: LayerScores, unit: Unit) -> Tensor:
    """The attribution of each unit of this kind in a layer that `holds` some, float64 [units].

    Raises CadError when the attribution has no sums by column, or does not know the number of heads.
    """
    if unit == "layer":
        return torch.tensor([sum(layer.mass)], dtype=torch.float64)
    if layer.column_sum is None:
        raise CadError(
            f"this attribution has no sums by column of {shown(name)}, so its {unit}s cannot be ranked: it was made before there were "
            "units; attribute again, or take the unit weight"
        )
    sums = layer.column_sum.double()
    if unit == "neuron":
        return sums
    if layer.heads is None:
        raise CadError(f"this attribution does not know how many heads {shown(name)} has; attribute again, or take another unit")
    return sums.reshape(layer.heads, -1).sum(dim=1)


def unit_positions(layer: LayerScores, unit: Unit, chosen: Tensor) -> Tensor:
    """Flattened positions (int64, ascending) of the weights that take out the units `chosen` (numbers, ascending) of `layer`."""
    if unit == "layer":
        return torch.arange(layer.out_features * layer.in_features)
    columns = chosen
    if unit == "head":
        assert layer.heads is not None
        width = layer.in_features // layer.heads
        columns = (chosen[:, None] * width + torch.arange(width)).flatten()
    return (torch.arange(layer.out_features)[:, None] * layer.in_features + columns).flatten()
