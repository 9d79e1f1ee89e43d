"""What the row rules take of a layer at any ratio, and its strongest rows, in numbers that are few enough to send.

Rule "row" takes the first k right scores of each row, k = floor(ratio * in_features). With n_r of them in row r it takes
sum_r min(k, n_r), and their scores add up to sum_r of the k strongest. Both are functions of k alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..reduction import LayerScores
from .counts import right_in_rows

_STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
"""Ranks at which sums are told; between two of them they are all but linear."""


@dataclass(frozen=True)
class RowRanks:
    """Of one layer and sign.

    Attributes:
        in_rows: how many right scores each row has, int64 [out_features].
        rank: the rank of each kept score of the right sign within its row, 0 the strongest, int64 [k].
        magnitude: their magnitudes, float32 [k], ordered by row and falling within it.
    """

    in_rows: Tensor
    rank: Tensor
    magnitude: Tensor


def row_ranks(layer: LayerScores, sign: int) -> RowRanks:
    """Ranks of the kept scores of `sign` in their rows."""
    in_rows = right_in_rows(layer, sign)
    right = layer.score * sign > 0
    starts = in_rows.cumsum(0) - in_rows
    magnitude = (layer.score * sign)[right].float()
    row = torch.repeat_interleave(torch.arange(layer.out_features), in_rows)
    order = magnitude.sort(descending=True).indices
    order = order[row[order].sort(stable=True).indices]
    return RowRanks(in_rows, torch.arange(len(row)) - starts[row], magnitude[order])


def rows_by_count(ranks: RowRanks, most: int) -> list[list[int]]:
    """[right scores in a row, rows that have so many], ascending; those with more than `most`, which no ratio takes, count as `most`."""
    counts, rows = ranks.in_rows.clamp(max=most).unique(return_counts=True)
    return [[int(count), int(number)] for count, number in zip(counts, rows, strict=True)]


def sums_by_rank(ranks: RowRanks, most: int) -> list[tuple[int, float]]:
    """(k, sum of the k strongest right scores of every row) at some k, ascending, the last of them `most`."""
    sums = torch.bincount(ranks.rank, weights=ranks.magnitude.double(), minlength=most)[:most].cumsum(0)
    steps = [step for step in _STEPS if step < most]
    return [(step, float(sums[step - 1])) for step in [*steps, most]] if most else []


def strongest_rows(layer: LayerScores, count: int) -> Tensor:
    """Numbers of the rows with the most mass of both signs, strongest first, int64 [at most count]."""
    return layer.row_mass.abs().sum(dim=1).sort(descending=True, stable=True).indices[:count]


def octave_counts(layer: LayerScores, rows: Tensor, sign: int, lowest: float, octaves: int) -> Tensor:
    """How many kept scores of `sign` each of `rows` has in each octave of magnitude from `lowest` on, int64 [rows, octaves].

    Weaker ones count to the first octave, stronger ones to the last.
    """
    place = torch.full((layer.out_features,), -1)
    place[rows] = torch.arange(len(rows))
    magnitude = layer.score * sign
    at = place[layer.index // layer.in_features]
    of_these = (at >= 0) & (magnitude > 0)
    octave = (magnitude[of_these].double() / max(lowest, 5e-324)).log2().floor().clamp(0, octaves - 1).long()
    return torch.bincount(at[of_these] * octaves + octave, minlength=len(rows) * octaves).reshape(len(rows), octaves)


def trimmed(counts: Tensor) -> list[int]:
    """[number of the first bin that is not empty, counts from there to the last such]."""
    filled = counts.nonzero()
    if not len(filled):
        return [0]
    first, last = int(filled.min()), int(filled.max())
    return [first, *counts[first : last + 1].tolist()]


def described_rows(layer: LayerScores, count: int, sign: int, lowest: float, octaves: int, rounded: Any) -> list[list[Any]]:
    """The strongest rows: [number, positive mass, negative mass, *trimmed octave counts]."""
    rows = strongest_rows(layer, count)
    by_octave = octave_counts(layer, rows, sign, lowest, octaves)
    masses = layer.row_mass[rows].double().tolist()
    return [
        [int(row), rounded(positive, 3), rounded(negative, 3), *trimmed(counts)]
        for row, (positive, negative), counts in zip(rows, masses, by_octave, strict=True)
    ]
