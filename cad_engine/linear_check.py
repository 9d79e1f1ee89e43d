"""How far the first order carries: predicted against true change of J when weights are ablated (paper, figure 1).

Protocol: the points (x_t, t) and the targets of J are fixed once on the unedited model. For each of `sets` ablations, weights
are drawn at random without replacement over all chosen layers, `ratio` of them in all; the prediction is -sum a_i (a_i =
w_i dJ/dw_i is what J loses when w_i becomes 0), the truth is J(ablated) - J by forwards on the same points and targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .denoiser import Denoiser
from .edit import Edit, ablation, applied
from .erasure import distinct_positions
from .objective import Objective
from .progress import Progress, silent
from .reduction import share_count
from .selection import check_ratio


@dataclass(frozen=True)
class LinearCheck:
    """`predicted` and `true` changes of J, one an ablation, and J before any."""

    predicted: list[float]
    true: list[float]
    objective_before: float
    weights_ablated: int

    @property
    def pearson(self) -> float:
        """Correlation of predicted and true changes; NaN when either does not vary."""
        if len(self.true) < 2 or np.std(self.predicted) == 0 or np.std(self.true) == 0:
            return float("nan")
        return float(np.corrcoef(self.predicted, self.true)[0, 1])


def random_sets(shapes: Mapping[str, tuple[int, int]], ratio: float, seed: int) -> Edit:
    """An ablation of floor(ratio * total) weights (at least one) drawn over all layers together."""
    sizes = {name: rows * columns for name, (rows, columns) in shapes.items()}
    total = sum(sizes.values())
    flat = distinct_positions(total, max(1, share_count(ratio, total)), torch.Generator().manual_seed(seed))
    positions, start = {}, 0
    for name, size in sizes.items():
        inside = flat[(flat >= start) & (flat < start + size)] - start
        if len(inside):
            positions[name] = inside
        start += size
    return ablation(positions, shapes, {"control": "random weights", "seed": seed})


def predicted_change(scores: Mapping[str, Tensor], edit: Edit) -> float:
    """-sum of a_i over the weights that `edit` ablates; `scores` are dense, [out, in] by layer."""
    return -sum(
        float(scores[name].flatten()[layer.index.to(scores[name].device)].cpu().double().sum()) for name, layer in edit.layers.items()
    )


def linear_check(
    denoiser: Denoiser,
    objective: Objective,
    scores: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    *,
    ratio: float = 0.001,
    sets: int = 100,
    seed: int = 0,
    batch: int = 16,
    progress: Progress = silent,
) -> LinearCheck:
    """Run the protocol above; `weights` are edited in place one set after the other and are bit-identical afterwards.

    Raises CadError for a ratio outside (0, 1].
    """
    check_ratio(ratio)
    shapes = {name: (score.shape[0], score.shape[1]) for name, score in scores.items()}
    before = objective.value(denoiser, batch=batch)
    predicted, true, count = [], [], 0
    progress("ablation", 0, sets)
    for number in range(sets):
        edit = random_sets(shapes, ratio, seed + number)
        count = len(edit)
        predicted.append(predicted_change(scores, edit))
        with applied(edit, weights):
            true.append(objective.value(denoiser, batch=batch) - before)
        progress("ablation", number + 1, sets)
    return LinearCheck(predicted, true, before, count)
