"""Erasing in rounds: weights are changed so that the concept goes and what is kept stays, and looked at again.

With D_i the relative change of weight i (w_i becomes w_i (1 + D_i)), each round lowers L = J / J_0 + lambda K / K_0 (goals.py) by the
minimum of its quadratic model at the present D, over the box -1 <= D <= 1 (ablated .. doubled):

    L(D + x) ~ L(D) + g . x + || A x ||^2 + kappa / 2 sum_i h_i x_i^2

g is the exact gradient along D. A is a random sketch of the Gauss-Newton matrix (sketch.py), which sees how weights work together; what so
few rows cannot see, the diagonal h stands for (harm.py), with one factor kappa, found by a line search on the true L. Only
CANDIDATES of the weights take part: those from which the diagonal alone expects most, g_i^2 / h_i. After each round the edited
model paints the concept's prompts, and the states on that way are added: an edit must hold where it leads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .accumulator import GradientAccumulator
from .box_least_squares import box_least_squares
from .curvature import CurvatureAccumulator
from .denoiser import Denoiser
from .edited import Change, edited, edited_access
from .errors import CadError
from .goals import KEEP_WEIGHT, GoalMaker, Goals
from .gradients import captured_gradients
from .harm import DAMPING, probe
from .progress import Progress, silent
from .sketch import ChosenGradients

CANDIDATES, AT_MOST = 0.06, 100_000
"""Share of the weights that may change, and how many of a large model."""
SKETCHES = 2
"""How many rounds' sketches are looked at together: the curvature changes little, and more rows see more of it."""
SKETCH_BYTES = 2**28
"""Memory of the sketch, which bounds the candidates of large models."""
KAPPAS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""What kappa is looked for among: from FIRST_KAPPA, or what the round before found, up as long as L falls, or else down."""
FIRST_KAPPA = 30.0
LOOKS = len(KAPPAS)
"""How often a round looks at L at most."""
GONE, KEPT = 0.5, 0.03
"""Where J has come to this share of its level under the base prompt and K / K_0 to this, there is no further round. At the base prompt's
own level, the concept is still painted where the base prompt paints it."""
LOWEST, HIGHEST = -1.0, 1.0


@dataclass(frozen=True)
class Round:
    """What one round did: J / J_0 and K / K_0 before and after, on the same states; kappa 0 when it found nothing better.

    `predicted` is what the quadratic model said they would be after it.
    """

    before: tuple[float, float]
    after: tuple[float, float]
    predicted: tuple[float, float]
    kappa: float


@dataclass(frozen=True)
class _Quadratic:
    """The quadratic model of L along the candidates: slopes of J and lambda K [2, k], and the sketch [n, k], whose rows of J are known."""

    slopes: Tensor
    rows: Tensor
    erases: Tensor

    def change(self, x: Tensor) -> tuple[float, float]:
        """What a step x [k] changes J and lambda K by, both in their units."""
        squares, first = (self.rows @ x).square(), self.slopes @ x
        return float(first[0] + squares[self.erases].sum()), float(first[1] + squares[~self.erases].sum())


@dataclass(frozen=True)
class Solution:
    """The changes found, by layer; `effect` D_i^2 h_i, by which its weights can be ranked; and what every round did."""

    changes: Mapping[str, Change]
    effect: Mapping[str, Tensor]
    rounds: Sequence[Round]


def solve(
    denoiser: Denoiser,
    maker: GoalMaker,
    layer_names: Sequence[str],
    *,
    rounds: int,
    seed: int = 0,
    batch: int = 4,
    checkpointing: bool = False,
    progress: Progress = silent,
) -> Solution:
    """Solve for at most `rounds` rounds, fewer when one brings nothing. The model's weights are never touched.

    Raises CadError when a gradient is not finite or nothing tells concept and base apart.
    """
    return _Solver(denoiser, maker, layer_names, seed, batch, checkpointing, progress).solve(rounds)


class _Solver:
    def __init__(
        self,
        denoiser: Denoiser,
        maker: GoalMaker,
        layer_names: Sequence[str],
        seed: int,
        batch: int,
        checkpointing: bool,
        progress: Progress,
    ) -> None:
        self.denoiser, self.maker = denoiser, maker
        self.seed, self.batch, self.checkpointing, self.progress = seed, batch, checkpointing, progress
        self.layers: dict[str, Any] = {name: denoiser.layers[name] for name in layer_names}
        self.sizes = {name: module.out_features * module.in_features for name, module in self.layers.items()}

    def solve(self, rounds: int) -> Solution:
        goals = self.maker.first(self.progress)
        if not goals.erase_unit > 0:
            raise CadError("concept and base prompt are the same to this model, so there is nothing to erase; change one of them")
        gradients, harms = self._everywhere(goals)
        self._choose(gradients, harms, min(rounds, SKETCHES) * len(goals) * 3 // 2)
        del gradients, harms  # two numbers for every weight, which no round needs
        sketch: list[_Quadratic] = []
        D = torch.zeros_like(self.h)
        value = (goals.loss_at_start, 0.0)
        done: list[Round] = []
        kappa = FIRST_KAPPA
        for number in range(rounds):
            self._begin(number + 1, len(goals))
            if number:
                with edited(self.denoiser, self._changes(D)):
                    sampled = self.maker.sampled_now(self._alive)
                goals = self.maker.again(sampled, self._alive)
                self._begin(number + 1, len(goals))
                value = self._values(goals, D)
                if value[0] <= GONE * goals.loss_of_base and value[1] <= KEPT:
                    self.progress(self._stage, self._total, self._total)
                    break
            sketch = [*sketch[1 - SKETCHES :], self._quadratic(goals, D, number)]
            rows = torch.cat([one.rows for one in sketch]) / len(sketch) ** 0.5
            model = _Quadratic(sketch[-1].slopes, rows, torch.cat([one.erases for one in sketch]))
            D, result = self._step(goals, D, value, model, KAPPAS.index(kappa))
            kappa = result.kappa or kappa
            done.append(result)
            self.progress(self._stage, self._total, self._total)
            if result.kappa == 0:
                break
        effect = (D.square() * self.h).split([len(self.chosen[name]) for name in self.chosen])
        return Solution(self._changes(D), dict(zip(self.chosen, effect, strict=True)), done)

    def _begin(self, number: int, samples: int) -> None:
        """Progress of a round: its samples once for gradients, and once for each look at L."""
        self._stage, self._done, self._total = f"round {number}", 0, samples * (2 + LOOKS)
        self.progress(self._stage, 0, self._total)

    def _count(self, part: str, done: int, of: int) -> None:
        """A Progress for one part of the round."""
        self.progress(self._stage, min(self._done + done, self._total), self._total)
        if done == of:
            self._done += of

    def _alive(self, *_: object) -> None:
        """A Progress that only lets the work be stopped."""
        self.progress(self._stage, self._done, self._total)

    def _everywhere(self, goals: Goals) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """At the unedited model, for every weight of the layers: w dJ/dw (K has no gradient there), and damped h."""
        dtype = self._dtype(goals)
        access, device = self.denoiser.weight_access, self.denoiser.device
        gradient = GradientAccumulator(self.layers, 1, access, dtype, device)
        square = CurvatureAccumulator(self.layers, dtype, device)
        for sink, probing in ((gradient, False), (square, True)):
            stage, passed = ("harm of every weight" if probing else "gradient of every weight"), 0
            total = len(goals) if probing else int(goals.erases.sum())  # K has no gradient yet
            self.progress(stage, 0, total)
            # Of ordinary size inside the pass, for the sake of half precision; what makes them the mean is multiplied in float32.
            unit = float(goals.weights().mean())
            _ = square.scaled(2 * unit) if probing else gradient.at(0, unit)
            with (
                torch.inference_mode(False),
                torch.enable_grad(),
                captured_gradients(self.denoiser.unet, self.layers, sink, access, checkpointing=self.checkpointing) as anchor,
            ):
                for part in goals.batches(self.denoiser, self.batch, only_erase=not probing):
                    output = self.denoiser.eps(part.x_t.to(device), part.t, part.conditioning)
                    weight = (part.weight / unit).to(output).reshape(-1, 1, 1, 1)
                    if probing:
                        signs = torch.stack([probe(self.seed, passed + b, latent) for b, latent in enumerate(part.x_t)])
                        torch.autograd.grad((output * (signs.to(output) * weight.sqrt())).sum(), anchor)
                    else:
                        torch.autograd.grad(((output - part.eps.to(output)).square() * weight).sum(), anchor)
                    passed += len(part.t)
                    self.progress(stage, passed, total)
        scores = gradient.gradients
        for name, score in scores.items():
            with access(self.layers[name], score) as (weight, _):
                score.mul_(weight)
        harms = square.times_weight_squared(access)
        mean = sum(float(h.sum(dim=1).double().cpu().sum()) for h in harms.values()) / sum(self.sizes.values())
        if not mean > 0:
            raise CadError("no weight of the chosen layers changes what the model predicts; is the checkpoint whole?")
        for h in harms.values():
            h.add_(DAMPING * mean)
        return scores, harms

    def _choose(self, gradients: Mapping[str, Tensor], harms: Mapping[str, Tensor], rows: int) -> None:
        """Fix the candidates, their weights and their h, of the `rows` of whose sketch memory must hold."""
        total = sum(self.sizes.values())
        bytes_each = next(iter(harms.values())).element_size()
        count = max(1, min(round(CANDIDATES * total), AT_MOST, SKETCH_BYTES // (rows * bytes_each)))
        best: dict[str, tuple[Tensor, Tensor]] = {}
        for name, h in harms.items():  # layer by layer, so that no third matrix of every weight is made
            gain = gradients[name].square().div_(h).flatten()
            strongest = gain.topk(min(count, len(gain)))
            best[name] = (strongest.values.cpu(), strongest.indices.cpu())
        everything = torch.cat([gain for gain, _ in best.values()])
        threshold = everything.topk(min(count, len(everything))).values[-1]
        self.chosen, self.weights, of_chosen = {}, {}, []
        for name, (gain, place) in best.items():
            index = place[gain >= threshold].sort().values
            if not len(index):
                continue
            self.chosen[name] = index
            index = index.to(harms[name].device)
            with self.denoiser.weight_access(self.layers[name], harms[name]) as (weight, _):
                self.weights[name] = weight.flatten()[index].clone()
            of_chosen.append(harms[name].flatten()[index])
        self.h = torch.cat(of_chosen).cpu()
        self.sizes_chosen = [len(index) for index in self.chosen.values()]

    def _changes(self, D: Tensor) -> dict[str, Change]:
        parts = D.split(self.sizes_chosen)
        return {name: Change(index, part) for (name, index), part in zip(self.chosen.items(), parts, strict=True)}

    def _values(self, goals: Goals, D: Tensor) -> tuple[float, float]:
        with edited(self.denoiser, self._changes(D)):
            return goals.values(self.denoiser, batch=self.batch, progress=self._count)

    def _quadratic(self, goals: Goals, D: Tensor, number: int) -> _Quadratic:
        """The model of L at D, from one forward and two backwards a state."""
        targets = {name: self.layers[name] for name in self.chosen}
        sink = ChosenGradients(targets, self.chosen, self.weights)
        access = edited_access(self.denoiser.weight_access, self.denoiser.layers, self._changes(D))
        slopes, rows, passed = torch.zeros(2, len(self.h), dtype=self.h.dtype), [], 0
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            captured_gradients(self.denoiser.unet, targets, sink, access, checkpointing=self.checkpointing) as anchor,
        ):
            for part in goals.batches(self.denoiser, self.batch):
                output = self.denoiser.eps(part.x_t.to(self.denoiser.device), part.t, part.conditioning)
                first = self.seed + (number + 1) * 1_000_003 + passed
                signs = torch.stack([probe(first, b, latent) for b, latent in enumerate(part.x_t)])
                weight = part.weight.to(self.h).reshape(-1, 1)
                torch.autograd.grad((output * signs.to(output)).sum(), anchor, retain_graph=True)
                rows.append(sink.take().cpu() * weight.sqrt())
                torch.autograd.grad((output - part.eps.to(output)).square().sum(), anchor)
                gradients = sink.take().cpu() * weight
                slopes += torch.stack([gradients[part.erases].sum(dim=0), gradients[~part.erases].sum(dim=0)])
                passed += len(part.t)
                self._count("gradients", passed, len(goals))
        return _Quadratic(slopes, torch.cat(rows), goals.erases)

    def _step(self, goals: Goals, D: Tensor, value: tuple[float, float], model: _Quadratic, first: int) -> tuple[Tensor, Round]:
        """The best of the steps that KAPPAS give, looked for from number `first`; `value` again with kappa 0 when none lowers L."""
        slope = model.slopes.sum(dim=0)

        def attempt(number: int) -> tuple[float, Tensor, Round]:
            kappa = KAPPAS[number]
            x = box_least_squares(slope, model.rows, kappa * self.h, LOWEST - D, HIGHEST - D, torch.zeros_like(D))
            found, (erase, keep) = self._values(goals, D + x), model.change(x)
            return goals.loss(found), D + x, Round(value, found, (value[0] + erase, value[1] + keep / KEEP_WEIGHT), kappa)

        best = attempt(first)
        for numbers in (range(first + 1, len(KAPPAS)), reversed(range(first))):
            improved = False
            for number in numbers:
                other = attempt(number)
                if other[0] >= best[0]:
                    break
                best, improved = other, True
            if improved:
                break
        if best[0] >= goals.loss(value):
            return D, Round(value, value, value, 0.0)
        return best[1:]

    @staticmethod
    def _dtype(goals: Goals) -> torch.dtype:
        return torch.float64 if goals.eps.dtype == torch.float64 else torch.float32
