"""Attribution of every weight of chosen layers to a concept: a_i = w_i * dJ/dw_i (paper, section 3).

a_i is the first-order estimate of J(w) - J(w with w_i = 0): how much of J this weight makes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from .accumulator import GradientAccumulator
from .denoiser import Denoiser
from .errors import CadError
from .gradients import captured_gradients
from .harm import harm, per_harm
from .keep import States
from .objective import Objective
from .progress import Progress, silent
from .reduction import LayerScores, column_sums, keep_threshold, reduce_layer, row_masses, signed_histogram
from .rounds import Solution
from .units import columns_are, head_counts

DENSE_WEIGHTS = 4_000_000
"""Up to so many weights every score is kept; above it, `KEEP_RATIO` of them (a slider needs no more, a file stays small)."""
KEEP_RATIO = 0.01
SCORES = ("attribution", "attribution per harm", "effect")
"""What weights can be ranked by: a_i; with a keep list a_i over the harm of ablating weight i (see harm.py); or, of weights that were
changed in rounds, how much of the model's predictions each change moves (see rounds.py)."""


def ablated_sign(objective: str) -> int:
    """The sign of the scores that are set to zero: positive ones to erase, negative ones to amplify."""
    return 1 if objective == "erase" else -1


@dataclass
class Attribution:
    """What was found, reduced to what selecting, sharing and looking need.

    Attributes:
        layers: by weight name, see LayerScores.
        timesteps: the timesteps that LayerScores.timestep_mass runs over, from noise to picture.
        keep_ratio: selections up to this ratio are exact; 1 means that all scores are here.
        info: what it was made from (concept, base, objective, settings, model family, fingerprint), and by which of SCORES its
            weights are ranked ("score"; files made before there was a choice do not say it and mean "attribution").
    """

    layers: dict[str, LayerScores]
    timesteps: list[int]
    keep_ratio: float
    info: dict[str, Any] = field(default_factory=dict)

    @property
    def weights_total(self) -> int:
        return sum(layer.out_features * layer.in_features for layer in self.layers.values())

    @property
    def objective(self) -> str:
        return str(self.info["objective"])

    @property
    def score(self) -> str:
        """Which of SCORES the weights are ranked by."""
        return str(self.info.get("score", SCORES[0]))

    @property
    def solved(self) -> bool:
        """Whether it carries its own edit, found in rounds: the weights with a score, each with its factor."""
        return self.score == SCORES[2]


def attribution_scores(
    denoiser: Denoiser,
    objective: Objective,
    layer_names: list[str],
    *,
    batch: int = 4,
    checkpointing: bool = False,
    sums_on: torch.device | None = None,
    progress: Progress = silent,
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Dense scores a_i by layer, [out, in] each, and their sums by timestep, [timesteps, 2] (see GradientAccumulator).

    Gradients are summed in float32, or in float64 for a float64 model; the model's own parameters are neither copied nor
    changed nor asked for gradients. Raises CadError when a score is not finite, as after an overflow in float16.

    Args:
        batch: samples in one forward and backward.
        checkpointing: recompute activations in backward, for less memory.
        sums_on: where the scores are kept; None for the model's device.
    """
    layers = {name: denoiser.layers[name] for name in layer_names}
    first = objective.targets[0].eps
    dtype = torch.float64 if first.dtype == torch.float64 else torch.float32
    accumulator = GradientAccumulator(layers, len(objective.targets), denoiser.weight_access, dtype, sums_on or denoiser.device)
    total, done = objective.samples, 0
    progress("attribution", 0, total)
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        captured_gradients(denoiser.unet, layers, accumulator, denoiser.weight_access, checkpointing=checkpointing) as anchor,
    ):
        for number, target in enumerate(objective.targets):
            elements = target.eps[0].numel()
            accumulator.at(number, objective.sign / (total * elements))
            for x_t, eps in zip(target.x_t.split(batch), target.eps.split(batch), strict=True):
                output = denoiser.eps(x_t.to(denoiser.device), target.t, objective.conditioning)
                # A sum, so that gradients in half precision are of ordinary size; the accumulator's scale makes it the mean.
                loss = (output - eps.to(output.device, output.dtype)).square().sum()
                torch.autograd.grad(loss, anchor)
                done += len(x_t)
                progress("attribution", done, total)
    return accumulator.times_weight(denoiser.device), accumulator.timestep_mass


def reduce_scores(
    scores: Mapping[str, Tensor],
    timestep_mass: Mapping[str, Tensor],
    timesteps: list[int],
    info: dict[str, Any],
    keep_ratio: float | None = None,
    row_mass: Mapping[str, Tensor] | None = None,
    heads: Mapping[str, int] | None = None,
) -> Attribution:
    """Reduce dense `scores` layer by layer; `keep_ratio` None keeps all of a small model and 1 % of a large one.

    `row_mass` is that of the attribution (see reduction.row_masses) where the scores are something else, which do not add up to those of
    larger units. `heads` are units.head_counts of the model.
    """
    total = sum(score.numel() for score in scores.values())
    if keep_ratio is None:
        keep_ratio = 1.0 if total <= DENSE_WEIGHTS else KEEP_RATIO
    sign = ablated_sign(str(info["objective"]))
    threshold = keep_threshold(scores.values(), keep_ratio, sign)
    layers = {
        name: reduce_layer(
            score, row_masses(score) if row_mass is None else row_mass[name], timestep_mass[name], keep_ratio, sign, threshold
        )
        for name, score in scores.items()
    }
    if row_mass is None:
        for name in filter(columns_are, layers):
            layers[name] = replace(layers[name], column_sum=column_sums(scores[name]), heads=(heads or {}).get(name))
    return Attribution(layers, list(timesteps), keep_ratio, info)


def attribute(
    denoiser: Denoiser,
    objective: Objective,
    layer_names: list[str],
    *,
    info: dict[str, Any],
    batch: int = 4,
    checkpointing: bool = False,
    sums_on: torch.device | None = None,
    keep_ratio: float | None = None,
    kept: Sequence[States] = (),
    seed: int = 0,
    progress: Progress = silent,
) -> Attribution:
    """`attribution_scores`, reduced; with `kept` states, divided by harm.harm (whose probes come from `seed`) before.

    Raises CadError when no weight has any effect.
    """
    scores, timestep_mass = attribution_scores(
        denoiser, objective, layer_names, batch=batch, checkpointing=checkpointing, sums_on=sums_on, progress=progress
    )
    row_mass = None
    if kept:
        _check_effect(scores)
        row_mass = {name: row_masses(score) for name, score in scores.items()}
        harms = harm(
            denoiser,
            objective,
            kept,
            layer_names,
            seed=seed,
            batch=batch,
            checkpointing=checkpointing,
            sums_on=sums_on,
            progress=progress,
        )
        per_harm(scores, harms)
    timesteps = [target.t for target in objective.targets]
    if row_mass is None:
        return plain_attribution(denoiser, scores, timestep_mass, timesteps, info, keep_ratio)
    return reduce_scores(scores, timestep_mass, timesteps, {**info, "score": SCORES[1]}, keep_ratio, row_mass)


def plain_attribution(
    denoiser: Denoiser,
    scores: Mapping[str, Tensor],
    timestep_mass: Mapping[str, Tensor],
    timesteps: list[int],
    info: Mapping[str, Any],
    keep_ratio: float | None,
) -> Attribution:
    """Dense scores a_i of `denoiser`, reduced; they can be added up to those of larger units. CadError when no weight has any effect."""
    _check_effect(scores)
    heads = head_counts(denoiser.unet, denoiser.layers)
    return reduce_scores(scores, timestep_mass, timesteps, {**info, "score": SCORES[0]}, keep_ratio, heads=heads)


def _check_effect(scores: Mapping[str, Tensor]) -> None:
    if not any(bool(score.any()) for score in scores.values()):
        raise CadError(
            "no weight of the chosen layers has any effect on J: concept and base prompt are the same to this model, or its weights are "
            "zero; change one of the prompts, or the model"
        )


def solved_attribution(solution: Solution, info: dict[str, Any]) -> Attribution:
    """An attribution that carries the edit of `solution`: masses are those of a_i at the unedited model, scores the changes' effects."""
    layers, masses = {}, solution.masses
    for name, rows in masses.by_row.items():
        index, effect, factor = torch.empty(0, dtype=torch.int64), torch.empty(0), torch.empty(0)
        if name in solution.changes:
            change = solution.changes[name]
            moved = (change.relative != 0) & (solution.effect[name] > 0)
            index, effect, factor = change.index[moved], solution.effect[name][moved].float(), 1 + change.relative[moved].float()
        histogram = signed_histogram(effect).int()
        by_timestep = masses.by_timestep[name].float()
        layers[name] = LayerScores(len(rows), masses.columns[name], index, effect, rows, by_timestep, histogram, 0.0, factor)
    rounds = [
        {"kappa": done.kappa, **{name: [done.before[i], done.after[i], done.predicted[i]] for i, name in enumerate("JK")}}
        for done in solution.rounds
    ]
    return Attribution(layers, masses.timesteps, 1.0, {**info, "score": SCORES[2], "rounds_done": rounds, "push": solution.push})
