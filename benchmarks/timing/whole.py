"""A whole attribution as the method paper makes it by default, and the reference's, on the sandbox: cost and agreement."""

from __future__ import annotations

import time
from typing import Any

import torch
from torch import Tensor

from benchmarks.agreement import Agreement
from benchmarks.full_size import PeakMemory
from benchmarks.timing.reference import reference_predictions, reference_scores
from cad_engine.checkpoints.denoiser import DiffusersDenoiser
from cad_engine.checkpoints.load import load_model
from cad_engine.concept import attribute_concept
from cad_engine.concept_settings import ConceptSettings
from cad_engine.cost import BACKWARD, evaluations
from cad_engine.method import chosen

CONCEPT, BATCH = "a star", 20


def default_settings(concept: str, batch: int = BATCH, **changed: Any) -> ConceptSettings:
    """What CAD Attribute takes for the method paper."""
    by_method = chosen("paper", "erase", (), (), 0, ())
    settings: dict[str, Any] = {"components": by_method.components, "steps": by_method.steps, "spacing": by_method.spacing}
    return ConceptSettings(concept, batch=batch, **{**settings, **changed})


def ours(denoiser: DiffusersDenoiser, seed: int) -> dict[str, Tensor]:
    """Scores [out, in] of the feed-forward layers, of which this small model's attributions keep all."""
    attribution, scores = attribute_concept(denoiser, default_settings(CONCEPT, seed=seed)), {}
    for name, layer in attribution.layers.items():
        scores[name] = torch.zeros(layer.out_features * layer.in_features).index_put((layer.index,), layer.score)
        scores[name] = scores[name].reshape(layer.out_features, layer.in_features)
    return scores


def whole_memory(way: str) -> float:
    """GiB beyond the model that a whole attribution takes on the sandbox; to be called in a fresh process."""
    denoiser = load_model("sandbox")
    memory = PeakMemory("cpu")
    if way == "ours":
        ours(denoiser, 0)
    else:
        reference_scores(denoiser, CONCEPT, list(denoiser.layers), 0)
    return memory.gib()


def whole(seeds: int) -> dict[str, Any]:
    """Both on the sandbox by turns, for `seeds` seeds; overlap is of the weights that the paper's rule selects at 1 % with those that a
    many-sample attribution does."""
    denoiser = load_model("sandbox")
    agreement = Agreement(denoiser, CONCEPT, "")
    seconds: dict[str, list[float]] = {"ours": [], "reference": []}
    overlaps: dict[str, list[float]] = {"ours": [], "reference": []}
    for seed in range(seeds):
        for way in seconds:
            began = time.perf_counter()
            first = seed * 1000
            scores = ours(denoiser, first) if way == "ours" else reference_scores(denoiser, CONCEPT, agreement.names, first)
            seconds[way].append(time.perf_counter() - began)
            overlaps[way].append(agreement.of(scores)[0])
    plain, differentiated = reference_predictions()
    reference_evaluations = plain + BACKWARD * differentiated
    made = sum(evaluations(default_settings(CONCEPT)).values())
    took, agree = ({way: float(torch.tensor(values).mean()) for way, values in each.items()} for each in (seconds, overlaps))
    return {
        "evaluations": {"ours": made, "reference": reference_evaluations},
        "evaluation_ratio": round(reference_evaluations / made, 2),
        "seconds": {way: round(value, 2) for way, value in took.items()},
        "wall_ratio": round(took["reference"] / took["ours"], 2),
        "overlap_ours": round(agree["ours"], 3),
        "overlap_reference": round(agree["reference"], 3),
        "seeds": seeds,
    }
