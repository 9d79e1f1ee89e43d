"""How far the first and the second order carry: predicted against true change of J when weights are changed (paper, figure 1).

Protocol: the points (x_t, t) and the targets y of J are fixed once on the unedited model. In each of `sets` sets of weights, drawn
at random, weight i is multiplied by 1 + D_i (-1 ablates it). The truth is J(D) - J(0) by forwards on the same points and targets.

- First order: sum_i a_i D_i, with the attributions a_i = w_i dJ/dw_i.
- Second order: J is s times the mean m over points and elements of r^2, r = eps - y, with s = +1 to erase and -1 to amplify. From 0 to D
  eps goes by eps(0) + u + v / 2 + ..., u its first and v its second derivative along D, so to second order

      J(D) - J(0) = s m(2 r u) + s m(u^2) + s m(r v).

  The first term is sum_i a_i D_i. The second is the Gauss-Newton term, all there is where eps moves in a straight line; first order and it
  are given as "Gauss-Newton". The third is what the bend of eps does. All couplings of weights are in them. u and v are central
  differences, (eps(h D) - eps(-h D)) / 2 h and (eps(h D) - 2 eps(0) + eps(-h D)) / h^2 with h = STEP: two forwards a point and set.
- From halfway, where sets are parts of one edit E: first order at the model with E at strength 1/2, around which halves of E lie,

      J(D) - J(0) = J(E/2) - J(0) + sum_i w_i dJ/dw_i (at E/2) (D_i - E_i / 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .denoiser import Denoiser
from .edit import Edit, LayerEdit, ablation, applied
from .edited import Change, edited_access
from .erasure import distinct_positions
from .gradients import captured_gradients
from .objective import Objective
from .progress import Progress, silent
from .reduction import share_count
from .sketch import ChosenGradients

STEP = 1 / 16
"""Of the central differences: what they leave out is STEP^2 of a higher order, and float32's rounding is divided by STEP^2."""


PREDICTIONS = ("first order", "Gauss-Newton", "second order")
HALFWAY = "from halfway"


@dataclass(frozen=True)
class Fit:
    """How well predictions tell the truth.

    Attributes:
        pearson: their correlation, which ignores scale and offset; NaN when either does not vary.
        r2: 1 - sum (true - predicted)^2 / sum (true - mean)^2, which does not: 1 is exact, 0 no better than the mean; NaN likewise.
    """

    pearson: float
    r2: float

    @classmethod
    def of(cls, predicted: Sequence[float], true: Sequence[float]) -> Fit:
        """Of one prediction a set."""
        if len(true) < 2 or np.std(predicted) == 0 or np.std(true) == 0:
            return cls(float("nan"), float("nan"))
        residual = np.square(np.subtract(true, predicted)).sum() / np.square(np.subtract(true, np.mean(true))).sum()
        return cls(float(np.corrcoef(predicted, true)[0, 1]), float(1 - residual))


@dataclass(frozen=True)
class LinearCheck:
    """Changes of J, one a set.

    Attributes:
        predicted: by the names of PREDICTIONS, and HALFWAY for parts of an edit.
        true: by forwards.
        objective_before: J before any.
        weights: how many each set changes.
    """

    predicted: dict[str, list[float]]
    true: list[float]
    objective_before: float
    weights: list[int]

    def fit(self, prediction: str) -> Fit:
        """How well one of the predictions tells the truth."""
        return Fit.of(self.predicted[prediction], self.true)


def random_ablation(shapes: Mapping[str, tuple[int, int]], ratio: float, seed: int) -> Edit:
    """An ablation of floor(ratio * total) weights (at least one) drawn over all layers together."""
    sizes = {name: rows * columns for name, (rows, columns) in shapes.items()}
    total = sum(sizes.values())
    flat = distinct_positions(total, max(1, share_count(ratio, total)), torch.Generator().manual_seed(seed))
    return ablation(_by_layer(flat, sizes), shapes, {"control": "random weights", "seed": seed})


def random_part(edit: Edit, share: float | None, seed: int) -> Edit:
    """round(share * all) of the weights of `edit` (at least one), drawn over all its layers together, with their factors.

    `share` None draws that too, uniformly from (0, 1): sets of varied size.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = float(torch.rand((), generator=generator)) if share is None else share
    flat = torch.randperm(len(edit), generator=generator)[: max(1, round(drawn * len(edit)))].sort().values
    chosen = _by_layer(flat, {name: len(layer.index) for name, layer in edit.layers.items()})
    return Edit({name: _some(edit.layers[name], which) for name, which in chosen.items()}, {"share": drawn, "seed": seed})


def _some(layer: LayerEdit, which: Tensor) -> LayerEdit:
    return LayerEdit(*layer.shape, layer.index[which], None if layer.factor is None else layer.factor[which])


def _by_layer(flat: Tensor, sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """Ascending numbers over all layers of these sizes, one after the other, as numbers within each layer that has any."""
    found, start = {}, 0
    for name, size in sizes.items():
        inside = flat[(flat >= start) & (flat < start + size)] - start
        if len(inside):
            found[name] = inside
        start += size
    return found


def first_order(scores: Mapping[str, Tensor], edit: Edit) -> float:
    """sum of a_i D_i over the weights that `edit` multiplies by 1 + D_i; `scores` are dense, [out, in] by layer."""
    total = 0.0
    for name, layer in edit.layers.items():
        a = scores[name].flatten()[layer.index.to(scores[name].device)].cpu().double()
        total += float(a @ (layer.factors(1.0).double() - 1))
    return total


@torch.no_grad()
def _predictions(denoiser: Denoiser, objective: Objective, batch: int) -> Iterator[Tensor]:
    """eps of the model as it is, batch by batch of the objective's points, float64 on the CPU."""
    for target in objective.targets:
        for x_t in target.x_t.split(batch):
            yield denoiser.eps(x_t.to(denoiser.device), target.t, objective.conditioning).cpu().double()


def second_order(
    denoiser: Denoiser, objective: Objective, edit: Edit, weights: Mapping[str, Tensor], *, batch: int = 16
) -> tuple[float, float]:
    """s m(u^2) and s m(r v), see above, of a model whose `weights` are in place and unedited, in float32 or float64."""
    here = list(_predictions(denoiser, objective, batch))
    with applied(edit, weights, STEP):
        ahead = list(_predictions(denoiser, objective, batch))
    with applied(edit, weights, -STEP):
        back = list(_predictions(denoiser, objective, batch))
    targets = (eps.cpu().double() for target in objective.targets for eps in target.eps.split(batch))
    straight = bent = 0.0
    for now, plus, minus, y in zip(here, ahead, back, targets, strict=True):
        u, v = (plus - minus) / (2 * STEP), (plus - 2 * now + minus) / STEP**2
        straight += float(u.square().flatten(1).mean(dim=1).sum())
        bent += float(((now - y) * v).flatten(1).mean(dim=1).sum())
    return objective.sign * straight / objective.samples, objective.sign * bent / objective.samples


def slopes(denoiser: Denoiser, objective: Objective, edit: Edit, strength: float, *, batch: int = 16) -> dict[str, Tensor]:
    """What each weight of `edit` does by itself there: E_i w_i dJ/dw_i at the model with `edit` at `strength`, float64 [k] by layer.

    The model's weights are not touched. Raises CadError when a gradient is not finite.
    """
    layers: dict[str, Any] = {name: denoiser.layers[name] for name in edit.layers}
    chosen = {name: layer.index for name, layer in edit.layers.items()}
    changes = {name: Change(layer.index, layer.factors(strength).double() - 1) for name, layer in edit.layers.items()}
    own: dict[str, Tensor] = {}
    like = torch.empty(0, device=denoiser.device, dtype=torch.promote_types(objective.targets[0].eps.dtype, torch.float32))
    for name, layer in edit.layers.items():
        with denoiser.weight_access(layers[name], like) as (weight, _):
            own[name] = weight.detach().flatten()[layer.index.to(weight.device)].clone()
    sink, total = ChosenGradients(layers, chosen, own), torch.zeros(len(edit), dtype=torch.float64)
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        captured_gradients(denoiser.unet, layers, sink, edited_access(denoiser.weight_access, denoiser.layers, changes)) as anchor,
    ):
        for target in objective.targets:
            for x_t, y in zip(target.x_t.split(batch), target.eps.split(batch), strict=True):
                output = denoiser.eps(x_t.to(denoiser.device), target.t, objective.conditioning)
                torch.autograd.grad((output - y.to(output)).square().flatten(1).mean(dim=1).sum(), anchor)
                total += sink.take().cpu().double().sum(dim=0)
    parts = (objective.sign * total / objective.samples).split([len(layer.index) for layer in edit.layers.values()])
    return {name: part * (layer.factors(1.0).double() - 1) for (name, layer), part in zip(edit.layers.items(), parts, strict=True)}


class FromHalfway:
    """First order at the model with `edit` at strength 1/2, for parts of `edit`, see above."""

    def __init__(
        self, denoiser: Denoiser, objective: Objective, edit: Edit, weights: Mapping[str, Tensor], before: float, *, batch: int = 16
    ) -> None:
        """`before` is J of the model, whose `weights` are in place and unedited."""
        self.edit, self.slopes = edit, slopes(denoiser, objective, edit, 0.5, batch=batch)
        with applied(edit, weights, 0.5):
            self.start = objective.value(denoiser, batch=batch) - before
        self.start -= sum(float(slope.sum()) for slope in self.slopes.values()) / 2

    def __call__(self, part: Edit) -> float:
        """The change of J that `part` makes."""
        places = {name: torch.searchsorted(self.edit.layers[name].index, layer.index) for name, layer in part.layers.items()}
        return self.start + sum(float(self.slopes[name][place].sum()) for name, place in places.items())


def linear_check(
    denoiser: Denoiser,
    objective: Objective,
    scores: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    make: Callable[[int], Edit],
    *,
    whole: Edit | None = None,
    sets: int = 100,
    batch: int = 16,
    progress: Progress = silent,
) -> LinearCheck:
    """Run the protocol above on the sets make(0), make(1), ...

    `weights` are edited in place one set after the other and are bit-identical afterwards. Raises CadError when a set does not fit them.

    Args:
        scores: a_i of every weight that a set may take, [out, in] by layer.
        weights: of the layers, by name; of a model in float32 or float64 (half precision would round the small steps away).
        make: a set by its number; the factors are 1 + D_i.
        whole: the edit that all sets are parts of, if there is one; then they are predicted from halfway, too.
    """
    before = objective.value(denoiser, batch=batch)
    halfway = None if whole is None else FromHalfway(denoiser, objective, whole, weights, before, batch=batch)
    check = LinearCheck({name: [] for name in (*PREDICTIONS, *(() if whole is None else (HALFWAY,)))}, [], before, [])
    progress("sets", 0, sets)
    for number in range(sets):
        edit = make(number)
        check.weights.append(len(edit))
        first = first_order(scores, edit)
        straight, bent = second_order(denoiser, objective, edit, weights, batch=batch)
        for name, prediction in zip(PREDICTIONS, (first, first + straight, first + straight + bent), strict=True):
            check.predicted[name].append(prediction)
        if halfway is not None:
            check.predicted[HALFWAY].append(halfway(edit))
        with applied(edit, weights):
            check.true.append(objective.value(denoiser, batch=batch) - check.objective_before)
        progress("sets", number + 1, sets)
    return check
