"""The linear check against the definition: what J loses when weights are set to zero."""

from __future__ import annotations

import pytest
import torch

from cad_engine.attribution import attribution_scores
from cad_engine.components import choose_layers
from cad_engine.edit import applied
from cad_engine.linear_check import linear_check, predicted_change, random_sets
from cad_engine.objective import Objective, Target
from tests.tiny_models import assert_unchanged, conditioning, snapshot, tiny_denoiser, weights


def test_small_random_ablations_are_predicted() -> None:
    denoiser = tiny_denoiser()
    generator = torch.Generator().manual_seed(1)
    shape = (4, *denoiser.latent_shape)
    # Targets far from the model's own output: J has a slope, as for a concept that the model draws.
    targets = [Target(t, torch.randn(shape, generator=generator), torch.randn(shape, generator=generator).double()) for t in (800, 300)]
    objective = Objective("erase", conditioning("sd1", 1), targets)
    names = choose_layers(denoiser.layers, ["ff"])
    before = snapshot(denoiser)
    scores, _ = attribution_scores(denoiser, objective, names)
    chosen = {name: weights(denoiser)[name] for name in names}
    check = linear_check(denoiser, objective, scores, chosen, ratio=0.002, sets=12)
    assert_unchanged(denoiser, before)
    assert check.pearson > 0.95
    total = sum(weight.numel() for weight in chosen.values())
    assert check.weights_ablated == int(0.002 * total)

    edit = random_sets({name: tuple(weight.shape) for name, weight in chosen.items()}, 0.002, seed=3)  # the fourth set
    by_hand = -sum(float(scores[name].flatten()[i]) for name, layer in edit.layers.items() for i in layer.index.tolist())
    assert predicted_change(scores, edit) == pytest.approx(by_hand)
    assert check.predicted[3] == pytest.approx(by_hand)
    with applied(edit, chosen):
        assert check.true[3] == pytest.approx(objective.value(denoiser) - check.objective_before)
