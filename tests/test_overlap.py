"""Overlaps against plain numpy on dense scores."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
import torch

from cad_engine.attribution import Attribution, reduce_scores
from cad_engine.errors import CadError
from cad_engine.layer_choice import choose
from cad_engine.overlap import RATIO, overlap, overlaps, taken_weights
from cad_engine.reduction import LayerScores
from cad_engine.report.overlap_data import overlap_data
from cad_engine.selection import RULES, Rule, select

NAMES = [
    f"diffusion_model.middle_block.1.transformer_blocks.{number}.ff.net.{part}.weight" for number in range(3) for part in ("0.proj", "2")
]
SHAPE = (30, 200)


def dense(seed: int, like: Mapping[str, np.ndarray] | None = None) -> dict[str, np.ndarray]:
    """Scores with heavy tails; with `like`, correlated to those."""
    generator = np.random.default_rng(seed)
    own = {name: generator.standard_normal(SHAPE).astype(np.float32) ** 3 * (number + 1) for number, name in enumerate(NAMES)}
    return own if like is None else {name: own[name] + 0.7 * like[name] for name in NAMES}


def attribution(
    scores: Mapping[str, np.ndarray], objective: str = "erase", concept: str = "star", keep_ratio: float | None = None
) -> Attribution:
    tensors = {name: torch.from_numpy(score) for name, score in scores.items()}
    mass = {name: torch.zeros(2, 2) for name in scores}
    return reduce_scores(tensors, mass, [900, 100], {"objective": objective, "concept": concept}, keep_ratio)


def mask(scores: Mapping[str, np.ndarray], of: Attribution, ratio: float, rule: Rule) -> dict[str, np.ndarray]:
    """What is taken, as truths."""
    taken = {name: np.zeros(SHAPE, bool) for name in scores}
    for name, index in select(of, ratio, rule).items():
        taken[name].reshape(-1)[index.numpy()] = True
    return taken


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("objectives", [("erase", "erase"), ("erase", "amplify"), ("amplify", "erase")])
def test_against_numpy_where_all_scores_are_kept(rule: Rule, objectives: tuple[str, str]) -> None:
    x = dense(1)
    y = dense(2, x)
    a, b = attribution(x, objectives[0]), attribution(y, objectives[1], "ring")
    found = overlaps([a, b], 0.03, rule)[0][1]
    assert found is not None
    taken, other = mask(x, a, 0.03, rule), mask(y, b, 0.03, rule)
    assert found.taken == sum(part.sum() for part in taken.values()) > 100
    assert found.taken_by_other == sum(part.sum() for part in other.values())
    assert found.shared == sum((taken[name] & other[name]).sum() for name in NAMES)
    sign = 1 if objectives[1] == "erase" else -1
    right = {name: np.clip(score * sign, 0, None).astype(np.float64) for name, score in y.items()}
    share = sum(right[name][taken[name]].sum() for name in NAMES) / sum(part.sum() for part in right.values())
    assert found.touched == pytest.approx((share, share), rel=1e-5)
    masses = [
        [np.clip(score[name] * (1 if objective == "erase" else -1), 0, None).sum() for name in NAMES]
        for score, objective in zip((x, y), objectives, strict=True)
    ]
    assert found.mass_correlation == pytest.approx(np.corrcoef(*masses)[0, 1], rel=1e-4)
    flat = [np.concatenate([score[name].reshape(-1) for name in NAMES]).astype(np.float64) for score in (x, y)]
    assert found.score_correlation == pytest.approx(np.corrcoef(*flat)[0, 1], rel=1e-4)
    for name in NAMES:
        layer = found.layers[name]
        assert (layer.taken, layer.shared) == (taken[name].sum(), (taken[name] & other[name]).sum())
        assert layer.touched is not None
        assert layer.touched[0] == pytest.approx(right[name][taken[name]].sum() / right[name].sum(), rel=1e-5)


def test_with_the_strongest_scores_alone_the_truth_lies_between_the_bounds() -> None:
    x = dense(3)
    y = dense(4, x)
    short = [attribution(scores, keep_ratio=0.05, concept=concept) for scores, concept in ((x, "star"), (y, "ring"))]
    found = overlaps(short, 0.05, "global")[0][1]
    assert found is not None
    taken = mask(x, short[0], 0.05, "global")
    right = {name: np.clip(score, 0, None).astype(np.float64) for name, score in y.items()}
    share = sum(right[name][taken[name]].sum() for name in NAMES) / sum(part.sum() for part in right.values())
    assert found.touched is not None
    low, high = found.touched
    assert low - 1e-6 <= share <= high + 1e-6
    assert 0 < low < high < 1
    assert found.score_correlation is None
    assert found.mass_correlation is not None


def solved(attribution: Attribution, positions: Mapping[str, list[int]]) -> Attribution:
    layers = {}
    for name, layer in attribution.layers.items():
        index = torch.tensor(positions.get(name, []), dtype=torch.int64)
        layers[name] = LayerScores(
            *SHAPE, index, torch.ones(len(index)), layer.row_mass, layer.timestep_mass, layer.histogram, 0.0, torch.zeros(len(index))
        )
    return Attribution(layers, attribution.timesteps, 1.0, {**attribution.info, "score": "effect"})


def test_what_rounds_found_is_taken_as_a_whole_and_its_own_mass_is_not_known_by_weight() -> None:
    a = solved(attribution(dense(1)), {NAMES[0]: [1, 5, 9], NAMES[1]: [7]})
    b = solved(attribution(dense(2), concept="ring"), {NAMES[0]: [5, 9, 100], NAMES[2]: [0]})
    assert {name: index.tolist() for name, index in taken_weights(a, None, "row").items()} == {NAMES[0]: [1, 5, 9], NAMES[1]: [7]}
    found = overlap(a, b, taken_weights(a, None, "row"), taken_weights(b, None, "row"))
    assert (found.taken, found.taken_by_other, found.shared, found.touched) == (4, 4, 2, None)
    data = overlap_data([a, b], None, "global")
    assert data is not None
    assert data["pairs"][0][1]["sentence"] == "Erasing “star” would touch 50 % of the weights that erasing “ring” takes.".replace(
        " %", "\u00a0%"
    )
    plain = attribution(dense(2), "amplify", "ring")
    data = overlap_data([a, plain], None, "global")
    assert data is not None
    assert data["pairs"][0][1]["sentence"].endswith(" of what holds back “ring”.")
    assert data["pairs"][1][0]["sentence"].startswith("Amplifying “ring” would touch ")
    assert data["ratio"] == RATIO


def test_layers_that_were_left_out_are_not_touched() -> None:
    a, b = attribution(dense(1)), attribution(dense(2), concept="ring")
    part = choose(a, ["*transformer_blocks.1.*"])
    found = overlaps([part, b], 0.02, "layer")[0][1]
    assert found is not None
    assert {name for name, layer in found.layers.items() if layer.taken} == set(part.layers)
    whole = overlaps([a, b], 0.02, "layer")[0][1]
    assert whole is not None
    assert found.touched is not None
    assert whole.touched is not None
    assert found.touched[0] < whole.touched[0]


def test_the_same_concept_twice_has_two_names() -> None:
    data = overlap_data([attribution(dense(1)), attribution(dense(2)), attribution(dense(3))], 0.01, "global")
    assert data is not None
    assert [each["concept"] for each in data["concepts"]] == ["star", "star (2)", "star (3)"]
    assert overlap_data([attribution(dense(1))], 0.01, "global") is None


def test_what_cannot_be_compared_is_said() -> None:
    a = attribution(dense(1))
    other = attribution({f"x{name}": score for name, score in dense(2).items()})
    with pytest.raises(CadError, match="attribution 2 shares no layer with the first"):
        overlap_data([a, other], 0.01, "global")
    narrow = attribution({name: score[:, :100] for name, score in dense(2).items()})
    with pytest.raises(CadError, match=r"is \(30, 100\) there and \(30, 200\) in the first"):
        overlap_data([a, narrow], 0.01, "global")
    with pytest.raises(CadError, match="ratio must be in"):
        overlap_data([a, attribution(dense(2))], 2.0, "global")
