"""An attribution as a figure: where in the UNet a concept is drawn, when on the way to the picture, and how strongly.

Uses matplotlib's objects alone, no global state, so that figures can be made in any thread of a server.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import groupby

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import EngFormatter, MaxNLocator, NullLocator

from ..attribution import Attribution, ablated_sign
from ..reduction import bin_edges
from ..selection import RULES, Rule, select, share_count
from .counts import RATIOS, taken_counts, usable_ratios
from .fonts import families, text_width
from .text import compact, percent, shortened
from .unet_map import Place, locate

WIDTH = 11.5
"""Inches; lengths below are inches too."""
DPI = 140
NAMED_LAYERS = 60
"""Up to so many layers each has its name beside it; above it, each block."""

_ROW, _TALLEST, _SHORTEST = 0.19, 14.0, 1.7
_EDGE, _STRIP, _RIGHT, _TOP, _GAP, _LOWER, _BOTTOM = 0.2, 0.3, 0.95, 1.45, 1.1, 2.6, 0.65
_LABEL_LIMIT, _LABEL_SIZE, _GROUP_SIZE = 48, 7.5, 8.5

# Orange and blue are told apart with every common kind of colour blindness, and in print by where they stand.
POSITIVE, NEGATIVE = "#d9710b", "#2166ac"
_INK, _SOFT, _LINE, _BAND = "#1c2230", "#5b6474", "#dfe3ea", "#eef1f5"
_RULE_COLOURS = {"row": "#1c2230", "row_min1": "#7a8699", "layer": "#1b9e77", "global": "#b07aa1"}
_HEAT = {
    1: LinearSegmentedColormap.from_list("positive", ["#fdf9f3", "#fbd9ad", "#f0993a", "#c4570a", "#6d2a05"]),
    -1: LinearSegmentedColormap.from_list("negative", ["#f4f8fc", "#bcd7ee", "#5b9fd3", "#2166ac", "#0b2f5c"]),
}


def attribution_figure(
    attribution: Attribution, *, title: str | None = None, ratio: float | None = None, rule: Rule = "row", ratios: Sequence[float] = RATIOS
) -> Figure:
    """A figure of mass by layer, mass by timestep and layer, score magnitudes, and counts of weights that selections take.

    Args:
        title: None names the concept.
        ratio: shows among the magnitudes which weights `rule` takes at this ratio, and where rule "global" would begin.
        ratios: of the counts; those above what the attribution keeps are left out.

    Raises:
        CadError: for a `ratio` outside (0, 1] or above what the attribution keeps.
    """
    layers = sorted(((locate(name), name) for name in attribution.layers), key=lambda pair: pair[0])
    places, names = [place for place, _ in layers], [name for _, name in layers]
    count = len(names)
    map_height = max(_SHORTEST, count * _ROW if count <= NAMED_LAYERS else min(_TALLEST, max(9.5, count * 0.07)))
    height = _TOP + map_height + _GAP + _LOWER + _BOTTOM
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)

    def axes(left: float, top: float, width: float, tall: float) -> Axes:
        """Axes by their left edge, the distance of their top from the figure's, width and height."""
        return figure.add_axes((left / WIDTH, (height - top - tall) / height, width / WIDTH, tall / height))

    _heading(figure, attribution, title, height)
    ticks, labels = _layer_labels(places, map_height)
    size = _LABEL_SIZE if count <= NAMED_LAYERS else _GROUP_SIZE
    left = _EDGE + _STRIP + 0.25 + max(text_width(label, size) for label in labels) / 72  # points an inch
    usable = WIDTH - left - _RIGHT
    strip = axes(_EDGE, _TOP, _STRIP, map_height)
    bars = axes(left, _TOP, 0.52 * usable, map_height)
    heat = axes(left + 0.56 * usable, _TOP, 0.44 * usable, map_height)
    scale = axes(WIDTH - _RIGHT + 0.15, _TOP, 0.13, min(1.6, map_height))
    lower = _TOP + map_height + _GAP
    histogram = axes(0.8, lower, 4.7, _LOWER)
    taken = axes(6.4, lower, WIDTH - 6.4 - 0.35, _LOWER)

    _sides(strip, places, map_height)
    _mass_by_layer(bars, attribution, names)
    _mass_by_timestep(heat, scale, attribution, names)
    for panel in (bars, heat):
        _layer_axis(panel, places)
    heat.yaxis.set_major_locator(NullLocator())
    bars.set_yticks(ticks)
    bars.set_yticklabels(labels, fontsize=size, fontfamily=families(), parse_math=False)
    bars.tick_params(axis="y", length=0, pad=5)
    _magnitudes(histogram, attribution, ratio, rule)
    _taken(taken, attribution, usable_ratios(attribution, ratios))
    return figure


def _heading(figure: Figure, attribution: Attribution, title: str | None, height: float) -> None:
    concept = attribution.info.get("concept")
    title = title or (f"Attribution of “{concept}”" if concept else "Attribution")
    text = partial(figure.text, _EDGE / WIDTH, parse_math=False)
    facts = [
        attribution.objective,
        f"{len(attribution.layers):,} layers",
        f"{attribution.weights_total:,} weights",
        f"{len(attribution.timesteps)} timesteps",
    ]
    text(1 - 0.42 / height, shortened(title, 90), fontsize=15, fontweight="bold", fontfamily=families(), color=_INK)
    text(1 - 0.68 / height, "  ·  ".join(facts), fontsize=9, color=_SOFT)


def _bare(axes: Axes, title: str, *, below: bool = False) -> None:
    """The common looks; `below` leaves room for a line below the title."""
    axes.set_title(title, loc="left", fontsize=10, fontweight="bold", color=_INK, pad=21 if below else 7)
    axes.tick_params(labelsize=8, colors=_SOFT, length=3, width=0.6, labelcolor=_INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_SOFT)
        spine.set_linewidth(0.6)


def _under_title(axes: Axes, text: str, *, colour: str, right: bool = False) -> None:
    x, side = (1, "right") if right else (0, "left")
    axes.annotate(text, (x, 1), (0, 6), xycoords="axes fraction", textcoords="offset points", ha=side, fontsize=8, color=colour)


def _room_above(axes: Axes, low: float, high: float, room: float) -> None:
    """A logarithmic y axis from `low` whose data, up to `high`, leave the upper part to the legend: 1 / `room` is theirs."""
    axes.set_ylim(low, low * max(high / low, 10) ** room)


def _label(axes: Axes, x: str, y: str = "") -> None:
    axes.set_xlabel(x, fontsize=8.5, color=_SOFT)
    axes.set_ylabel(y, fontsize=8.5, color=_SOFT)


def _runs(keys: Sequence[str]) -> list[tuple[str, int, int]]:
    """Runs of equal neighbours as (key, first, one after the last)."""
    runs, start = [], 0
    for key, members in groupby(keys):
        stop = start + len(list(members))
        runs.append((key, start, stop))
        start = stop
    return runs


def _sides(axes: Axes, places: Sequence[Place], height: float) -> None:
    """The strip at the left that says down, mid and up."""
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(len(places), 0))
    for number, (side, start, stop) in enumerate(_runs([place.side for place in places])):
        shade = _BAND if number % 2 == 0 else _LINE
        axes.add_patch(Rectangle((0, start), 1, stop - start, facecolor=shade, edgecolor="white", linewidth=1.5))
        room = (stop - start) / len(places) * height
        if room > 0.45:
            axes.text(0.5, (start + stop) / 2, side, rotation=90, ha="center", va="center", fontsize=9, color=_INK)
        elif room > 0.14 and len(side) <= 4:
            axes.text(0.5, (start + stop) / 2, side, ha="center", va="center", fontsize=7, color=_INK)


def _layer_labels(places: Sequence[Place], height: float) -> tuple[list[float], list[str]]:
    """Positions and texts beside the layers: one a layer where there is room, else one a block."""
    if len(places) <= NAMED_LAYERS:
        return [row + 0.5 for row in range(len(places))], [shortened(place.label, _LABEL_LIMIT) for place in places]
    ticks: list[float] = []
    labels: list[str] = []
    for group, start, stop in _runs([place.group or place.side for place in places]):
        middle = (start + stop) / 2
        if not ticks or (middle - ticks[-1]) / len(places) * height > 0.15:  # else it would touch the one above
            ticks.append(middle)
            labels.append(group)
    return ticks, labels


def _layer_axis(axes: Axes, places: Sequence[Place]) -> None:
    """The vertical axis that both maps share: layers in U order from the top, with lines between blocks and sides."""
    axes.set_ylim(len(places), 0)
    sides = {start for _, start, _ in _runs([place.side for place in places])}
    for _, start, _ in _runs([place.group or place.side for place in places])[1:]:
        strong = start in sides
        axes.axhline(start, color=_SOFT if strong else _LINE, linewidth=0.8 if strong else 0.5, zorder=3)


def _mass_by_layer(axes: Axes, attribution: Attribution, names: Sequence[str]) -> None:
    mass = np.array([attribution.layers[name].mass for name in names]).reshape(-1, 2)
    rows = np.arange(len(names)) + 0.5
    thickness = 0.76 if len(names) <= NAMED_LAYERS else 1.0
    _bare(axes, "Attribution by layer", below=True)
    axes.barh(rows, mass[:, 0], height=thickness, color=POSITIVE, linewidth=0, zorder=2)
    axes.barh(rows, mass[:, 1], height=thickness, color=NEGATIVE, linewidth=0, zorder=2)
    axes.axvline(0, color=_INK, linewidth=0.8, zorder=4)
    low, high = min(mass[:, 1].min(initial=0), 0), max(mass[:, 0].max(initial=0), 0)
    room = 0.05 * (high - low) or 1.0
    axes.set_xlim(low - room, high + room)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3), useMathText=True)
    axes.xaxis.get_offset_text().set_fontsize(8)
    axes.grid(axis="x", color=_LINE, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    _label(axes, "sum of scores")
    # Instead of a legend, each colour is named above its own half.
    _under_title(axes, "◂ works against the concept", colour=NEGATIVE)
    _under_title(axes, "draws the concept ▸", colour=POSITIVE, right=True)


def _mass_by_timestep(axes: Axes, scale: Axes, attribution: Attribution, names: Sequence[str]) -> None:
    sign = ablated_sign(attribution.objective)
    column = 0 if sign > 0 else 1
    mass = np.stack([attribution.layers[name].timestep_mass[:, column].numpy() for name in names]).astype(np.float64) * sign
    steps = len(attribution.timesteps)
    _bare(axes, f"{'Positive' if sign > 0 else 'Negative'} attribution by timestep", below=True)
    _under_title(axes, "sum of scores, on a square-root scale", colour=_SOFT)
    # The square root shows weak layers beside a few strong ones.
    norm = PowerNorm(0.5, vmin=0, vmax=float(mass.max(initial=0)) or 1.0, clip=True)
    image = axes.imshow(
        mass, extent=(0, steps, len(names), 0), aspect="auto", cmap=_HEAT[sign], norm=norm, interpolation="nearest", zorder=1
    )
    shown = range(0, steps, -(-steps // 6))
    axes.set_xticks([step + 0.5 for step in shown], [str(attribution.timesteps[step]) for step in shown])
    _label(axes, "timestep: from noise ▸ to picture")
    bar = axes.figure.colorbar(image, cax=scale)
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(4)
    bar.formatter.set_powerlimits((-2, 3))  # type: ignore[attr-defined]
    bar.formatter.set_useMathText(True)  # type: ignore[attr-defined]
    bar.update_ticks()
    scale.tick_params(labelsize=7.5, colors=_SOFT, length=2, width=0.6)
    scale.yaxis.get_offset_text().set(fontsize=7.5, color=_SOFT)


def _magnitudes(axes: Axes, attribution: Attribution, ratio: float | None, rule: Rule) -> None:
    _bare(axes, "Scores by magnitude")
    counts = sum((layer.histogram.numpy().astype(np.int64) for layer in attribution.layers.values()), np.zeros((2, 1024), np.int64))
    edges = bin_edges().double().numpy()
    filled = np.flatnonzero(counts.sum(axis=0))
    if not len(filled):
        axes.text(0.5, 0.5, "every score is zero", transform=axes.transAxes, ha="center", va="center", color=_SOFT, fontsize=9)
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
        _threshold(axes, attribution, ratio, rule, edges, shown)
    axes.grid(color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    _room_above(axes, 0.7, float((counts[:, shown] / octaves).max()), 1.3)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_minor_locator(NullLocator())
    _label(axes, "magnitude of the score", "weights per doubling")
    axes.legend(fontsize=8, frameon=False, loc="upper left", ncols=2, handlelength=1.2, labelcolor=_INK, borderpad=0.1)


def _threshold(axes: Axes, attribution: Attribution, ratio: float, rule: Rule, edges: np.ndarray, shown: slice) -> None:
    """Which magnitudes `rule` takes, and the magnitude at which rule "global" begins."""
    chosen = select(attribution, ratio, rule)
    scores = [
        layer.score[torch.searchsorted(layer.index, index)].abs().double().numpy()
        for layer, index in ((attribution.layers[name], index) for name, index in chosen.items())
    ]
    magnitudes = np.concatenate(scores) if scores else np.zeros(0)
    taken = np.bincount(np.searchsorted(edges, magnitudes, side="right") - 1, minlength=len(edges))
    sides = edges[shown.start : shown.stop + 1]
    octaves = np.diff(np.log2(sides))
    sign = ablated_sign(attribution.objective)
    colour = POSITIVE if sign > 0 else NEGATIVE
    label = f"taken at {percent(ratio)}, rule “{rule}”"
    axes.stairs(taken[shown] / octaves, sides, fill=True, color=colour, alpha=0.35, linewidth=0, label=label, zorder=2)
    kept = np.concatenate([layer.score[layer.score * sign > 0].abs().double().numpy() for layer in attribution.layers.values()])
    count = min(len(kept), share_count(ratio, attribution.weights_total))
    if count:
        threshold = float(np.partition(kept, len(kept) - count)[len(kept) - count])
        axes.axvline(threshold, color=_INK, linewidth=1, linestyle=(0, (4, 2)), label=f"global threshold for {percent(ratio)}", zorder=4)


def _taken(axes: Axes, attribution: Attribution, ratios: Sequence[float]) -> None:
    _bare(axes, "Weights taken")
    thickness = 0.84 / len(RULES)
    highest = 1
    for number, rule in enumerate(RULES):
        counts = taken_counts(attribution, rule, ratios)
        highest = max(highest, *counts)
        x = np.arange(len(ratios)) + (number - (len(RULES) - 1) / 2) * thickness
        # Bars begin at a half, so that one weight is seen on the logarithmic axis and none is not.
        axes.bar(x, [max(0, count - 0.5) for count in counts], thickness * 0.9, bottom=0.5, color=_RULE_COLOURS[rule], label=rule, zorder=2)
        for place, count in zip(x, counts, strict=True):
            axes.annotate(
                compact(count), (place, max(count, 0.5)), (0, 2), textcoords="offset points", ha="center", fontsize=6.5, color=_INK
            )
    axes.set_yscale("log")
    _room_above(axes, 0.5, highest, 1.22)
    axes.set_xlim(-0.55, len(ratios) - 0.45)
    axes.set_xticks(range(len(ratios)), [percent(ratio) for ratio in ratios])
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(axis="y", color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", length=0)
    _label(axes, "ratio", "weights")
    axes.legend(
        fontsize=8, frameon=False, loc="upper left", ncols=len(RULES), handlelength=0.9, columnspacing=1.4, labelcolor=_INK, borderpad=0.1
    )
