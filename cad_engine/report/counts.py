"""How many weights a selection takes, without selecting them: exact, and quick enough for tables of many ratios and layers."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ..attribution import Attribution, ablated_sign
from ..reduction import LayerScores, share_count
from ..selection import Rule

RATIOS = (0.0005, 0.001, 0.01, 0.05)
"""Ratios that reports show where the attribution keeps so much: around the paper's 0.1 %, and what small models need."""


def usable_ratios(attribution: Attribution, ratios: Iterable[float] = RATIOS) -> tuple[float, ...]:
    """Those of `ratios` up to which the attribution keeps its scores; its own limit where that excludes them all."""
    return tuple(ratio for ratio in ratios if ratio <= attribution.keep_ratio) or (attribution.keep_ratio,)


def _right_total(layer: LayerScores, sign: int) -> int:
    return int(layer.histogram[0 if sign > 0 else 1].sum(dtype=torch.int64))


def right_in_rows(layer: LayerScores, sign: int) -> Tensor:
    """How many kept scores of `sign` each row has, int64 [out_features]."""
    # One pass over the ascending index: dividing and counting it takes several times as long for a model's tens of millions.
    before = torch.cat([torch.zeros(1, dtype=torch.int64), (layer.score * sign > 0).cumsum(0)])
    row_starts = torch.arange(layer.out_features + 1) * layer.in_features
    return before[torch.searchsorted(layer.index, row_starts)].diff()


def row_rule_counts(layer: LayerScores, in_rows: Tensor, ratios: Iterable[float], at_least: int = 0) -> list[int]:
    """Weights of `layer` that rule "row" takes at each ratio, from `right_in_rows`; `at_least` 1 gives rule "row_min1"."""
    return [int(in_rows.clamp(max=max(at_least, share_count(ratio, layer.in_features))).sum()) for ratio in ratios]


def taken_counts(attribution: Attribution, rule: Rule, ratios: Iterable[float]) -> list[int]:
    """Weights that `rule` takes over all layers at each ratio: as many as `selection.select` returns."""
    ratios, sign, layers = list(ratios), ablated_sign(attribution.objective), attribution.layers.values()
    if rule == "global":
        available = sum(_right_total(layer, sign) for layer in layers)
        return [min(share_count(ratio, attribution.weights_total), available) for ratio in ratios]
    if rule == "layer":
        sizes = [(layer.out_features * layer.in_features, _right_total(layer, sign)) for layer in layers]
        return [sum(min(share_count(ratio, size), available) for size, available in sizes) for ratio in ratios]
    by_layer = [row_rule_counts(layer, right_in_rows(layer, sign), ratios, at_least=1 if rule == "row_min1" else 0) for layer in layers]
    return [sum(counts) for counts in zip(*by_layer, strict=True)]
