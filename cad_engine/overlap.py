"""What one concept's edit would touch of another concept: asked of two attributions of the same model, before anything is erased.

With T_a the weights that an edit made from `a` takes, and b_i the attribution of weight i to the other concept, of the sign that its own
objective takes (what draws it):

    shared   |T_a and T_b| / |T_a|            how much of the edit is also in the edit that `b` would give
    touched  sum_{i in T_a} b_i / sum_i b_i   how much of what draws `b` the edit touches

Files of large models keep the strongest b_i only. The rest of T_a is then known to be weaker than `complete_above`, so `touched` is known
to lie between two bounds. Scores per harm or of effects are not b_i and do not add up to its sum: `touched` is not known then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .attribution import SCORES, Attribution, ablated_sign
from .errors import CadError
from .reduction import LayerScores
from .selection import Rule, check_ratio, select

RATIO = 0.01
"""The ratio that overlaps are counted at where none is given, or the largest that both keep if that is less."""


@dataclass(frozen=True)
class LayerOverlap:
    """Of one layer: weights that `a` takes, those that `b` takes too, and the bounds of the part of b's mass in a's weights, or None."""

    taken: int
    shared: int
    touched: tuple[float, float] | None


@dataclass(frozen=True)
class Overlap:
    """What the edit from one attribution, `a`, does to another, `b`.

    Attributes:
        taken, taken_by_other: how many weights each takes, over the layers of its own.
        shared: how many both take.
        touched: the least and the most that a's weights can hold of b's mass, in [0, 1]; equal where all is known; None where nothing is.
        mass_correlation: Pearson's, of the layers' masses over the layers that both have; None for fewer than three or without spread.
        score_correlation: Pearson's, of the scores over the layers that both have; None unless both are attributions and keep all scores.
        layers: by name, the layers that `a` takes weights of and `b` has.
    """

    taken: int
    taken_by_other: int
    shared: int
    touched: tuple[float, float] | None
    mass_correlation: float | None
    score_correlation: float | None
    layers: dict[str, LayerOverlap]


def comparable(attributions: Sequence[Attribution]) -> None:
    """Raise CadError unless the attributions have layers in common, and those have the same shapes."""
    first = attributions[0]
    for number, other in enumerate(attributions[1:], start=2):
        common = first.layers.keys() & other.layers.keys()
        if not common:
            raise CadError(
                f"attribution {number} shares no layer with the first: {len(other.layers)} and {len(first.layers)} layers; attribute both "
                "on the same model and with the same components"
            )
        for name in sorted(common):
            shapes = [(layers[name].out_features, layers[name].in_features) for layers in (first.layers, other.layers)]
            if shapes[0] != shapes[1]:
                raise CadError(f"attribution {number} is of another model: {name} is {shapes[1]} there and {shapes[0]} in the first")


def taken_weights(attribution: Attribution, ratio: float | None, rule: Rule) -> dict[str, Tensor]:
    """Positions by layer of what an edit takes; `ratio` None is all that rounds found, or RATIO of an attribution without rounds.

    A ratio above what the attribution keeps is lowered to that. Raises CadError for a ratio that is none.
    """
    if ratio is None:
        if attribution.solved:
            return {name: layer.index for name, layer in attribution.layers.items() if len(layer.index)}
        ratio = RATIO
    check_ratio(ratio)
    return select(attribution, min(ratio, attribution.keep_ratio), rule)


def overlap(a: Attribution, b: Attribution, taken_a: Mapping[str, Tensor], taken_b: Mapping[str, Tensor]) -> Overlap:
    """What the weights `taken_a` of `a` are to `b`; see `taken_weights`."""
    sign = ablated_sign(b.objective)
    known = b.score == SCORES[0]
    total = sum(_right_mass(layer, sign) for layer in b.layers.values())
    layers, low, high = {}, 0.0, 0.0
    for name, index in taken_a.items():
        if name not in b.layers:
            continue
        other = b.layers[name]
        shared = int(_member(index, taken_b[name]).sum()) if name in taken_b else 0
        touched = None
        if known:
            least, most = _touched(index, other, sign)
            low, high = low + least, high + most
            mass = _right_mass(other, sign)
            touched = (least / mass, most / mass) if mass else (0.0, 0.0)
        layers[name] = LayerOverlap(len(index), shared, touched)
    return Overlap(
        taken=sum(map(len, taken_a.values())),
        taken_by_other=sum(map(len, taken_b.values())),
        shared=sum(layer.shared for layer in layers.values()),
        touched=(min(1.0, low / total), min(1.0, high / total)) if known and total else None,
        mass_correlation=_mass_correlation(a, b),
        score_correlation=_score_correlation(a, b),
        layers=layers,
    )


def _right_mass(layer: LayerScores, sign: int) -> float:
    return abs(layer.mass[0 if sign > 0 else 1])


def _member(index: Tensor, of: Tensor) -> Tensor:
    """Which of `index` are in `of`; both ascending."""
    if not len(of):
        return torch.zeros(len(index), dtype=torch.bool)
    return of[torch.searchsorted(of, index).clamp(max=len(of) - 1)] == index


def _touched(index: Tensor, layer: LayerScores, sign: int) -> tuple[float, float]:
    """The least and the most mass of `sign` that the weights `index` of `layer` can hold."""
    if not len(layer.index):
        held, found = 0.0, 0
    else:
        at = torch.searchsorted(layer.index, index).clamp(max=len(layer.index) - 1)
        kept = layer.index[at] == index
        held, found = float((layer.score[at[kept]] * sign).clamp(min=0).sum(dtype=torch.float64)), int(kept.sum())
    if layer.complete_above <= 0:
        return held, held
    # What is not kept is weaker than complete_above each, and no more than the layer's mass without what is kept together.
    kept_mass = float((layer.score * sign).clamp(min=0).sum(dtype=torch.float64))
    left = max(0.0, _right_mass(layer, sign) - kept_mass)
    return held, held + min(left, (len(index) - found) * layer.complete_above)


def _pearson(x: Tensor, y: Tensor) -> float | None:
    x, y = x.double() - x.double().mean(), y.double() - y.double().mean()
    scale = float(x.norm() * y.norm())
    return float(x @ y) / scale if scale > 0 else None


def _mass_correlation(a: Attribution, b: Attribution) -> float | None:
    names = [name for name in a.layers if name in b.layers]
    if len(names) < 3:
        return None

    def masses(of: Attribution) -> Tensor:
        sign = ablated_sign(of.objective)
        return torch.tensor([_right_mass(of.layers[name], sign) for name in names], dtype=torch.float64)

    return _pearson(masses(a), masses(b))


def _score_correlation(a: Attribution, b: Attribution) -> float | None:
    if any(each.score != SCORES[0] or each.keep_ratio < 1 for each in (a, b)):
        return None
    sums = torch.zeros(5, dtype=torch.float64)
    count = 0
    for name in a.layers.keys() & b.layers.keys():
        layer, other = a.layers[name], b.layers[name]
        x, y = layer.score.double(), other.score.double()
        at = torch.searchsorted(other.index, layer.index).clamp(max=max(0, len(other.index) - 1))
        both = other.index[at] == layer.index if len(other.index) else torch.zeros(len(layer.index), dtype=torch.bool)
        product = float((x[both] * y[at[both]]).sum())
        sums += torch.stack([x.sum(), y.sum(), x.square().sum(), y.square().sum(), torch.tensor(product, dtype=torch.float64)])
        count += layer.out_features * layer.in_features
    if not count:
        return None
    mean = (sums[:2] / count).tolist()
    spread = [float(sums[2 + side]) / count - mean[side] ** 2 for side in (0, 1)]
    if min(spread) <= 0:
        return None
    return (float(sums[4]) / count - mean[0] * mean[1]) / (spread[0] * spread[1]) ** 0.5


def overlaps(attributions: Sequence[Attribution], ratio: float | None, rule: Rule) -> list[list[Overlap | None]]:
    """Row i, column j: what the edit from attribution i would do to concept j; None on the diagonal.

    Raises CadError for attributions without layers in common, or of different models.
    """
    comparable(attributions)
    taken = [taken_weights(attribution, ratio, rule) for attribution in attributions]
    return [
        [None if i == j else overlap(attributions[i], attributions[j], taken[i], taken[j]) for j in range(len(attributions))]
        for i in range(len(attributions))
    ]
