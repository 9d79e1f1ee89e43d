"""The work that is told beforehand is the work that is done."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from cad_engine.checkpoints.load import load_model
from cad_engine.concept import attribute_concept
from cad_engine.concept_settings import ConceptSettings
from cad_engine.cost import BACKWARD, evaluations

BASE = ConceptSettings("a star", base="a shape", trajectories=3, steps=2, batch=2)


@pytest.mark.parametrize(
    ("changed", "images"),
    [
        ({}, None),
        ({"base": ""}, None),
        ({"base": "", "cfg": 1.0}, None),
        ({"base": "", "prompt": "a photo of a star"}, None),
        ({"prompt": " a star "}, None),
        ({"base": "", "spacing": "centred"}, None),
        ({"cfg": 1.0, "spacing": "centred"}, None),
        ({"keep": ("a heart", "a ring"), "spacing": "centred"}, None),
        ({"keep": ("a heart", "a circle", "a ring")}, None),
        ({"keep": ("a heart",), "steps": 3, "base": ""}, None),
        ({"objective": "amplify"}, None),
        ({"objective": "amplify", "keep": ("a heart", "a ring")}, 5),
    ],
)
def test_evaluations_are_those_that_are_made(monkeypatch: pytest.MonkeyPatch, changed: dict[str, object], images: int | None) -> None:
    settings = dataclasses.replace(BASE, **changed)
    denoiser = load_model("sandbox")
    eps, samples = denoiser.eps, {"forward": 0, "backward": 0}

    def counted(x_t: Tensor, t: int | Tensor, conditioning: object) -> Tensor:
        samples["backward" if torch.is_grad_enabled() else "forward"] += len(x_t)
        return eps(x_t, t, conditioning)

    monkeypatch.setattr(denoiser, "eps", counted)
    latents = None if images is None else torch.randn(images, 4, 8, 8)
    reported: list[str] = []
    attribute_concept(denoiser, settings, latents, lambda stage, done, total: reported.append(stage))
    costs = evaluations(settings, images)
    assert sum(costs.values()) == samples["forward"] + BACKWARD * samples["backward"]
    if len(costs) > 1:
        assert sum(costs[stage] for stage in ("attribution", "harm") if stage in costs) == BACKWARD * samples["backward"]
    assert set(costs) <= set(reported)
    assert [stage for stage in dict.fromkeys(reported) if stage in costs] == list(costs)
