"""What the benchmarks compare with is what it says."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.full_size import random_denoiser
from benchmarks.timing import reference
from benchmarks.timing.least import least_over_floor
from benchmarks.timing.steps import Steps
from cad_engine.attribution import attribution_scores
from cad_engine.checkpoints.load import load_model
from cad_engine.components import choose_layers
from cad_engine.objective import Objective, Target
from cad_engine.trajectory import sample_trajectories

STEPS = 4


def test_the_plain_reference_is_the_attribution_at_its_points(monkeypatch: pytest.MonkeyPatch) -> None:
    denoiser = load_model("sandbox")
    eps, made = denoiser.eps, {False: 0, True: 0}

    def counting(x_t: Tensor, t: int | Tensor, conditioning: Any) -> Tensor:
        made[torch.is_grad_enabled()] += len(x_t)
        return eps(x_t, t, conditioning)

    names = choose_layers(denoiser.layers, ["ff"])
    monkeypatch.setattr(denoiser, "eps", counting)
    plain = reference.reference_scores(denoiser, "a star", names, seed=5, steps=STEPS)
    assert (made[False], made[True]) == reference.reference_predictions(STEPS)
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in denoiser.unet.parameters())

    concept, empty = denoiser.encode_prompt("a star"), denoiser.encode_prompt("")
    sampling = {"trajectories": STEPS, "steps": STEPS, "cfg": reference.CFG, "seed": 5, "spacing": "leading"}
    points, _ = sample_trajectories(denoiser, concept, empty, **sampling)
    # Of the point number i, picture number i.
    targets = [
        Target(point.t, point.x_t[i : i + 1], point.eps_uncond[i : i + 1]) for i, point in enumerate(points) if point.eps_uncond is not None
    ]
    ours, _ = attribution_scores(denoiser, Objective("erase", concept, targets), names)
    for name in names:
        torch.testing.assert_close(plain[name], ours[name], rtol=1e-3, atol=1e-5 * float(ours[name].abs().max()))


@pytest.mark.slow
def test_a_step_makes_no_more_operations_than_it_must() -> None:
    steps = Steps(random_denoiser("sd1", "cpu", torch.float32), latent=8)
    made = {}
    for way in ("floor", "ours"):
        with FlopCounterMode(display=False) as counted:
            steps.way(way)()
        made[way] = counted.get_total_flops()
    assert made["ours"] > 1.05 * made["floor"]
    assert made["ours"] / made["floor"] == pytest.approx(least_over_floor("sd1", latent=8), rel=1e-3)
