"""Dense scores of a layer, reduced to what a slider and a viewer can need.

Kept is the union of each row's, each layer's and the whole model's strongest scores, of the sign that the objective ablates, up
to a maximum ratio, so that every selection rule is exact up to that ratio; and exact sums by row and a histogram over all
scores of either sign. With a ratio of 1 every score is kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

HISTOGRAM_BINS = 1024
"""Bins of |score|: the upper ten bits of a float32 without its sign, four bins an octave (see `bin_edges`)."""
_BIN_SHIFT = 21


@dataclass
class LayerScores:
    """Scores of one layer's weight [out_features, in_features]: what weights are ranked by.

    That is the attribution a_i, or with a keep list the attribution per harm (see harm.py). The masses are sums of a_i either way:
    they tell what draws the concept, and ratios do not add up.

    Attributes:
        index: flattened positions (row * in_features + column) of the kept scores, ascending, int64 [k].
        score: their scores, float32 [k].
        row_mass: sums of positive and of negative attribution of each row, float32 [out_features, 2].
        timestep_mass: sums of positive and negative attribution at each timestep, float32 [timesteps, 2].
        histogram: counts of positive and of negative scores by magnitude over *all* weights, int32 [2, HISTOGRAM_BINS].
        complete_above: every score of the objective's sign from this magnitude up is kept.
        factor: what each weight of `index` is multiplied by when it is taken, float32 [k]; None means 0, which is ablation.
        column_sum: sums of the attribution by column, float32 [in_features], where columns are neurons or heads (see units.py) and the
            scores are the attribution; else None.
        heads: among how many heads the columns are shared out, where they are heads'; else None.
    """

    out_features: int
    in_features: int
    index: Tensor
    score: Tensor
    row_mass: Tensor
    timestep_mass: Tensor
    histogram: Tensor
    complete_above: float
    factor: Tensor | None = None
    column_sum: Tensor | None = None
    heads: int | None = None

    @property
    def mass(self) -> tuple[float, float]:
        """Sums of all positive and of all negative attribution."""
        positive, negative = self.row_mass.sum(dim=0, dtype=torch.float64).tolist()
        return positive, negative


def share_count(ratio: float, total: int) -> int:
    """floor(ratio * total) as a person counts it: 0.29 of 100 is 29, though 0.29 * 100 is 28.999999999999996 in floating point."""
    return math.floor(round(ratio * total, 9))


def bin_edges() -> Tensor:
    """The magnitude at which each histogram bin begins, float32 [HISTOGRAM_BINS]."""
    return (torch.arange(HISTOGRAM_BINS, dtype=torch.int32) << _BIN_SHIFT).view(torch.float32)


def bin_numbers(magnitude: Tensor) -> Tensor:
    """The histogram bin of each of positive float32 `magnitude`, int32 of the same shape."""
    return magnitude.contiguous().view(torch.int32) >> _BIN_SHIFT


def _histogram(magnitude: Tensor) -> Tensor:
    """Counts of positive float32 `magnitude` by bin, int64 [HISTOGRAM_BINS] on the CPU."""
    return torch.bincount(bin_numbers(magnitude).flatten(), minlength=HISTOGRAM_BINS)[:HISTOGRAM_BINS].cpu()


def signed_histogram(score: Tensor) -> Tensor:
    """Counts of positive and of negative scores by magnitude, int64 [2, HISTOGRAM_BINS]; zeros are not counted."""
    score = score.float().flatten()
    return torch.stack([_histogram(score[score > 0]), _histogram(-score[score < 0])])


def _threshold(histogram: Tensor, count: int) -> float:
    """The lower edge of the highest bin from which upwards at least `count` scores lie; 0 when there are not so many."""
    above = histogram.flip(0).cumsum(0).flip(0)
    reached = (above >= max(1, count)).nonzero()
    return float(bin_edges()[int(reached.max())]) if len(reached) else 0.0


def keep_threshold(scores: Iterable[Tensor], keep_ratio: float, sign: int) -> float:
    """Magnitude from which all scores of `sign` in the whole model are kept."""
    histogram, total = torch.zeros(HISTOGRAM_BINS, dtype=torch.int64), 0
    for score in scores:
        histogram += signed_histogram(score)[0 if sign > 0 else 1]
        total += score.numel()
    return _threshold(histogram, share_count(keep_ratio, total))


def row_masses(attribution: Tensor) -> Tensor:
    """Sums of the positive and of the negative entries of each row of `attribution` [out, in]: float32 [out, 2] on the CPU."""
    attribution = attribution.float()
    return torch.stack([attribution.clamp(min=0).sum(dim=1), attribution.clamp(max=0).sum(dim=1)], dim=1).cpu()


def column_sums(attribution: Tensor) -> Tensor:
    """Sums of the columns of `attribution` [out, in]: float32 [in] on the CPU."""
    return attribution.sum(dim=0).float().cpu()


def reduce_layer(score: Tensor, row_mass: Tensor, timestep_mass: Tensor, keep_ratio: float, sign: int, threshold: float) -> LayerScores:
    """LayerScores of a dense `score` [out, in]; the masses are the attribution's, `threshold` is the whole model's (see keep_threshold)."""
    score = score.float()
    rows, columns = score.shape
    histogram = signed_histogram(score)
    if keep_ratio >= 1:
        keep, complete = score != 0, 0.0
    else:
        signed = score * sign
        own = _threshold(histogram[0 if sign > 0 else 1], share_count(keep_ratio, score.numel()))
        complete = min(threshold, own)
        keep = signed >= complete
        keep.scatter_(1, signed.topk(max(1, share_count(keep_ratio, columns)), dim=1).indices, True)
        keep &= signed > 0
    index = keep.flatten().nonzero().squeeze(1)
    return LayerScores(
        out_features=rows,
        in_features=columns,
        index=index.cpu(),
        score=score.flatten()[index].cpu(),
        row_mass=row_mass,
        timestep_mass=timestep_mass.float().cpu(),
        histogram=histogram.int(),
        complete_above=complete,
    )
