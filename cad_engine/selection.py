"""Which weights or units an edit takes: the strongest of the right sign, by row, by layer or over the whole model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from .attribution import SCORES, Attribution, ablated_sign
from .errors import CadError, shown
from .reduction import LayerScores, share_count
from .units import Unit, check_unit, holds, unit_sums

Rule = Literal["row", "row_min1", "layer", "global"]
RULES: tuple[Rule, ...] = get_args(Rule)
UNIT_RULES: tuple[Rule, ...] = ("layer", "global")
"""Of units: a neuron or head is a part of every row."""


def check_ratio(ratio: float) -> None:
    """Raise CadError unless `ratio` is in (0, 1]."""
    if not 0 < ratio <= 1:  # also refuses NaN
        raise CadError(f"ratio must be in (0, 1], got {ratio:g}: 0.001 takes one weight in a thousand")


def _right_sign(layer: LayerScores, sign: int) -> tuple[Tensor, Tensor]:
    """(index, magnitude) of the kept scores of `sign`, strongest first; equal ones in the order of their index."""
    score = layer.score * sign
    right = score > 0
    index, magnitude = layer.index[right], score[right]
    order = magnitude.sort(descending=True, stable=True).indices
    return index[order], magnitude[order]


def _by_row(layer: LayerScores, index: Tensor, per_row: int) -> Tensor:
    """The first `per_row` of each row of `index` (strongest first)."""
    row, order = (index // layer.in_features).sort(stable=True)
    start = torch.searchsorted(row, row)  # where each entry's row begins
    rank = torch.arange(len(row)) - start
    return index[order[rank < per_row]]


def _require_complete(name: str, layer: LayerScores, weakest: float, taken_all: bool) -> None:
    limit = layer.complete_above
    if limit > 0 and (taken_all or weakest < limit):
        raise CadError(
            f"this attribution does not keep enough scores of {name} for this ratio; take a smaller ratio or attribute again "
            "with a larger keep ratio"
        )


def checked_rule(rule: str) -> Rule:
    """`rule` if it is one of RULES; CadError otherwise."""
    for known in RULES:
        if rule == known:
            return known
    raise CadError(f"selection must be one of {', '.join(RULES)}, got {rule!r}")


def _names(attribution: Attribution, layers: Collection[str] | None) -> list[str]:
    names = list(attribution.layers) if layers is None else list(layers)
    for name in names:
        if name not in attribution.layers:
            raise CadError(f"layer {shown(name)!r} is not in this attribution, which has {len(attribution.layers)} layers")
    return names


def select(attribution: Attribution, ratio: float, rule: Rule = "row", *, layers: Collection[str] | None = None) -> dict[str, Tensor]:
    """Flattened positions (int64, ascending) of the chosen weights by layer; layers of which none is taken are left out.

    Erasing takes the highest positive scores, amplifying the most negative ones, never a score of the other sign.

    Args:
        attribution: of either objective.
        ratio: part of the weights to take, in (0, 1].
        rule: "row": at most floor(ratio * in_features) in each row (the paper's); "row_min1": the same but at least one;
            "layer": at most floor(ratio * size) in each layer; "global": at most floor(ratio * total) over all layers.
        layers: only these; None for all.

    Raises:
        CadError: for a ratio outside (0, 1] or above what the attribution keeps, an unknown rule or layer.
    """
    check_ratio(ratio)
    checked_rule(rule)
    if ratio > attribution.keep_ratio:
        raise CadError(
            f"ratio {ratio:g} is above {attribution.keep_ratio:g}, up to which this attribution keeps its scores; take a "
            "smaller ratio or attribute again with a larger keep ratio"
        )
    names = _names(attribution, layers)
    sign = ablated_sign(attribution.objective)
    candidates = {name: _right_sign(attribution.layers[name], sign) for name in names}
    chosen: dict[str, Tensor] = {}
    if rule == "global":
        chosen = _global(attribution, candidates, ratio)
    else:
        for name, (index, magnitude) in candidates.items():
            layer = attribution.layers[name]
            if rule == "layer":
                count = share_count(ratio, layer.out_features * layer.in_features)
                chosen[name] = index[:count]
                if count and len(chosen[name]):
                    _require_complete(name, layer, float(magnitude[:count][-1]), count > len(index))
            else:
                per_row = share_count(ratio, layer.in_features)
                chosen[name] = _by_row(layer, index, max(1, per_row) if rule == "row_min1" else per_row)
    return {name: index.sort().values for name, index in chosen.items() if len(index)}


def _global(attribution: Attribution, candidates: Mapping[str, tuple[Tensor, Tensor]], ratio: float) -> dict[str, Tensor]:
    sizes = {name: attribution.layers[name].out_features * attribution.layers[name].in_features for name in candidates}
    count = share_count(ratio, sum(sizes.values()))
    everything = torch.cat([magnitude for _, magnitude in candidates.values()])
    order = everything.sort(descending=True, stable=True).indices[:count]
    if len(order):
        weakest, taken_all = float(everything[order[-1]]), count > len(everything)
        for name in candidates:
            _require_complete(name, attribution.layers[name], weakest, taken_all)
    taken = torch.zeros(len(everything), dtype=torch.bool)
    taken[order] = True
    parts = taken.split([len(index) for index, _ in candidates.values()])
    return {name: index[part] for (name, (index, _)), part in zip(candidates.items(), parts, strict=True)}


def attributed_units(attribution: Attribution, unit: Unit, layers: Collection[str] | None = None) -> dict[str, Tensor]:
    """The attribution of every unit of a kind, float64 [units], by the layer that holds them; `layers` limits it to some.

    Raises CadError for the unit "weight", for scores that do not add up, for layers without such units, and as units.unit_sums.
    """
    check_unit(unit)
    if unit == "weight":
        raise CadError("weights are no larger units; use select")
    if attribution.score != SCORES[0]:
        made = "in rounds" if attribution.solved else "with prompts to keep"
        raise CadError(
            f"{unit}s are ranked by sums of the plain attribution, and this one was made {made}, whose scores do not add up; attribute "
            "without them (the method paper), or take the unit weight"
        )
    names = _names(attribution, layers)
    sums = {name: unit_sums(name, attribution.layers[name], unit) for name in names if holds(name, unit)}
    if not sums:
        where, group = ("ff.net.2", "ff") if unit == "neuron" else ("to_out.0", "attention")
        raise CadError(
            f"none of the {len(names)} chosen layers has {unit}s, which are columns of {where}; attribute the components {group}"
        )
    return sums


def select_units(
    attribution: Attribution, ratio: float, unit: Unit, rule: Rule = "global", *, layers: Collection[str] | None = None
) -> dict[str, Tensor]:
    """Numbers (int64, ascending) of the chosen units by layer; layers of which none is taken are left out.

    As with weights, erasing takes the highest positive sums, amplifying the most negative ones. Every unit's sum is kept, so any ratio is
    exact.

    Args:
        attribution: of either objective, ranked by the attribution itself.
        ratio: part of the units to take, in (0, 1].
        unit: "neuron", "head" or "layer".
        rule: "global": at most floor(ratio * total) over all layers; "layer": at most floor(ratio * units) in each.
        layers: only these; None for all.

    Raises:
        CadError: for a ratio outside (0, 1], a rule that has no meaning for units, and as `attributed_units`.
    """
    check_ratio(ratio)
    check_unit(unit)
    checked_rule(rule)
    if rule not in UNIT_RULES or (unit, rule) == ("layer", "layer"):
        rules = "global" if unit == "layer" else " or ".join(UNIT_RULES)
        raise CadError(f"the selection {rule} has no meaning for the unit {unit}; take {rules}")
    sign = ablated_sign(attribution.objective)
    sums = {name: each * sign for name, each in attributed_units(attribution, unit, layers).items()}
    if rule == "global":
        everything = torch.cat(list(sums.values()))
        taken = _strongest(everything, share_count(ratio, len(everything)))
        chosen = {
            name: part.nonzero().squeeze(1) for name, part in zip(sums, taken.split([len(each) for each in sums.values()]), strict=True)
        }
    else:
        chosen = {name: _strongest(each, share_count(ratio, len(each))).nonzero().squeeze(1) for name, each in sums.items()}
    return {name: numbers for name, numbers in chosen.items() if len(numbers)}


def _strongest(values: Tensor, count: int) -> Tensor:
    """A mask of the `count` highest of `values`, of those above zero; equal ones in their order."""
    taken = torch.zeros(len(values), dtype=torch.bool)
    taken[values.sort(descending=True, stable=True).indices[:count]] = True
    return taken & (values > 0)
