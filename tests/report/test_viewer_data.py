from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
import torch

from cad_engine.attribution import Attribution
from cad_engine.reduction import bin_edges
from cad_engine.report.viewer_data import MAX_LAYERS, viewer_data
from cad_engine.selection import select
from tests.report.attributions import SD15, SDXL, ff_names, random_attribution

NAMES = ff_names(SD15)


def as_large_as_sdxl(names: list[str], steps: int) -> Attribution:
    """Numbers of as many digits as a real model's, which is what the size of the data depends on."""
    attribution = random_attribution(names, shape=(64, 320), steps=steps, keep_ratio=0.01)
    for number, layer in enumerate(attribution.layers.values()):
        layer.out_features, layer.in_features = 10240, 1280
        layer.histogram *= 640 + number
        layer.timestep_mass *= torch.rand_like(layer.timestep_mass)
        layer.row_mass *= torch.rand_like(layer.row_mass)
    return attribution


def as_sent(data: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """The data as the front end gets it, and its size in bytes."""
    text = json.dumps(data, allow_nan=False)
    return json.loads(text), len(text)


@pytest.mark.parametrize(("steps", "limit"), [(10, 420_000), (50, 500_000), (1000, 500_000)])
def test_size_for_sdxl(steps: int, limit: int) -> None:
    data, size = as_sent(viewer_data(as_large_as_sdxl(ff_names(SDXL), steps)))
    assert 100_000 < size < limit
    assert len(data["layers"]) == 140
    assert len(data["timesteps"]) == min(steps, 50)


def test_size_is_bounded_for_any_number_of_layers() -> None:
    attention = "diffusion_model.output_blocks.0.1.transformer_blocks.{}.attn2.to_out.0.weight"
    data, size = as_sent(viewer_data(as_large_as_sdxl([attention.format(n) for n in range(MAX_LAYERS + 5)], 50)))
    assert size < 1_000_000
    assert len(data["layers"]) == MAX_LAYERS
    assert data["left_out"] == 5
    assert len(data["edges"]) == 21


@pytest.mark.parametrize("objective", ["erase", "amplify"])
def test_layers_in_order_with_their_sums(objective: str) -> None:
    attribution = random_attribution(NAMES[::-1], objective=objective, steps=7)
    data, _ = as_sent(viewer_data(attribution))
    assert [layer["name"] for layer in data["layers"]] == NAMES
    first = data["layers"][0]
    assert (first["side"], first["block"], first["group"], first["part"]) == ("down", 1, "in 1", "block 0 · ff in")
    assert data["timesteps"] == attribution.timesteps
    for described in data["layers"]:
        layer = attribution.layers[described["name"]]
        assert described["shape"] == [16, 40]
        assert described["chosen"] is True
        assert described["mass"] == pytest.approx(list(layer.mass), rel=1e-4)
        assert torch.tensor(described["timestep_mass"]).T.allclose(layer.timestep_mass, rtol=1e-2, atol=0)
    assert data["weights"] == 32 * 640
    assert data["left_out"] == 0


def test_histograms_keep_every_count() -> None:
    attribution = random_attribution(NAMES[:4], scale=3e-5)
    data, _ = as_sent(viewer_data(attribution))
    edges = torch.tensor(data["edges"])
    assert (edges.diff() > 0).all()
    assert len(edges) == 81
    for described in data["layers"]:
        layer = attribution.layers[described["name"]]
        assert layer.score.abs().max() < edges[-1]
        for side, sign in ((0, 1), (1, -1)):
            score = layer.score[layer.score * sign > 0].abs()
            first, *counts = described["histogram"][side]
            assert described["below"][side] == int((score < edges[0]).sum())
            expected = torch.histogram(score[score >= edges[0]].double(), bins=edges.double()).hist.long().tolist()
            assert [0] * first + counts + [0] * (80 - first - len(counts)) == expected
            assert counts[0]
            assert counts[-1]


def test_a_threshold_for_any_ratio_can_be_read_off() -> None:
    """What the widget does for rule "global": count from the strongest bin downwards."""
    attribution = random_attribution(NAMES, shape=(64, 320))
    data, _ = as_sent(viewer_data(attribution))
    for ratio in (0.003, 0.04, 0.3):
        wanted = math.floor(ratio * data["weights"])
        totals = [0] * (len(data["edges"]) - 1)
        for layer in data["layers"]:
            first, *counts = layer["histogram"][0]
            for number, count in enumerate(counts):
                totals[first + number] += count
        above, bin_number = 0, len(totals)
        while above < wanted:
            bin_number -= 1
            above += totals[bin_number]
        exact = min(
            float(attribution.layers[name].score[torch.isin(attribution.layers[name].index, index)].min())
            for name, index in select(attribution, ratio, "global").items()
        )
        assert data["edges"][bin_number] * (1 - 1e-5) <= exact <= data["edges"][bin_number + 1]


def share_count(ratio: float, total: int) -> int:
    return math.floor(round(ratio * total, 9))


@pytest.mark.parametrize("keep_ratio", [None, 0.05])
@pytest.mark.parametrize("objective", ["erase", "amplify"])
def test_what_the_row_rules_take_follows_for_any_ratio(objective: str, keep_ratio: float | None) -> None:
    attribution = random_attribution(NAMES, objective=objective, shape=(24, 600), keep_ratio=keep_ratio)
    chosen = NAMES[3:9]
    data, _ = as_sent(viewer_data(attribution, chosen))
    assert [layer["name"] for layer in data["layers"] if layer["chosen"]] == chosen
    sign = 1 if objective == "erase" else -1
    for ratio in (0.0005, 0.003, 0.02, 0.05):
        for rule, least in (("row", 0), ("row_min1", 1)):
            taken = select(attribution, ratio, rule)  # type: ignore[arg-type]
            for described in data["layers"]:
                layer, k = attribution.layers[described["name"]], max(least, share_count(ratio, 600))
                index = taken.get(described["name"], torch.empty(0, dtype=torch.int64))
                assert sum(rows * min(k, right) for right, rows in described["rows_by_count"]) == len(index)
                if not len(index):
                    continue
                exact = float((layer.score[torch.searchsorted(layer.index, index)] * sign).sum())
                ranks, sums = zip(*described["sums_by_rank"], strict=True)
                assert np.interp(k, (0, *ranks), (0, *sums)) == pytest.approx(exact, rel=0.01)


@pytest.mark.parametrize("objective", ["erase", "amplify"])
def test_the_sum_of_what_a_threshold_takes_follows(objective: str) -> None:
    attribution = random_attribution(NAMES, objective=objective, shape=(64, 320))
    side, sign = (0, 1) if objective == "erase" else (1, -1)
    data, _ = as_sent(viewer_data(attribution))
    scores = torch.cat([layer.score * sign for layer in attribution.layers.values()])
    for first in (40, 60, 70):
        told = 0.0
        for layer in data["layers"]:
            start, *counts = layer["histogram"][side]
            told += sum(count * data["typical"][start + n] for n, count in enumerate(counts) if start + n >= first)
        assert told == pytest.approx(float(scores[scores >= data["edges"][first]].double().sum()), rel=1e-3)


def test_the_strongest_rows_with_their_counts() -> None:
    attribution = random_attribution(NAMES[:4], shape=(300, 64))
    data, _ = as_sent(viewer_data(attribution))
    octaves = data["octaves"]
    for described in data["layers"]:
        layer = attribution.layers[described["name"]]
        score = torch.zeros(300 * 64)
        score[layer.index] = layer.score
        score = score.reshape(300, 64)
        mass = layer.row_mass.abs().sum(dim=1)
        numbers = [row[0] for row in described["rows"]]
        assert numbers == mass.sort(descending=True, stable=True).indices[:256].tolist()
        for number, positive, negative, first, *counts in described["rows"]:
            assert [positive, negative] == pytest.approx(layer.row_mass[number].tolist(), rel=1e-2)
            right = score[number][score[number] > 0]
            assert sum(counts) == len(right)
            for place, count in enumerate(counts[1:], start=first + 1):
                assert count == int(((right >= octaves[place]) & (right < octaves[place + 1])).sum())


def test_neurons_and_heads_by_their_sums() -> None:
    names = ["diffusion_model.middle_block.1.transformer_blocks.0.ff.net.2.weight"]
    (unit,) = [layer["units"] for layer in viewer_data(random_attribution(names, shape=(16, 40)))["layers"]]
    sums = random_attribution(names, shape=(16, 40)).layers[names[0]].column_sum
    assert sums is not None
    assert (unit["kind"], unit["total"]) == ("neuron", 40)
    assert [number for number, _ in unit["listed"]] == sums.abs().sort(descending=True, stable=True).indices.tolist()
    assert [value for _, value in unit["listed"]] == pytest.approx(sums[[number for number, _ in unit["listed"]]].tolist(), rel=1e-2)
    assert viewer_data(random_attribution([NAMES[0]]))["layers"][0]["units"] is None


def test_scores_per_harm_are_not_added_up() -> None:
    attribution = random_attribution(NAMES[:3])
    attribution.info["score"] = "attribution per harm"
    data = viewer_data(attribution)
    assert data["score"] == "attribution per harm"
    assert all(layer["sums_by_rank"] is None for layer in data["layers"])


def test_the_shape_of_the_unet() -> None:
    attribution = random_attribution(NAMES)
    assert viewer_data(attribution)["unet"] is None
    attribution.info["family"] = "sd1"
    sizes = ["64 \u00d7 64", "32 \u00d7 32", "16 \u00d7 16", "8 \u00d7 8"]
    assert viewer_data(attribution)["unet"] == {"levels": 4, "per_level": 3, "sizes": sizes}
    attribution.info["size"] = [64, 96]
    assert viewer_data(attribution)["unet"]["sizes"] == ["64 \u00d7 96", "32 \u00d7 48", "16 \u00d7 24", "8 \u00d7 12"]
    attribution.info |= {"family": "sd2", "size": ["<b>", 10**100]}
    assert viewer_data(attribution)["unet"]["sizes"] == ["1", "1/2", "1/4", "1/8"]


def test_many_timesteps_are_summed() -> None:
    attribution = as_large_as_sdxl(ff_names(SDXL), 1000)
    data = viewer_data(attribution)
    assert data["timesteps"] == attribution.timesteps[::20]
    for described in data["layers"]:
        sums = torch.tensor(described["timestep_mass"]).sum(dim=1)
        assert sums.allclose(attribution.layers[described["name"]].timestep_mass.sum(dim=0), rtol=1e-2)


@pytest.mark.parametrize("scale", [0.0, 1e-44, 1e-30, 1e30])
def test_extreme_scores(scale: float) -> None:
    data, _ = as_sent(viewer_data(random_attribution(NAMES[:3], scale=scale)))
    assert len(data["layers"]) == 3
    assert all(right > left for left, right in zip(data["edges"], data["edges"][1:], strict=False))


def test_the_last_bins_of_a_hostile_histogram_stay_finite() -> None:
    attribution = random_attribution(NAMES[:1])
    attribution.layers[NAMES[0]].histogram[:] = 2**31 - 1
    data, _ = as_sent(viewer_data(attribution))
    assert data["edges"][-1] == pytest.approx(torch.finfo(torch.float32).max, rel=1e-5)
    first, *counts = data["layers"][0]["histogram"][0]
    assert (first, len(counts)) == (0, 80)
    assert data["layers"][0]["below"][0] == (2**31 - 1) * (len(bin_edges()) - 80)


def test_text_is_short_plain_and_complete() -> None:
    attribution = random_attribution(["x" * 10_000, "\u202e\x00\n<b>", *NAMES[:1]], concept="<script>\ud800" + "z" * 10_000)
    attribution.info |= {
        "seed": 2**63 - 1,
        "steps": 10,
        "cfg": 3.0,
        "rate": float("inf"),
        "none": None,
        "keep": ["a circle", "\x1b[31m" * 100] * 50,
        "size": [8, 8],
        "deep": {"a": {"b": ["c" * 5000]}},
        "layers": NAMES,
        "k" * 5000: True,
        **{f"key {n}": n for n in range(1000)},
    }
    data, size = as_sent(viewer_data(attribution))
    assert size < 40_000
    info = data["info"]
    assert info["concept"].startswith("<script>\ufffdzzz")
    assert (info["seed"], info["steps"], info["cfg"], info["rate"], info["none"]) == (str(2**63 - 1), 10, 3.0, None, None)
    assert info["keep"][0] == "a circle"
    assert len(info["keep"]) == 20
    assert info["size"] == "[8, 8]"
    assert "layers" not in info
    texts: list[str] = []

    def collect(value: Any) -> None:
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, dict):
            for key, part in value.items():
                collect(key)
                collect(part)
        elif isinstance(value, list):
            for part in value:
                collect(part)

    collect(data)
    assert all(len(text) <= 300 for text in texts)
    assert not set("\x00\n\x1b\u202e") & set("".join(texts))
