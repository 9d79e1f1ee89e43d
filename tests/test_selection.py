"""Selection rules against the rules written out naively."""

from __future__ import annotations

import math

import pytest
import torch

from cad_engine.attribution import Attribution, reduce_scores
from cad_engine.erasure import edit_from_attribution, layer_shapes, random_control
from cad_engine.errors import CadError
from cad_engine.selection import select

SHAPES = {"a.ff.weight": (40, 300), "b.ff.weight": (25, 1000), "c.ff.weight": (7, 64)}


def dense_scores(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) ** 3 for name, shape in SHAPES.items()}


def reduced(objective: str = "erase", keep_ratio: float | None = None, scores=None) -> Attribution:
    scores = scores or dense_scores()
    mass = {name: torch.zeros(2, 2) for name in scores}
    return reduce_scores(scores, mass, [999, 499], {"objective": objective}, keep_ratio)


def naive_row(scores: dict[str, torch.Tensor], ratio: float, sign: int, at_least: int) -> dict[str, set[int]]:
    """Paper's reference rule: in each row the k largest of sign * score, k = floor(ratio * in), only those above zero."""
    chosen: dict[str, set[int]] = {}
    for name, score in scores.items():
        columns = score.shape[1]
        k = max(at_least, math.floor(ratio * columns + 1e-9))
        taken = set()
        for row in range(score.shape[0]):
            values = [(float(sign * score[row, column]), column) for column in range(columns)]
            best = sorted(values, key=lambda pair: -pair[0])[:k]
            taken |= {row * columns + column for value, column in best if value > 0}
        if taken:
            chosen[name] = taken
    return chosen


def as_sets(positions: dict[str, torch.Tensor]) -> dict[str, set[int]]:
    assert all(bool((index.diff() > 0).all()) for index in positions.values())
    return {name: set(index.tolist()) for name, index in positions.items()}


@pytest.mark.parametrize("keep_ratio", [1.0, 0.05])
@pytest.mark.parametrize("ratio", [0.0005, 0.001, 0.0033, 0.01, 0.05])
@pytest.mark.parametrize(("objective", "sign"), [("erase", 1), ("amplify", -1)])
def test_row_rules_equal_the_naive_rule(objective: str, sign: int, ratio: float, keep_ratio: float) -> None:
    attribution = reduced(objective, keep_ratio)
    assert as_sets(select(attribution, ratio, "row")) == naive_row(dense_scores(), ratio, sign, at_least=0)
    assert as_sets(select(attribution, ratio, "row_min1")) == naive_row(dense_scores(), ratio, sign, at_least=1)


def test_rows_too_short_for_one_weight_lose_none() -> None:
    chosen = select(reduced(), 0.001, "row")
    assert set(chosen) == {"b.ff.weight"}  # rows of 1000; 300 and 64 are too short for floor(0.001 * in) >= 1
    assert len(chosen["b.ff.weight"]) == 25
    assert set(select(reduced(), 0.001, "row_min1")) == set(SHAPES)


@pytest.mark.parametrize("keep_ratio", [1.0, 0.05])
@pytest.mark.parametrize("ratio", [0.001, 0.01, 0.05])
@pytest.mark.parametrize("sign", [1, -1])
def test_layer_and_global_equal_the_naive_rules(sign: int, ratio: float, keep_ratio: float) -> None:
    attribution = reduced("erase" if sign > 0 else "amplify", keep_ratio)
    scores = {name: sign * score.flatten() for name, score in dense_scores().items()}
    by_layer = {
        name: set(score.argsort(descending=True)[: math.floor(ratio * len(score) + 1e-9)].tolist()) for name, score in scores.items()
    }
    assert as_sets(select(attribution, ratio, "layer")) == {name: taken for name, taken in by_layer.items() if taken}
    ranked = sorted(((float(v), name, i) for name, score in scores.items() for i, v in enumerate(score)), reverse=True)
    count = math.floor(ratio * len(ranked) + 1e-9)
    overall: dict[str, set[int]] = {}
    for _, name, i in ranked[:count]:
        overall.setdefault(name, set()).add(i)
    assert as_sets(select(attribution, ratio, "global")) == overall


def test_only_the_right_sign_is_taken() -> None:
    scores = {"a.ff.weight": torch.tensor([[1.0, -2.0, 0.0, -3.0], [-1.0, -1.0, -1.0, -5.0]])}
    assert as_sets(select(reduced("erase", scores=scores), 1.0, "row")) == {"a.ff.weight": {0}}
    assert as_sets(select(reduced("amplify", scores=scores), 0.5, "row")) == {"a.ff.weight": {1, 3, 4, 7}}


def test_layers_can_be_chosen() -> None:
    chosen = select(reduced(), 0.01, "row", layers=["a.ff.weight"])
    assert set(chosen) == {"a.ff.weight"}
    with pytest.raises(CadError, match="is not in this attribution"):
        select(reduced(), 0.01, "row", layers=["z"])


@pytest.mark.parametrize("ratio", [0.0, -0.1, 1.5, float("nan")])
def test_a_ratio_outside_the_range_is_refused(ratio: float) -> None:
    with pytest.raises(CadError, match=r"ratio must be in \(0, 1\], got"):
        select(reduced(), ratio)


def test_a_ratio_beyond_what_is_kept_is_refused_not_guessed() -> None:
    with pytest.raises(CadError, match=r"above 0\.01"):
        select(reduced(keep_ratio=0.01), 0.02)


def test_a_global_choice_of_few_layers_is_exact_or_refused() -> None:
    scores = dense_scores()
    scores["a.ff.weight"] = scores["a.ff.weight"].abs() * 1000  # all of the model's strongest
    attribution = reduced(keep_ratio=0.02, scores=scores)
    count = math.floor(0.02 * 25 * 1000)
    exact = set(scores["b.ff.weight"].flatten().argsort(descending=True)[:count].tolist())
    assert as_sets(select(attribution, 0.02, "global", layers=["b.ff.weight"])) == {"b.ff.weight": exact}


def test_an_edit_that_takes_nothing_says_so() -> None:
    with pytest.raises(CadError, match="takes no weight"):
        edit_from_attribution(reduced(), 0.0001, "row")


def test_the_random_control_takes_as_many_weights_of_each_layer() -> None:
    attribution = reduced()
    edit = edit_from_attribution(attribution, 0.01, "row")
    control = random_control(edit, layer_shapes(attribution), seed=1)
    assert {name: len(layer.index) for name, layer in control.layers.items()} == {
        name: len(layer.index) for name, layer in edit.layers.items()
    }
    assert all(bool((layer.index.diff() > 0).all()) for layer in control.layers.values())
