"""What each layer really does for J, by many random ablations: `python -m benchmarks.peers.coar --concept star --json FILE`.

COAR (Shah et al. 2024, arXiv 2404.11534) ablates random subsets of a model's components many times and fits a linear model of the
outcome to the masks; its coefficients are the components' effects, at the price of a forward pass for each mask. Here the components
are the linear layers of the UNet, and ablating one means scaling its weights by 1 - delta: zeroing whole layers leaves nothing of a
small model, of whose J nothing could be learnt. To first order the coefficient of a layer is then -delta sum_i a_i, which is what
attribution claims of it from one backward pass. Both see the same J (eq. 6) on the same points and targets. The larger delta, the more
the coefficients hold of curvature, which the first order does not have.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress as Bar
from torch import Tensor, nn

from cad_engine.attribution import attribution_scores
from cad_engine.checkpoints.load import load_model
from cad_engine.concept import concept_objective
from cad_engine.concept_settings import ConceptSettings
from cad_engine.denoiser import Denoiser
from cad_engine.objective import Objective
from cad_engine.progress import Progress, silent
from cad_engine.sandbox.captions import KINDS, concept_prompts

from .changes import restore, snapshot


def random_masks(count: int, layers: int, share: float, seed: int) -> np.ndarray:
    """`count` random subsets of exactly round(share * layers) of the layers, at least one; bool [count, layers]."""
    rng = np.random.default_rng(seed)
    ablated = max(1, round(share * layers))
    return np.stack([rng.permutation(layers) < ablated for _ in range(count)])


@torch.no_grad()
def ablation_effects(
    denoiser: Denoiser,
    objective: Objective,
    layers: Mapping[str, nn.Module],
    masks: np.ndarray,
    delta: float,
    *,
    batch: int = 20,
    progress: Progress = silent,
) -> np.ndarray:
    """J with the layers of each mask scaled by 1 - `delta`, less J of the model as it is; float64 [masks].

    Args:
        layers: with weights [out, in], in the order of the masks' columns; their weights are as before afterwards.
        masks: bool [masks, layers].
    """
    modules = nn.ModuleList(layers.values())
    weights: list[Tensor] = [layer.get_parameter("weight") for layer in modules]
    before = snapshot(modules)
    unedited = objective.value(denoiser, batch=batch)
    effects = np.empty(len(masks))
    progress("ablations", 0, len(masks))
    try:
        for number, mask in enumerate(masks):
            for column in np.flatnonzero(mask):
                weights[column].mul_(1 - delta)
            effects[number] = objective.value(denoiser, batch=batch) - unedited
            restore(modules, before)
            progress("ablations", number + 1, len(masks))
    finally:
        restore(modules, before)
    return effects


def linear_fit(masks: np.ndarray, effects: np.ndarray) -> tuple[np.ndarray, float]:
    """Coefficients [layers] and constant of the least-squares fit of `effects` [masks] to `masks` [masks, layers]."""
    design = np.column_stack([masks.astype(np.float64), np.ones(len(masks))])
    solution = np.linalg.lstsq(design, effects, rcond=None)[0]
    return solution[:-1], float(solution[-1])


def r_squared(predicted: np.ndarray, true: np.ndarray) -> float:
    """1 less the share of the variance of `true` that `predicted` leaves."""
    return float(1 - ((true - predicted) ** 2).sum() / ((true - true.mean()) ** 2).sum())


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, equal values sharing the mean of theirs; float64 [n]."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[place]


@dataclass(frozen=True)
class Comparison:
    """Attribution against exhaustive ablation, layer by layer.

    Attributes:
        delta: by how much an ablated layer is scaled down.
        pearson, spearman: of the fit's coefficients and the attribution's -delta sum_i a_i, over the layers.
        held_out: R^2 of the fit on masks that it did not see.
        claimed_held_out: R^2 there when the attribution's claims stand for the coefficients, with no constant.
        coefficients, claims: by layer.
    """

    delta: float
    pearson: float
    spearman: float
    held_out: float
    claimed_held_out: float
    coefficients: dict[str, float]
    claims: dict[str, float]


def compare(masses: Mapping[str, float], masks: np.ndarray, effects: np.ndarray, delta: float, held_out_share: float = 0.2) -> Comparison:
    """Fit to the first masks, hold the last ones out, and compare with the net masses sum_i a_i of the same layers."""
    fitted = len(masks) - round(held_out_share * len(masks))
    coefficients, constant = linear_fit(masks[:fitted], effects[:fitted])
    claims = -delta * np.array(list(masses.values()))
    unseen, truth = masks[fitted:].astype(np.float64), effects[fitted:]
    return Comparison(
        delta,
        float(np.corrcoef(coefficients, claims)[0, 1]),
        float(np.corrcoef(ranks(coefficients), ranks(claims))[0, 1]),
        r_squared(unseen @ coefficients + constant, truth),
        r_squared(unseen @ claims, truth),
        dict(zip(masses, coefficients.tolist(), strict=True)),
        dict(zip(masses, claims.tolist(), strict=True)),
    )


def main() -> None:
    """Measure one concept and print a Markdown table, one row for each delta."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--concept", default="star", choices=[word for words in KINDS.values() for word in words])
    parser.add_argument("--delta", type=float, action="append", help="scale ablated layers by 1 - DELTA; default 0.003, 0.01 and 0.05")
    parser.add_argument("--share", type=float, default=0.1, help="part of the layers in each mask")
    parser.add_argument("--masks", type=int, default=500)
    parser.add_argument("--trajectories", type=int, default=4, help="of the concept; J is measured at 10 points of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    denoiser, prompts = load_model("sandbox"), concept_prompts(options.concept)
    settings = ConceptSettings(prompts.sample, base=prompts.base, trajectories=options.trajectories, batch=20, seed=options.seed)
    objective = concept_objective(denoiser, settings)
    scores, _ = attribution_scores(denoiser, objective, list(denoiser.layers), batch=20)
    masses = {name: float(score.double().sum()) for name, score in scores.items()}
    masks = random_masks(options.masks, len(masses), options.share, options.seed)
    rows = []
    for delta in options.delta or (0.003, 0.01, 0.05):
        with Bar(transient=True) as bar:
            line = bar.add_task(f"{options.concept}, {1 - delta:g}")
            effects = ablation_effects(
                denoiser,
                objective,
                denoiser.layers,
                masks,
                delta,
                progress=lambda _, done, total, bar=bar, line=line: bar.update(line, completed=done, total=total),  # type: ignore[misc]
            )
        rows.append(compare(masses, masks, effects, delta))
    print("| concept | layers scaled by | Pearson | Spearman | R^2 of the fit, held out | of the attribution |\n|---|---|---|---|---|---|")
    for row in rows:
        figures = (row.pearson, row.spearman, row.held_out, row.claimed_held_out)
        print(f"| {options.concept} | {1 - row.delta:g} | {' | '.join(f'{figure:.3f}' for figure in figures)} |")
    if options.json is not None:
        found = {
            **{key: value for key, value in vars(options).items() if key not in ("json", "delta")},
            "rows": [asdict(row) for row in rows],
        }
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
