"""The layers of an attribution as rows of a table, for the terminal and for reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..attribution import Attribution, ablated_sign
from .counts import RATIOS, right_in_rows, row_rule_counts, usable_ratios
from .html import Cell, ReportTable, Share
from .text import percent
from .unet_map import Side, locate


@dataclass(frozen=True)
class LayerRow:
    """What the table says of one layer.

    Attributes:
        name: the weight's name in the checkpoint.
        label: for people, "in 4 · block 0 · ff out".
        size: number of weights.
        positive, negative: sums of its positive and of its negative scores.
        share: its part of all layers' mass of the sign that the objective takes, in [0, 1].
        taken: weights that rule "row" takes at each ratio; of an attribution that carries its own edit, the weights that it changes.
    """

    name: str
    label: str
    side: Side
    size: int
    positive: float
    negative: float
    share: float
    taken: tuple[int, ...]


def layer_rows(attribution: Attribution, ratios: Sequence[float]) -> list[LayerRow]:
    """One row a layer, in the UNet's order of computation. `ratios`: see counts.usable_ratios."""
    sign = ablated_sign(attribution.objective)
    masses = {name: layer.mass for name, layer in attribution.layers.items()}
    side_of_mass = 0 if sign > 0 else 1
    total = sum(mass[side_of_mass] for mass in masses.values())
    rows = []
    for name in sorted(attribution.layers, key=locate):
        place, layer, mass = locate(name), attribution.layers[name], masses[name]
        share = mass[side_of_mass] / total if total else 0.0
        taken = (len(layer.index),) if attribution.solved else tuple(row_rule_counts(layer, right_in_rows(layer, sign), ratios))
        rows.append(LayerRow(name, place.label, place.side, layer.out_features * layer.in_features, *mass, share, taken))
    return rows


def total_row(rows: Sequence[LayerRow]) -> LayerRow:
    """The sum of `rows`, labelled "all layers"."""
    return LayerRow(
        name="",
        label=f"all {len(rows)} layers",
        side="other",
        size=sum(row.size for row in rows),
        positive=sum(row.positive for row in rows),
        negative=sum(row.negative for row in rows),
        share=sum(row.share for row in rows),
        taken=tuple(sum(column) for column in zip(*(row.taken for row in rows), strict=True)),
    )


def layer_headers(attribution: Attribution, ratios: Sequence[float]) -> list[str]:
    """Column headings, in the order of LayerRow's fields from `label` on, without `side`."""
    taken = ["Changed"] if attribution.solved else [f"Taken\u00a0at {percent(ratio)}" for ratio in ratios]
    return ["Layer", "Weights", "Positive mass", "Negative mass", "Share", *taken]


def layer_report_table(attribution: Attribution, ratios: Sequence[float] = RATIOS) -> ReportTable:
    """The table as a part of an HTML report, folded when it is long."""
    ratios = usable_ratios(attribution, ratios)
    rows = layer_rows(attribution, ratios)
    largest = max((row.share for row in rows), default=0.0)

    def cells(row: LayerRow, *, bar: bool) -> list[Cell]:
        text = f"{100 * row.share:.1f}\u00a0%"
        share = Share(row.share / largest if largest else 0.0, text) if bar else text
        return [row.label, row.size, row.positive, row.negative, share, *row.taken]

    taken = "changed by the edit that rounds found" if attribution.solved else "taken by the rule “row”, at most so much of each row"
    return ReportTable(
        headers=layer_headers(attribution, ratios),
        rows=[cells(row, bar=True) for row in rows],
        caption=f"Attribution of {len(rows)} layers; weights {taken}",
        total=cells(total_row(rows), bar=False),
        folded=len(rows) > 40,
    )
