"""How many weights a selection takes, without selecting them: exact, and quick enough for tables of many ratios and layers."""

from __future__ import annotations

from collections.abc import Iterable

import torch

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


def row_rule_counts(layer: LayerScores, sign: int, ratios: Iterable[float], at_least: int = 0) -> list[int]:
    """Weights of `layer` that rule "row" takes at each ratio; `at_least` 1 gives rule "row_min1"."""
    kept = layer.index[layer.score * sign > 0] // layer.in_features
    in_row = torch.bincount(kept, minlength=layer.out_features)
    return [int(in_row.clamp(max=max(at_least, share_count(ratio, layer.in_features))).sum()) for ratio in ratios]


def taken_counts(attribution: Attribution, rule: Rule, ratios: Iterable[float]) -> list[int]:
    """Weights that `rule` takes over all layers at each ratio: as many as `selection.select` returns."""
    ratios, sign, layers = list(ratios), ablated_sign(attribution.objective), attribution.layers.values()
    if rule == "global":
        available = sum(_right_total(layer, sign) for layer in layers)
        return [min(share_count(ratio, attribution.weights_total), available) for ratio in ratios]
    if rule == "layer":
        sizes = [(layer.out_features * layer.in_features, _right_total(layer, sign)) for layer in layers]
        return [sum(min(share_count(ratio, size), available) for size, available in sizes) for ratio in ratios]
    by_layer = [row_rule_counts(layer, sign, ratios, at_least=1 if rule == "row_min1" else 0) for layer in layers]
    return [sum(counts) for counts in zip(*by_layer, strict=True)]
