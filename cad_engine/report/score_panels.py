"""Panels of a figure that count scores: how they spread over magnitudes, and how many weights a selection takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import EngFormatter, NullLocator

from ..attribution import Attribution, ablated_sign
from ..reduction import bin_edges
from ..selection import RULES, Rule, share_count
from .counts import taken_counts
from .plot_style import INK, LINE, NEGATIVE, POSITIVE, RULE_COLOURS, SOFT, bare, label, room_above
from .text import compact, percent

_BELOW_LEGEND = 0.74
"""The part of the height that the data have."""


def magnitudes(axes: Axes, attribution: Attribution, taken: Mapping[str, np.ndarray], ratio: float | None, rule: Rule) -> None:
    """How many scores there are of each magnitude; with a `ratio` also of the scores `taken`, and where rule "global" begins."""
    bare(axes, "Scores by magnitude")
    counts = sum((layer.histogram.numpy().astype(np.int64) for layer in attribution.layers.values()), np.zeros((2, 1024), np.int64))
    edges = bin_edges().double().numpy()
    filled = np.flatnonzero(counts.sum(axis=0))
    if not len(filled):
        axes.text(0.5, 0.5, "every score is zero", transform=axes.transAxes, ha="center", va="center", color=SOFT, fontsize=9)
        return
    # The tail of vanishing scores can span dozens of decades and says nothing: one in a hundred is left out.
    below = counts.sum(axis=0).cumsum()
    first = max(1, int(np.searchsorted(below, below[-1] / 100)))
    shown = slice(first, max(first, int(filled[-1])) + 1)
    sides = edges[shown.start : shown.stop + 1]
    # The bins of an octave are equally wide, so a logarithmic axis needs their density.
    octaves = np.diff(np.log2(sides))
    axes.set_xscale("log")
    axes.set_yscale("log")
    for row, colour, name in ((0, POSITIVE, "positive"), (1, NEGATIVE, "negative")):
        axes.stairs(counts[row, shown] / octaves, sides, color=colour, linewidth=1.4, label=name, zorder=3)
    if ratio is not None:
        scores = np.concatenate([*taken.values(), np.zeros(0)])
        by_bin = np.bincount(np.searchsorted(edges, np.abs(scores), side="right") - 1, minlength=len(edges))
        _mark(axes, attribution, by_bin[shown] / octaves, sides, ratio, rule)
    axes.grid(color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    room_above(axes, 0.7, float((counts[:, shown] / octaves).max()), 1 / _BELOW_LEGEND)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    label(axes, f"magnitude of the {attribution.score}", "weights per doubling")
    axes.legend(fontsize=8, frameon=False, loc="upper left", ncols=2, handlelength=1.2, columnspacing=1.2, labelcolor=INK, borderpad=0.1)


def _mark(axes: Axes, attribution: Attribution, taken: np.ndarray, sides: np.ndarray, ratio: float, rule: Rule) -> None:
    """Which magnitudes `rule` takes, and the magnitude at which rule "global" begins."""
    sign = ablated_sign(attribution.objective)
    colour = POSITIVE if sign > 0 else NEGATIVE
    text = f"taken at {percent(ratio)}, rule “{rule}”"
    axes.stairs(taken, sides, fill=True, color=colour, alpha=0.35, linewidth=0, label=text, zorder=2)
    # What rounds changed has no common threshold: its weakest effect is next to nothing.
    threshold = None if attribution.solved else global_threshold(attribution, ratio)
    if threshold is not None:
        text = f"global threshold for {percent(ratio)}"
        axes.axvline(threshold, 0, _BELOW_LEGEND, color=INK, linewidth=1, linestyle=(0, (4, 2)), label=text, zorder=4)


def global_threshold(attribution: Attribution, ratio: float) -> float | None:
    """The magnitude of the weakest score that rule "global" takes at `ratio`; None when it takes none."""
    sign = ablated_sign(attribution.objective)
    counts = torch.stack([layer.histogram[0 if sign > 0 else 1] for layer in attribution.layers.values()]).sum(dim=0, dtype=torch.int64)
    above = counts.flip(0).cumsum(0).flip(0)
    count = min(share_count(ratio, attribution.weights_total), int(above[0]))
    if not count:
        return None
    # Of tens of millions of scores only those from the threshold's own bin upwards are looked at.
    edge = bin_edges()[int((above >= count).nonzero().max())]
    strong = torch.cat([score[score >= edge] for score in (layer.score * sign for layer in attribution.layers.values())])
    return float(strong.topk(min(count, len(strong))).values[-1]) if len(strong) else None


def weights_taken(axes: Axes, attribution: Attribution, ratios: Sequence[float], ratio: float | None, rule: Rule) -> None:
    """How many weights each rule takes at `ratios`; `rule` and `ratio` are set in bold."""
    bare(axes, "Weights taken")
    thickness = 0.84 / len(RULES)
    highest = 1
    for number, name in enumerate(RULES):
        counts = taken_counts(attribution, name, ratios)
        highest = max(highest, *counts)
        x = np.arange(len(ratios)) + (number - (len(RULES) - 1) / 2) * thickness
        # Bars begin at a half, so that one weight is seen on the logarithmic axis and none is not.
        axes.bar(x, [max(0, count - 0.5) for count in counts], thickness * 0.9, bottom=0.5, color=RULE_COLOURS[name], label=name, zorder=2)
        for place, count in zip(x, counts, strict=True):
            axes.annotate(compact(count), (place, max(count, 0.5)), (0, 2), textcoords="offset points", ha="center", fontsize=6, color=INK)
    axes.set_yscale("log")
    room_above(axes, 0.5, highest, 1.22)
    axes.set_xlim(-0.55, len(ratios) - 0.45)
    axes.set_xticks(range(len(ratios)), [percent(at) for at in ratios])
    for text, at in zip(axes.get_xticklabels(), ratios, strict=True):
        text.set_fontweight("bold" if at == ratio else "normal")
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", length=0)
    label(axes, "ratio", "weights")
    legend = axes.legend(
        fontsize=8, frameon=False, loc="upper left", ncols=len(RULES), handlelength=0.9, columnspacing=1.2, labelcolor=INK, borderpad=0.1
    )
    for text, name in zip(legend.get_texts(), RULES, strict=True):
        text.set_fontweight("bold" if ratio is not None and name == rule else "normal")
