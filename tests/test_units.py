"""Neurons, heads and layers: their sums against autograd, taking them out against hooks, files that damage them, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers.models.attention import FeedForward
from diffusers.models.attention_processor import Attention as AttentionModule
from torch import Tensor, nn

from cad_engine.attribution import Attribution, attribute, attribution_scores, reduce_scores
from cad_engine.attribution_file import load_attribution, save_attribution
from cad_engine.checkpoints.denoiser import DiffusersDenoiser
from cad_engine.checkpoints.load import load_model
from cad_engine.components import choose_layers
from cad_engine.edit import ablation, applied
from cad_engine.edit_file import load_edit
from cad_engine.erasure import edit_from_attribution, layer_shapes
from cad_engine.errors import CadError
from cad_engine.layer_choice import choose
from cad_engine.objective import Objective, Target
from cad_engine.selection import attributed_units, select_units
from cad_engine.units import head_counts, unit_positions
from tests.test_cli import run
from tests.test_files import rewrite
from tests.tiny_models import FAMILIES, conditioning, tiny_denoiser, weights

BLOCK = "diffusion_model.middle_block.1.transformer_blocks.0"
FF, FF_IN, OUT, TO_V = (f"{BLOCK}.{part}.weight" for part in ("ff.net.2", "ff.net.0.proj", "attn1.to_out.0", "attn1.to_v"))


@cache
def measured(family: str) -> tuple[DiffusersDenoiser, Objective, dict[str, Tensor], Attribution]:
    """A tiny float64 model, J on fixed points, dense scores of all linear layers, and their attribution."""
    denoiser = tiny_denoiser(family)
    generator = torch.Generator().manual_seed(1)
    shape = (2, *denoiser.latent_shape)
    targets = [Target(t, torch.randn(shape, generator=generator), torch.randn(shape, generator=generator).double()) for t in (800, 300)]
    objective = Objective("erase", conditioning(family, 1), targets)
    names = choose_layers(denoiser.layers, ["ff", "attention"])
    scores, _ = attribution_scores(denoiser, objective, names)
    return (
        denoiser,
        objective,
        scores,
        attribute(denoiser, objective, names, info={"objective": "erase"}),
    )


@contextmanager
def multiplied(module: nn.Module, gate: Tensor) -> Iterator[None]:
    """The output of `module` times `gate`, by a forward hook."""
    handle = module.register_forward_hook(lambda _module, _inputs, output: output * gate)
    try:
        yield
    finally:
        handle.remove()


def places(denoiser: DiffusersDenoiser) -> Iterator[tuple[str, str, nn.Module, int, int]]:
    """(kind, layer that holds the units, module whose outputs they are made of, how many, how wide each is).

    A head is silent when its values are: attention weights times zeros are zeros.
    """
    names = {id(module): name for name, module in denoiser.layers.items()}
    for module in denoiser.unet.modules():
        if isinstance(module, FeedForward):
            yield "neuron", names[id(module.net[2])], module.net[0], module.net[2].in_features, 1
        elif isinstance(module, AttentionModule):
            yield "head", names[id(module.to_out[0])], module.to_v, module.heads, module.to_v.out_features // module.heads


def gate(count: int, width: int, removed: int | None = None) -> Tensor:
    gates = torch.ones(count, dtype=torch.float64)
    if removed is not None:
        gates[removed] = 0
    return gates.repeat_interleave(width)


@pytest.mark.parametrize("family", FAMILIES)
def test_taking_a_unit_out_is_zeroing_its_weights(family: str) -> None:
    denoiser, objective, _, attribution = measured(family)
    before, seen = objective.value(denoiser), set()
    for kind, name, module, count, width in places(denoiser):
        removed = count // 2
        with multiplied(module, gate(count, width, removed)):
            hooked = objective.value(denoiser)
        positions = unit_positions(attribution.layers[name], kind, torch.tensor([removed]))
        with applied(ablation({name: positions}, layer_shapes(attribution), {}), weights(denoiser)):
            edited = objective.value(denoiser)
        assert edited == pytest.approx(hooked, rel=1e-12), name
        assert abs(edited - before) > 1e-9 * before, name
        seen.add(name)
    assert seen == {name for name in attribution.layers if attribution.layers[name].column_sum is not None}


@pytest.mark.parametrize("family", FAMILIES)
def test_sums_are_the_derivative_by_a_units_strength(family: str) -> None:
    """dJ/ds where the unit's output is multiplied by s = 1, by plain autograd: the first order of what J loses at s = 0."""
    denoiser, objective, scores, attribution = measured(family)
    sums = {"neuron": attributed_units(attribution, "neuron"), "head": attributed_units(attribution, "head")}
    found: dict[str, set[str]] = {"neuron": set(), "head": set()}
    for kind, name, module, count, width in places(denoiser):
        strength = torch.ones(count, dtype=torch.float64, requires_grad=True)
        with multiplied(module, strength.repeat_interleave(width)):
            losses = [
                (denoiser.eps(x_t, target.t, objective.conditioning) - eps).square().mean()
                for target in objective.targets
                for x_t, eps in zip(target.x_t.split(1), target.eps.split(1), strict=True)
            ]
            (expected,) = torch.autograd.grad(torch.stack(losses).mean(), strength)
        assert sums[kind][name] == pytest.approx(expected, rel=1e-5, abs=1e-6 * float(expected.abs().max())), name
        assert len(expected) == count
        found[kind].add(name)
    assert {kind: set(by_layer) for kind, by_layer in sums.items()} == found
    layers = attributed_units(attribution, "layer")
    assert layers.keys() == scores.keys()
    for name, score in scores.items():
        assert float(layers[name]) == pytest.approx(float(score.sum()), abs=1e-6 * float(score.abs().sum()))


def test_heads_are_counted_in_the_model() -> None:
    denoiser = tiny_denoiser("sdxl")
    counts = head_counts(denoiser.unet, denoiser.layers)
    assert set(counts) == {name for name in denoiser.layers if name.endswith(".to_out.0.weight")}
    assert set(counts.values()) == {4}
    sandbox = load_model("sandbox")
    assert set(head_counts(sandbox.unet, sandbox.layers).values()) == {4}
    assert len(head_counts(sandbox.unet, sandbox.layers)) == 22


SHAPES = {FF: (6, 40), f"{FF.replace('middle', 'x')}": (6, 10), OUT: (8, 12), TO_V: (12, 8)}


def reduced(objective: str = "erase", keep_ratio: float = 1.0, **info: object) -> Attribution:
    generator = torch.Generator().manual_seed(0)
    scores = {name: torch.randn(shape, generator=generator) ** 3 for name, shape in SHAPES.items()}
    mass = {name: torch.zeros(2, 2) for name in scores}
    return reduce_scores(scores, mass, [999, 499], {"objective": objective, **info}, keep_ratio, heads={OUT: 3})


@pytest.mark.parametrize("keep_ratio", [1.0, 0.05])
@pytest.mark.parametrize("ratio", [0.02, 0.1, 0.5, 1.0])
@pytest.mark.parametrize(("objective", "sign"), [("erase", 1), ("amplify", -1)])
@pytest.mark.parametrize("unit", ["neuron", "head", "layer"])
def test_selection_and_edit_equal_the_naive_rule(unit: str, objective: str, sign: int, ratio: float, keep_ratio: float) -> None:
    generator = torch.Generator().manual_seed(0)
    dense = {name: torch.randn(shape, generator=generator) ** 3 for name, shape in SHAPES.items()}
    attribution = reduced(objective, keep_ratio)
    masks: list[tuple[float, str, int, Tensor]] = []  # (what it is worth, layer, number, its weights)
    for name, score in dense.items():
        columns = torch.arange(score.shape[1]).expand_as(score)
        if unit == "layer":
            units = [torch.ones_like(score, dtype=torch.bool)]
        elif (unit == "neuron") != ("ff.net.2" in name) or name == TO_V:
            continue
        else:
            width = 1 if unit == "neuron" else 4
            units = [columns // width == number for number in range(score.shape[1] // width)]
        masks += [(sign * float(score[mask].double().sum()), name, number, mask) for number, mask in enumerate(units)]
    for rule in ("global", "layer"):
        if (unit, rule) == ("layer", "layer"):
            continue
        groups = [masks] if rule == "global" else [[entry for entry in masks if entry[1] == name] for name in dense]
        taken = []
        for group in groups:
            count = int(ratio * len(group) + 1e-9)
            taken += [entry for entry in sorted(group, key=lambda entry: -entry[0])[:count] if entry[0] > 0]
        if not taken:
            with pytest.raises(CadError, match=r"takes no|there is none to take"):
                edit_from_attribution(attribution, ratio, rule, unit=unit)
            continue
        edit = edit_from_attribution(attribution, ratio, rule, unit=unit)
        expected = {name: torch.zeros(shape, dtype=torch.bool) for name, shape in SHAPES.items()}
        for _, name, _, mask in taken:
            expected[name] |= mask
        assert edit.layers.keys() == {name for name, mask in expected.items() if mask.any()}
        for name, layer in edit.layers.items():
            assert torch.equal(layer.index, expected[name].flatten().nonzero().squeeze(1))
            assert layer.factor is None
        assert (edit.info["unit"], edit.info["units"], edit.info["units_total"]) == (unit, len(taken), len(masks))
        numbers = select_units(attribution, ratio, unit, rule)
        assert {(name, int(n)) for name, chosen in numbers.items() for n in chosen} == {entry[1:3] for entry in taken}


def test_layers_can_be_left_out() -> None:
    attribution = reduced()
    one = edit_from_attribution(attribution, 1.0, "global", layers=[FF], unit="neuron")
    assert set(one.layers) == {FF}
    assert one.info["units_total"] == 40
    chosen = choose(attribution, [FF])
    assert edit_from_attribution(chosen, 1.0, "global", unit="neuron").layers.keys() == one.layers.keys()


def test_weights_know_nothing_of_units() -> None:
    attribution = reduced()
    edit = edit_from_attribution(attribution, 0.1, "global", unit="weight")
    assert not {"unit", "units", "units_total"} & edit.info.keys()


def without_sums(attribution: Attribution) -> Attribution:
    """As a file made before there were units."""
    return replace(attribution, layers={name: replace(layer, column_sum=None, heads=None) for name, layer in attribution.layers.items()})


def without_heads(attribution: Attribution) -> Attribution:
    return replace(attribution, layers={name: replace(layer, heads=None) for name, layer in attribution.layers.items()})


REFUSED: dict[str, tuple[Callable[[], Attribution], dict[str, object], str]] = {
    "row": (reduced, {"rule": "row"}, "selection row has no meaning for the unit neuron; take layer or global"),
    "row_min1": (reduced, {"rule": "row_min1", "unit": "head"}, "selection row_min1 has no meaning for the unit head"),
    "layer of layers": (reduced, {"rule": "layer", "unit": "layer"}, "no meaning for the unit layer; take global"),
    "rule": (reduced, {"rule": "best"}, "selection must be one of row, row_min1, layer, global, got 'best'"),
    "unit": (reduced, {"unit": "block"}, "unit must be one of weight, neuron, head, layer, got 'block'"),
    "ratio": (reduced, {"ratio": 1.5}, "ratio must be in (0, 1], got 1.5"),
    "NaN": (reduced, {"ratio": float("nan")}, "ratio must be in (0, 1]"),
    "no ratio": (reduced, {"ratio": None}, "how many neurons are to be taken? Give a ratio"),
    "too small": (reduced, {"ratio": 0.01}, "takes no neuron: there are 50 and floor(0.01 * 50) is 0; take at least 0.02"),
    "too small in layers": (reduced, {"ratio": 0.02, "rule": "layer"}, "layers have at most 40"),
    "no such layers": (lambda: choose(reduced(), [FF]), {"unit": "head"}, "none of the 1 chosen layers has heads"),
    "an older file": (lambda: without_sums(reduced()), {}, "made before there were units; attribute again"),
    "unknown heads": (lambda: without_heads(reduced()), {"unit": "head"}, "does not know how many heads"),
    "per harm": (lambda: reduced(score="attribution per harm"), {}, "was made with prompts to keep, whose scores do not add up"),
    "rounds": (lambda: reduced(score="effect"), {"unit": "head"}, "sums of the plain attribution, and this one was made in rounds"),
    "another layer": (reduced, {"layers": ["z"]}, "is not in this attribution"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_makes_no_sense_is_refused(case: str) -> None:
    made, changed, message = REFUSED[case]
    arguments = {"ratio": 0.1, "rule": "global", "unit": "neuron", **changed}
    with pytest.raises(CadError) as error:
        edit_from_attribution(made(), **arguments)  # type: ignore[arg-type]
    assert message in str(error.value)


def test_an_older_file_still_has_layers() -> None:
    old = without_sums(reduced())
    assert len(edit_from_attribution(old, 1.0, "global", unit="layer")) > 0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save_attribution(tmp_path / "a.safetensors", reduced())
    return tmp_path / "a.safetensors"


def test_sums_and_heads_survive_the_file(path: Path) -> None:
    attribution, again = reduced(), load_attribution(path)
    for name, layer in attribution.layers.items():
        assert again.layers[name].heads == layer.heads == (3 if name == OUT else None)
        if name == TO_V:
            assert again.layers[name].column_sum is layer.column_sum is None
        else:
            assert torch.equal(again.layers[name].column_sum, layer.column_sum)


def test_an_older_file_is_read(path: Path) -> None:
    save_attribution(path, without_sums(reduced()))
    assert all(layer.column_sum is None for layer in load_attribution(path).layers.values())


DAMAGED = {
    "short": ({"tensors": {f"{FF}:column_sum": torch.zeros(39)}}, "has shape [39], expected [40]"),
    "dtype": ({"tensors": {f"{FF}:column_sum": torch.zeros(40, dtype=torch.float64)}}, "expected torch.float32"),
    "NaN": ({"tensors": {f"{FF}:column_sum": torch.full((40,), float("nan"))}}, "not finite"),
    "missing": ({"drop": f"{FF}:column_sum"}, "must be there in all layers of neurons and heads or in none"),
    "of no unit": ({"tensors": {f"{TO_V}:column_sum": torch.zeros(8)}}, "belongs to no layer"),
    "per harm": ({"metadata": {"info": {"objective": "erase", "score": "attribution per harm"}}}, "in none unless its score is"),
    "heads, a list": ({"metadata": {"heads": [3]}}, "'heads' must be an object"),
    "heads of nothing": ({"metadata": {"heads": {"z\n": 3}}}, "which is no attention's output"),
    "heads of ff": ({"metadata": {"heads": {FF: 4}}}, "which is no attention's output"),
    "no head": ({"metadata": {"heads": {OUT: 0}}}, "0 heads of"),
    "heads that do not divide": ({"metadata": {"heads": {OUT: 5}}}, "cannot share its 12 columns"),
    "more heads than columns": ({"metadata": {"heads": {OUT: 24}}}, "cannot share its 12 columns"),
    "true": ({"metadata": {"heads": {OUT: True}}}, "cannot share its 12 columns"),
    "a text": ({"metadata": {"heads": {OUT: "3" * 1000}}}, "cannot share its 12 columns"),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_is_refused(path: Path, case: str) -> None:
    change, message = DAMAGED[case]
    rewrite(path, **change)  # type: ignore[arg-type]
    with pytest.raises(CadError) as error:
        load_attribution(path)
    assert message in str(error.value)
    assert str(path) in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1000


def test_the_command_takes_heads(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, out = tmp_path / "star.safetensors", tmp_path / "edit.safetensors"
    settings = ["--method", "paper", "--components", "ff,attention", "--trajectories", "1", "--steps", "2"]
    assert run(capsys, "attribute", "sandbox", "--concept", "a star", *settings, "--out", str(found))[0] == 0
    code, text, _ = run(capsys, "erase", "sandbox", str(found), "--unit", "head", "--ratio", "0.05", "--out", str(out), "--json")
    result = json.loads(text)
    assert (code, result["units_taken"], result["units_total"], result["selection"]) == (0, 4, 88, "global")
    edit, expected = load_edit(out), edit_from_attribution(load_attribution(found), 0.05, "global", unit="head")
    assert edit.layers.keys() == expected.layers.keys()
    assert all(torch.equal(layer.index, expected.layers[name].index) for name, layer in edit.layers.items())
    assert edit.info["unit"] == "head"
    code, text, _ = run(capsys, "erase", "sandbox", str(found), "--unit", "neuron", "--ratio", "0.01", "--out", str(out))
    assert code == 0
    assert text.startswith("took 48 of 4,864 neurons: ")
    code, _, error = run(capsys, "erase", "sandbox", str(found), "--unit", "blob", "--ratio", "0.01", "--out", str(out))
    assert (code, error) == (2, "cad: error: unit must be one of weight, neuron, head, layer, got 'blob'\n")
