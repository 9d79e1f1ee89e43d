"""Which weights an edit takes: the strongest scores of the right sign, by row, by layer or over the whole model."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from .attribution import Attribution, ablated_sign
from .errors import CadError, shown
from .reduction import LayerScores, share_count

Rule = Literal["row", "row_min1", "layer", "global"]
RULES: tuple[Rule, ...] = get_args(Rule)


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
    if rule not in RULES:
        raise CadError(f"selection must be one of {', '.join(RULES)}, got {rule!r}")
    if ratio > attribution.keep_ratio:
        raise CadError(
            f"ratio {ratio:g} is above {attribution.keep_ratio:g}, up to which this attribution keeps its scores; take a "
            "smaller ratio or attribute again with a larger keep ratio"
        )
    names = list(attribution.layers) if layers is None else list(layers)
    for name in names:
        if name not in attribution.layers:
            raise CadError(f"layer {shown(name)!r} is not in this attribution, which has {len(attribution.layers)} layers")
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
