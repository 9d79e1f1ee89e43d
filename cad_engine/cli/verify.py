"""cad verify: do first and second order hold on this model (paper, figure 1), and for the weights that an edit changes?"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import Device, Height, Json, Lora, Model, Prediction, Seed, Width, latent_size, load, progress_bar, show, warn

if TYPE_CHECKING:
    from ..edit import Edit
    from ..linear_check import LinearCheck

RATIO, COMPONENTS = 0.001, "ff"


def verify(
    model: Model,
    concept: Annotated[str, typer.Option(help="The concept whose objective is checked.")],
    base: Annotated[str, typer.Option(help="The base prompt.")] = "",
    objective: Annotated[str, typer.Option(help="erase (eq. 6) or amplify (eq. 7, on sampled pictures).")] = "erase",
    edit: Annotated[
        Path | None,
        typer.Option(help="Change random parts of this edit, with its factors, and not random weights: halves, and of any size."),
    ] = None,
    ratio: Annotated[
        float | None, typer.Option(help=f"Without --edit: part of the weights in each random ablation; default {RATIO}.")
    ] = None,
    sets: Annotated[int, typer.Option(help="Number of random sets (with --edit of either kind); the paper uses 1000.")] = 100,
    components: Annotated[str | None, typer.Option(help=f"Without --edit: as for cad attribute; default {COMPONENTS}.")] = None,
    trajectories: Annotated[int, typer.Option(help="As for cad attribute.")] = 4,
    steps: Annotated[int, typer.Option(help="As for cad attribute.")] = 5,
    seed: Seed = 0,
    width: Width = None,
    height: Height = None,
    batch: Annotated[int, typer.Option(help="Samples computed together.")] = 4,
    device: Device = "cpu",
    prediction: Prediction = "auto",
    lora: Lora = [],  # noqa: B006
    json: Json = False,
) -> None:
    """Correlate predicted and true change of the objective over random sets of MODEL's weights; computes in float32."""
    from ..attribution import attribution_scores
    from ..components import choose_layers
    from ..concept import concept_objective
    from ..concept_settings import ConceptSettings
    from ..edit import check_fits
    from ..edit_file import load_edit
    from ..errors import CadError
    from ..fingerprint import fingerprint, mismatch
    from ..linear_check import linear_check, random_ablation, random_part
    from ..selection import check_ratio

    if edit is not None and (ratio is not None or components is not None):
        raise CadError("--ratio and --components are for random weights; with --edit the weights are the edit's, so leave them out")
    ratio = RATIO if ratio is None else ratio
    check_ratio(ratio)
    if sets < 2:
        raise CadError(f"--sets must be at least 2, got {sets}: a correlation needs two points")
    groups = tuple(part.strip() for part in (components or COMPONENTS).split(",") if part.strip())
    settings = ConceptSettings(
        concept,
        base,
        objective=objective,  # type: ignore[arg-type]
        components=groups,
        trajectories=trajectories,
        steps=steps,
        seed=seed,
        batch=batch,
    )
    settings.check()
    whole = None if edit is None else load_edit(edit)
    denoiser = load(model, device, "float32", prediction, lora)
    settings = replace(settings, size=latent_size(denoiser, height, width))
    weights = {name: module.weight for name, module in denoiser.layers.items()}
    if whole is None:
        names = choose_layers(denoiser.layers, groups)
        shapes = {name: (weights[name].shape[0], weights[name].shape[1]) for name in names}
        kinds: dict[str, Callable[[int], Edit]] = {"random ablations": lambda number: random_ablation(shapes, ratio, seed + number)}
    else:
        names = list(whole.layers)
        check_fits(whole, {name: tuple(weight.shape) for name, weight in weights.items()})
        if warning := mismatch(whole.info, fingerprint(denoiser)):
            warn(f"{edit} was {warning}")
        kinds = {
            "halves of the edit": lambda number: random_part(whole, 0.5, seed + number),
            "parts of any size": lambda number: random_part(whole, None, seed + number),
        }
    with progress_bar() as progress:
        measured = concept_objective(denoiser, settings, progress=progress)
        scores, _ = attribution_scores(denoiser, measured, names, batch=batch, progress=progress)
        checks = {
            kind: linear_check(denoiser, measured, scores, weights, make, whole=whole, sets=sets, batch=batch, progress=progress)
            for kind, make in kinds.items()
        }
    described = {kind: _described(check) for kind, check in checks.items()}
    result = {"concept": concept, "objective": objective, "sets": sets, "checks": described}
    show(result, json, "\n".join(_lines(kind, check) for kind, check in checks.items()))


def _described(check: LinearCheck) -> dict[str, Any]:
    predictions = {}
    for name, predicted in check.predicted.items():
        fit = check.fit(name)
        numbers = {"pearson": fit.pearson, "r2": fit.r2}
        found = {key: number if math.isfinite(number) else None for key, number in numbers.items()}
        predictions[name] = {**found, "predicted": predicted}
    return {"predictions": predictions, "true": check.true, "weights": check.weights, "objective_before": check.objective_before}


def _lines(kind: str, check: LinearCheck) -> str:
    least, most = min(check.weights), max(check.weights)
    size = f"{most:,}" if least == most else f"{least:,} to {most:,}"
    lines = [f"{len(check.true)} {kind}, {size} weights each, J before {check.objective_before:.4g}"]
    for name in check.predicted:
        fit = check.fit(name)
        lines.append(f"  {name:<12}  Pearson {fit.pearson:6.3f}  R2 {fit.r2:8.3f}")
    return "\n".join(lines)
