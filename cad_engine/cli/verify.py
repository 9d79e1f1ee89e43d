"""cad verify: does the linear approximation hold on this model (paper, figure 1)?"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated

import typer

from .common import Device, DType, Height, Json, Lora, Model, Prediction, Seed, Width, latent_size, load, progress_bar, show


def verify(
    model: Model,
    concept: Annotated[str, typer.Option(help="The concept whose objective is checked.")],
    base: Annotated[str, typer.Option(help="The base prompt.")] = "",
    ratio: Annotated[float, typer.Option(help="Part of the weights in each random ablation.")] = 0.001,
    sets: Annotated[int, typer.Option(help="Number of random ablations; the paper uses 1000.")] = 100,
    components: Annotated[str, typer.Option(help="As for cad attribute.")] = "ff",
    trajectories: Annotated[int, typer.Option(help="As for cad attribute.")] = 4,
    steps: Annotated[int, typer.Option(help="As for cad attribute.")] = 5,
    seed: Seed = 0,
    width: Width = None,
    height: Height = None,
    batch: Annotated[int, typer.Option(help="Samples computed together.")] = 4,
    device: Device = "cpu",
    dtype: DType = "float32",
    prediction: Prediction = "auto",
    lora: Lora = [],  # noqa: B006
    json: Json = False,
) -> None:
    """Correlate predicted and true change of the objective over random ablations of MODEL's weights."""
    from ..attribution import attribution_scores
    from ..components import choose_layers
    from ..concept import ConceptSettings, concept_objective
    from ..errors import CadError
    from ..linear_check import linear_check
    from ..selection import check_ratio

    check_ratio(ratio)
    if sets < 2:
        raise CadError(f"--sets must be at least 2, got {sets}: a correlation needs two points")
    groups = tuple(part.strip() for part in components.split(",") if part.strip())
    settings = ConceptSettings(concept, base, components=groups, trajectories=trajectories, steps=steps, seed=seed, batch=batch)
    settings.check()
    denoiser = load(model, device, dtype, prediction, lora)
    settings = replace(settings, size=latent_size(denoiser, height, width))
    names = choose_layers(denoiser.layers, groups)
    with progress_bar() as progress:
        objective = concept_objective(denoiser, settings, progress=progress)
        scores, _ = attribution_scores(denoiser, objective, names, batch=batch, progress=progress)
        weights = {name: denoiser.layers[name].weight for name in names}
        check = linear_check(denoiser, objective, scores, weights, ratio=ratio, sets=sets, seed=seed, batch=batch, progress=progress)
    result = {
        "concept": concept,
        "pearson": check.pearson if math.isfinite(check.pearson) else None,
        "sets": sets,
        "weights_in_each": check.weights_ablated,
        "objective_before": check.objective_before,
        "predicted": check.predicted,
        "true": check.true,
    }
    text = (
        f"Pearson {check.pearson:.3f} between predicted and true change of the objective, over {sets} random ablations of "
        f"{check.weights_ablated:,} weights each (J before: {check.objective_before:.4g})"
    )
    show(result, json, text)
