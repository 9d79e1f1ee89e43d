"""Edits on real UNets: applied, combined, restored to the bit."""

from __future__ import annotations

import pytest
import torch

from cad_engine.edit import Edit, LayerEdit, ablation, applied, combine, edited_weight
from cad_engine.errors import CadError
from tests.tiny_models import assert_unchanged, conditioning, snapshot, tiny_denoiser, weights


def some_edit(shapes: dict[str, tuple[int, int]], seed: int = 0, count: int = 20) -> Edit:
    generator = torch.Generator().manual_seed(seed)
    return ablation({n: torch.randperm(a * b, generator=generator)[:count].sort().values for n, (a, b) in shapes.items()}, shapes, {})


@pytest.fixture(params=[torch.float32, torch.float16, torch.bfloat16, torch.float64])
def denoiser(request):
    return tiny_denoiser(dtype=request.param)


def shapes_of(denoiser) -> dict[str, tuple[int, int]]:
    return {name: tuple(w.shape) for name, w in weights(denoiser).items() if ".ff." in name}


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0, 1.7])
def test_apply_and_restore(denoiser, strength: float) -> None:
    before = snapshot(denoiser)
    model = weights(denoiser)
    edit = some_edit(shapes_of(denoiser))
    originals = {name: model[name].clone() for name in edit.layers}
    with applied(edit, model, strength):
        for name, layer in edit.layers.items():
            now, was = model[name].flatten(), originals[name].flatten()
            touched = torch.zeros(len(was), dtype=torch.bool)
            touched[layer.index] = True
            assert torch.equal(now[~touched], was[~touched])
            torch.testing.assert_close(now[touched], was[touched] * (1 - strength))
            assert torch.equal(model[name], edited_weight(originals[name], layer, strength))
            if strength == 1:
                assert not now[touched].any()
    assert_unchanged(denoiser, before)


def test_restored_after_an_exception(denoiser) -> None:
    before = snapshot(denoiser)
    with pytest.raises(KeyboardInterrupt), applied(some_edit(shapes_of(denoiser)), weights(denoiser)):
        raise KeyboardInterrupt
    assert_unchanged(denoiser, before)


def test_inference_tensors_and_odd_strides_can_be_edited() -> None:
    edit = Edit({"a": LayerEdit(4, 6, torch.tensor([1, 8]))})
    with torch.inference_mode():
        frozen = torch.randn(4, 6)
    for weight in (frozen, torch.randn(6, 4).T, torch.randn(8, 12)[::2, ::2]):
        before = weight.clone()
        with applied(edit, {"a": weight}):
            assert weight[0, 1] == weight[1, 2] == 0
            assert int((weight == 0).sum()) == 2
        assert torch.equal(weight, before)


def test_an_edit_changes_the_prediction_and_its_end_brings_it_back() -> None:
    denoiser = tiny_denoiser()
    x_t, cond = torch.randn(1, *denoiser.latent_shape), conditioning("sd1", 1)
    eps = denoiser.eps(x_t, 500, cond)
    with applied(some_edit(shapes_of(denoiser), count=300), weights(denoiser)):
        assert not torch.equal(denoiser.eps(x_t, 500, cond), eps)
    assert torch.equal(denoiser.eps(x_t, 500, cond), eps)


def test_combined_edits_equal_one_after_the_other() -> None:
    denoiser = tiny_denoiser()
    shapes = shapes_of(denoiser)
    one, two = some_edit(shapes, 1, 400), some_edit(shapes, 2, 400)
    both = combine([(one, 1.0), (two, 0.5)])
    model = weights(denoiser)
    before = snapshot(denoiser)
    with applied(one, model), applied(two, model, 0.5):
        expected = {name: model[name].clone() for name in shapes}
    with applied(both, model):
        for name in shapes:
            torch.testing.assert_close(model[name], expected[name])
    assert_unchanged(denoiser, before)
    assert len(combine([(one, 1.0), (one, 1.0)])) == len(one)


def test_an_edit_for_another_architecture_changes_nothing() -> None:
    denoiser = tiny_denoiser("sd1")
    before = snapshot(denoiser)
    shapes = shapes_of(denoiser)
    name = next(iter(shapes))
    for wrong, message in (
        (Edit({**some_edit(shapes).layers, "diffusion_model.nowhere.weight": LayerEdit(4, 4, torch.tensor([1]))}), "no layer"),
        (Edit({**some_edit(shapes).layers, name: LayerEdit(3, 5, torch.tensor([1]))}), "in the model and"),
    ):
        with pytest.raises(CadError, match=message), applied(wrong, weights(denoiser)):
            pass
        assert_unchanged(denoiser, before)
