"""The linear check against plain autograd in float64: what first and second order of the change of J are."""

from __future__ import annotations

import math

import pytest
import torch
from torch.func import functional_call, jvp

from cad_engine.attribution import attribution_scores
from cad_engine.edit import Edit, LayerEdit, applied
from cad_engine.erasure import distinct_positions
from cad_engine.linear_check import (
    HALFWAY,
    PREDICTIONS,
    Fit,
    FromHalfway,
    first_order,
    linear_check,
    random_ablation,
    random_part,
    second_order,
    slopes,
)
from cad_engine.objective import Kind, Objective, Target
from tests.tiny_models import assert_unchanged, conditioning, snapshot, tiny_denoiser, weights

SCALE = 3.0
"""Factors of the edit under test lie between 1 - SCALE / 2 and 1 + SCALE / 2: weights shrink, grow and turn round."""


def objective_of(denoiser, kind: Kind = "erase") -> Objective:
    generator = torch.Generator().manual_seed(1)
    shape = (3, *denoiser.latent_shape)
    # Targets far from the model's own output: J has a slope, as for a concept that the model draws.
    targets = [Target(t, torch.randn(shape, generator=generator), torch.randn(shape, generator=generator).double()) for t in (800, 300)]
    return Objective(kind, conditioning("sd1", 1), targets)


def some_edit(denoiser, count: int = 400) -> Edit:
    generator = torch.Generator().manual_seed(5)
    layers = {}
    for name, weight in weights(denoiser).items():
        if ".ff." in name or ".attn2." in name:
            index = distinct_positions(weight.numel(), count, generator)
            layers[name] = LayerEdit(*weight.shape, index, 1 + SCALE * (torch.rand(count, generator=generator) - 0.5))
    return Edit(layers)


@pytest.mark.parametrize("kind", ["erase", "amplify"])
@pytest.mark.parametrize("family", ["sd1", "sd2"])
def test_both_orders_are_those_of_autograd(kind: Kind, family: str) -> None:
    denoiser = tiny_denoiser(family)
    objective = objective_of(denoiser, kind)
    edit, model = some_edit(denoiser), weights(denoiser)
    before = snapshot(denoiser)
    scores, _ = attribution_scores(denoiser, objective, list(edit.layers))
    first = first_order(scores, edit)
    straight, bent = second_order(denoiser, objective, edit, model)
    assert_unchanged(denoiser, before)

    # The same by forward differentiation of the plain UNet along the direction w_i D_i.
    names = {id(module.weight): name for name, module in denoiser.layers.items()}
    own = {key: names[id(p)] for key, p in denoiser.unet.named_parameters() if id(p) in names and names[id(p)] in edit.layers}
    primal = {key: model[name].detach() for key, name in own.items()}
    along = {key: torch.zeros_like(value).flatten() for key, value in primal.items()}
    for key, name in own.items():
        layer = edit.layers[name]
        along[key][layer.index] = primal[key].flatten()[layer.index] * (layer.factors(1.0).double() - 1)
    along = {key: value.view_as(primal[key]) for key, value in along.items()}
    r_u, u_u, r_v, samples = 0.0, 0.0, 0.0, 0
    unet = denoiser.unet
    for target in objective.targets:

        def eps(changed: dict[str, torch.Tensor], target: Target = target) -> torch.Tensor:
            denoiser.unet = lambda *a, **k: functional_call(unet, changed, a, k)
            denoiser.unet.dtype, denoiser.unet.config = unet.dtype, unet.config
            try:
                return denoiser.eps(target.x_t, target.t, objective.conditioning)
            finally:
                denoiser.unet = unet

        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):  # the only one with a forward derivative
            ((value, u), (_, v)) = jvp(lambda changed: jvp(eps, (changed,), (along,)), (primal,), (along,))
        r = value - target.eps
        r_u += float((2 * r * u).flatten(1).mean(dim=1).sum())
        u_u += float(u.square().flatten(1).mean(dim=1).sum())
        r_v += float((r * v).flatten(1).mean(dim=1).sum())
        samples += len(r)
    assert first == pytest.approx(objective.sign * r_u / samples, rel=1e-6)  # factors are float32
    assert straight == pytest.approx(objective.sign * u_u / samples, rel=5e-3)  # difference quotients
    assert bent == pytest.approx(objective.sign * r_v / samples, rel=3e-2)


def test_slopes_are_those_of_autograd_at_the_edited_model() -> None:
    denoiser = tiny_denoiser()
    objective = objective_of(denoiser)
    edit, model = some_edit(denoiser), weights(denoiser)
    name = next(iter(edit.layers))
    edit.layers[name].factor[:5] = -1  # at strength 1/2 such a weight is zero, and has a slope all the same
    before = snapshot(denoiser)
    found = slopes(denoiser, objective, edit, 0.5)
    assert_unchanged(denoiser, before)
    layer, own = edit.layers[name], model[name].clone()
    with applied(edit, model, 0.5):
        model[name].requires_grad_(True)
        errors = [(denoiser.eps(x.x_t, x.t, objective.conditioning) - x.eps).square().flatten() for x in objective.targets]
        (gradient,) = torch.autograd.grad(torch.cat(errors).mean(), model[name])
        model[name].requires_grad_(False)
    expected = (own * gradient).flatten()[layer.index] * (layer.factors(1.0).double() - 1)
    torch.testing.assert_close(found[name], expected, rtol=1e-6, atol=1e-12)

    start = objective.value(denoiser)
    halfway = FromHalfway(denoiser, objective, edit, model, start)
    with applied(edit, model, 0.5):
        middle = objective.value(denoiser) - start
    whole = sum(float(slope.sum()) for slope in found.values())
    assert halfway(edit) == pytest.approx(middle + whole / 2)
    assert halfway(Edit({})) == pytest.approx(middle - whole / 2)
    part = random_part(edit, 0.3, 0)
    chosen = sum(
        float(found[n][[edit.layers[n].index.tolist().index(i) for i in layer.index.tolist()]].sum()) for n, layer in part.layers.items()
    )
    assert halfway(part) == pytest.approx(middle - whole / 2 + chosen)


def test_the_second_order_is_nearer_to_the_truth() -> None:
    denoiser = tiny_denoiser()
    objective = objective_of(denoiser)
    edit, model = some_edit(denoiser), weights(denoiser)
    before = snapshot(denoiser)
    scores, _ = attribution_scores(denoiser, objective, list(edit.layers))
    check = linear_check(denoiser, objective, scores, model, lambda number: random_part(edit, None, number), whole=edit, sets=12)
    assert_unchanged(denoiser, before)
    assert check.fit("second order").r2 > max(check.fit("first order").r2, check.fit("Gauss-Newton").r2, 0.95)
    assert len(set(check.weights)) > 6
    part = random_part(edit, None, 3)  # the fourth set
    with applied(part, model):
        assert check.true[3] == pytest.approx(objective.value(denoiser, batch=16) - check.objective_before)
    first, (straight, bent) = first_order(scores, part), second_order(denoiser, objective, part, model)
    assert tuple(check.predicted) == (*PREDICTIONS, HALFWAY)
    predicted = [check.predicted[name][3] for name in PREDICTIONS]
    assert predicted == pytest.approx([first, first + straight, first + straight + bent])
    assert check.predicted[HALFWAY][3] == pytest.approx(FromHalfway(denoiser, objective, edit, model, check.objective_before)(part))


def test_small_random_ablations_are_predicted() -> None:
    denoiser = tiny_denoiser()
    objective = objective_of(denoiser)
    chosen = {name: weight for name, weight in weights(denoiser).items() if ".ff." in name}
    shapes = {name: tuple(weight.shape) for name, weight in chosen.items()}
    scores, _ = attribution_scores(denoiser, objective, list(chosen))
    check = linear_check(denoiser, objective, scores, chosen, lambda number: random_ablation(shapes, 0.002, number), sets=12)
    assert check.fit("first order").pearson > 0.95
    assert check.weights == [int(0.002 * sum(weight.numel() for weight in chosen.values()))] * 12
    edit = random_ablation(shapes, 0.002, 3)
    by_hand = -sum(float(scores[name].flatten()[i]) for name, layer in edit.layers.items() for i in layer.index.tolist())
    assert check.predicted["first order"][3] == pytest.approx(by_hand)


def test_parts_are_of_the_edit_and_of_the_size_asked_for() -> None:
    edit = Edit({"a": LayerEdit(4, 6, torch.tensor([1, 8, 9]), torch.tensor([0.0, 2.0, 0.5])), "b": LayerEdit(2, 2, torch.tensor([0, 3]))})
    seen: set[tuple[str, int]] = set()
    for seed in range(30):
        half = random_part(edit, 0.6, seed)
        assert len(half) == 3
        for name, layer in half.layers.items():
            whole = dict(zip(edit.layers[name].index.tolist(), edit.layers[name].factors(1.0).tolist(), strict=True))
            assert [whole[i] for i in layer.index.tolist()] == layer.factors(1.0).tolist()
            seen |= {(name, i) for i in layer.index.tolist()}
    assert seen == {("a", 1), ("a", 8), ("a", 9), ("b", 0), ("b", 3)}
    assert {len(random_part(edit, None, seed)) for seed in range(60)} == {1, 2, 3, 4, 5}
    assert len(random_part(edit, 0.001, 0)) == 1


def test_fit() -> None:
    assert Fit.of([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == Fit(pytest.approx(1), pytest.approx(1))
    off = Fit.of([2.0, 4.0, 6.0], [1.0, 2.0, 3.0])  # right but for scale: the correlation does not see it
    assert off == Fit(pytest.approx(1), pytest.approx(1 - 14 / 2))
    assert math.isnan(Fit.of([1.0, 1.0], [1.0, 2.0]).pearson)
