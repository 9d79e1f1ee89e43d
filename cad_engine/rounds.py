"""Erasing in rounds: weights are changed so that the concept goes and what is kept stays, and looked at again.

With D_i the relative change of weight i (w_i becomes w_i (1 + D_i)), each round lowers L = J / J_0 + lambda K / K_0 (goals.py) by the
minimum of its quadratic model at the present D, over the box -1 <= D <= 1 (ablated .. doubled):

    L(D + x) ~ L(D) + g . x + || A x ||^2 + kappa / 2 sum_i h_i x_i^2

g is the exact gradient along D. A is a random sketch of the Gauss-Newton matrix (sketch.py), which sees how weights work together; what so
few rows cannot see, the diagonal h stands for (harm.py), with one factor kappa, found by a line search on the true L. Only some of the
weights take part (candidates.py). After each round the edited model paints the concept's prompts, and the states on that way are
added: an edit must hold where it leads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .box_least_squares import box_least_squares
from .candidates import Masses, choose_candidates
from .denoiser import Denoiser
from .edited import Change, edited, edited_access
from .errors import CadError
from .goal_maker import GoalMaker
from .goals import KEEP_WEIGHT, Goals
from .gradients import captured_gradients
from .harm import probe
from .progress import Progress, silent
from .sketch import ChosenGradients

SKETCHES = 2
"""How many rounds' sketches are looked at together: the curvature changes little, and more rows see more of it."""
KAPPAS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0)
"""What kappa is looked for among: from FIRST_KAPPA, or what the round before found, up as long as L falls, or else down."""
FIRST_KAPPA = 30.0
LOOKS = len(KAPPAS)
"""How often a round looks at L at most."""
LOOKED_AT = 64
"""How many samples a look at L takes: steps are compared on the same ones, so few are enough to tell them apart."""
SKETCHED = 128
"""How many samples a round's gradients and sketch are made of."""
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
    """The changes found, by layer; `effect` D_i^2 h_i, by which its weights can be ranked; what every round did; the unedited model's
    masses; and the push (see push.py)."""

    changes: Mapping[str, Change]
    effect: Mapping[str, Tensor]
    rounds: Sequence[Round]
    masses: Masses
    push: float


def solve(
    denoiser: Denoiser,
    maker: GoalMaker,
    layer_names: Sequence[str],
    *,
    rounds: int,
    seed: int = 0,
    batch: int = 4,
    checkpointing: bool = False,
    sums_on: torch.device | None = None,
    progress: Progress = silent,
) -> Solution:
    """Solve for at most `rounds` rounds, fewer when one brings nothing. The model's weights are never touched.

    `sums_on` is where choosing the candidates keeps its sums, None for the model's device; the rest needs no such sums.

    Raises CadError when a gradient is not finite or nothing tells concept and base apart.
    """
    return _Solver(denoiser, maker, layer_names, seed, batch, checkpointing, sums_on, progress).solve(rounds)


class _Solver:
    def __init__(
        self,
        denoiser: Denoiser,
        maker: GoalMaker,
        layer_names: Sequence[str],
        seed: int,
        batch: int,
        checkpointing: bool,
        sums_on: torch.device | None,
        progress: Progress,
    ) -> None:
        self.denoiser, self.maker = denoiser, maker
        self.seed, self.batch, self.checkpointing, self.sums_on, self.progress = seed, batch, checkpointing, sums_on, progress
        self.layers: dict[str, Any] = {name: denoiser.layers[name] for name in layer_names}

    def solve(self, rounds: int) -> Solution:
        goals = self.maker.first(self.progress)
        if not goals.erase_unit > 0:
            raise CadError("concept and base prompt are the same to this model, so there is nothing to erase; change one of them")
        self.candidates = choose_candidates(
            self.denoiser,
            goals,
            self.layers,
            min(rounds, SKETCHES) * min(len(goals) * 3 // 2, SKETCHED),
            seed=self.seed,
            batch=self.batch,
            checkpointing=self.checkpointing,
            sums_on=self.sums_on,
            progress=self.progress,
        )
        sketch: list[_Quadratic] = []
        D = torch.zeros_like(self.candidates.h)
        done: list[Round] = []
        kappa = FIRST_KAPPA
        for number in range(rounds):
            self._begin(number + 1, goals)
            if number:
                with edited(self.denoiser, self._changes(D)):
                    sampled = self.maker.sampled_now(self._alive)
                goals = self.maker.again(sampled, self._alive)
            seed = self.seed + number
            looked_at, sketched = goals.some(LOOKED_AT, seed), goals.some(SKETCHED, seed)
            self._begin(number + 1, goals)
            value = self._values(looked_at, D)
            if number and value[0] <= GONE * goals.loss_of_base and value[1] <= KEPT:
                self.progress(self._stage, self._total, self._total)
                break
            sketch = [*sketch[1 - SKETCHES :], self._quadratic(sketched, D, number)]
            rows = torch.cat([one.rows for one in sketch]) / len(sketch) ** 0.5
            model = _Quadratic(sketch[-1].slopes, rows, torch.cat([one.erases for one in sketch]))
            D, result = self._step(looked_at, D, value, model, KAPPAS.index(kappa))
            kappa = result.kappa or kappa
            done.append(result)
            self.progress(self._stage, self._total, self._total)
            if result.kappa == 0:
                break
        if number + 1 < rounds:
            self.progress(f"round {rounds}", 1, 1)  # those that were not needed are over, too
        return Solution(
            self._changes(D), self.candidates.by_layer(D.square() * self.candidates.h), done, self.candidates.masses, goals.push
        )

    def _begin(self, number: int, goals: Goals) -> None:
        """Progress of a round: samples for gradients, and others for each look at L."""
        total = min(len(goals), SKETCHED) + (1 + LOOKS) * min(len(goals), LOOKED_AT)
        self._stage, self._done, self._total = f"round {number}", 0, total
        self.progress(self._stage, 0, self._total)

    def _count(self, part: str, done: int, of: int) -> None:
        """A Progress for one part of the round."""
        self.progress(self._stage, min(self._done + done, self._total), self._total)
        if done == of:
            self._done += of

    def _alive(self, *_: object) -> None:
        """A Progress that only lets the work be stopped."""
        self.progress(self._stage, self._done, self._total)

    def _changes(self, D: Tensor) -> dict[str, Change]:
        return {name: Change(self.candidates.index[name], part) for name, part in self.candidates.by_layer(D).items()}

    def _values(self, goals: Goals, D: Tensor) -> tuple[float, float]:
        with edited(self.denoiser, self._changes(D)):
            return goals.values(self.denoiser, batch=self.batch, progress=self._count)

    def _quadratic(self, goals: Goals, D: Tensor, number: int) -> _Quadratic:
        """The model of L at D, from one forward and two backwards a state."""
        targets = {name: self.layers[name] for name in self.candidates.index}
        sink = ChosenGradients(targets, self.candidates.index, self.candidates.weights)
        access = edited_access(self.denoiser.weight_access, self.denoiser.layers, self._changes(D))
        slopes, rows, passed = torch.zeros(2, len(D), dtype=D.dtype), [], 0
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            captured_gradients(self.denoiser.unet, targets, sink, access, checkpointing=self.checkpointing) as anchor,
        ):
            for part in goals.batches(self.denoiser, self.batch):
                output = self.denoiser.eps(part.x_t.to(self.denoiser.device), part.t, part.conditioning)
                first = self.seed + (number + 1) * 1_000_003 + passed
                signs = torch.stack([probe(first, b, latent) for b, latent in enumerate(part.x_t)])
                weight = part.weight.to(D).reshape(-1, 1)
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
        slope, x = model.slopes.sum(dim=0), torch.zeros_like(D)

        def attempt(number: int) -> tuple[float, Tensor, Round]:
            nonlocal x
            kappa = KAPPAS[number]
            x = box_least_squares(slope, model.rows, kappa * self.candidates.h, LOWEST - D, HIGHEST - D, x)
            found, (erase, keep) = self._values(goals, D + x), model.change(x)
            loss = goals.loss(found)
            # A step that overflows in half precision is no step at all; NaN would win every comparison below.
            return (
                loss if math.isfinite(loss) else math.inf,
                D + x,
                Round(value, found, (value[0] + erase, value[1] + keep / KEEP_WEIGHT), kappa),
            )

        best = attempt(first)
        for numbers in (range(first + 1, len(KAPPAS)), reversed(range(first))):
            improved = False
            for number in numbers:
                other = attempt(number)
                if other[0] >= best[0] < math.inf:
                    break
                best, improved = other, True
            if improved:
                break
        if best[0] >= goals.loss(value):
            return D, Round(value, value, value, 0.0)
        return best[1:]
