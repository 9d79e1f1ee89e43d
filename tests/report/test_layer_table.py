from __future__ import annotations

import pytest

from cad_engine.report.counts import RATIOS, taken_counts, usable_ratios
from cad_engine.report.layer_table import layer_headers, layer_report_table, layer_rows, total_row
from cad_engine.selection import RULES, select
from tests.report.attributions import SD15, ff_names, random_attribution

NAMES = ff_names(SD15)[:6]
SHAPE = (24, 3000)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("objective", ["erase", "amplify"])
@pytest.mark.parametrize("keep_ratio", [1.0, 0.01])
def test_counts_are_those_of_the_selection(rule: str, objective: str, keep_ratio: float) -> None:
    attribution = random_attribution(NAMES, objective=objective, shape=SHAPE, keep_ratio=keep_ratio)
    ratios = usable_ratios(attribution, [*RATIOS, 0.9])
    assert len(ratios) == (5 if keep_ratio == 1 else 3)
    selected = [sum(map(len, select(attribution, ratio, rule).values())) for ratio in ratios]
    assert taken_counts(attribution, rule, ratios) == selected


@pytest.mark.parametrize("objective", ["erase", "amplify"])
def test_rows_tell_each_layer_in_order(objective: str) -> None:
    attribution = random_attribution(NAMES[::-1], objective=objective, shape=SHAPE)
    ratios = (0.001, 0.01)
    rows = layer_rows(attribution, ratios)
    assert [row.name for row in rows] == NAMES
    chosen = [select(attribution, ratio, "row") for ratio in ratios]
    for row in rows:
        layer = attribution.layers[row.name]
        assert (row.positive, row.negative) == layer.mass
        assert row.size == SHAPE[0] * SHAPE[1]
        assert row.taken == tuple(len(positions[row.name]) for positions in chosen)
    total = total_row(rows)
    assert total.size == attribution.weights_total
    assert total.share == pytest.approx(1)
    assert total.taken == tuple(sum(map(len, positions.values())) for positions in chosen)
    assert len(layer_headers(attribution, ratios)) == 5 + len(ratios)


def test_only_ratios_that_are_kept_are_shown() -> None:
    attribution = random_attribution(NAMES, shape=SHAPE, keep_ratio=0.0002)
    assert usable_ratios(attribution) == (0.0002,)
    assert [header for header in layer_report_table(attribution).headers if "Taken" in header] == ["Taken\u00a0at 0.02\u00a0%"]


def test_report_table_of_scores_that_are_all_zero() -> None:
    table = layer_report_table(random_attribution(NAMES, scale=0.0))
    assert len(table.rows) == len(NAMES)
    assert not table.folded
    assert layer_report_table(random_attribution(ff_names(SD15) * 2 + [f"x.{n}" for n in range(20)])).folded


def test_what_rounds_change_is_told_in_place_of_what_a_ratio_would_take() -> None:
    attribution = random_attribution(NAMES, shape=SHAPE, keep_ratio=0.01)
    attribution.info["score"] = "effect"
    table = layer_report_table(attribution)
    assert table.headers[5:] == ["Changed"]
    assert [row[5] for row in table.rows] == [len(attribution.layers[name].index) for name in NAMES]
    assert "by the edit that rounds found" in table.caption
