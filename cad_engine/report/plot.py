"""An attribution as a figure: where in the UNet a concept is drawn, when on the way to the picture, and how strongly.

Uses matplotlib's objects alone, no global state, so that figures can be made in any thread of a server.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ..attribution import SCORES, Attribution
from ..selection import Rule, select
from .counts import RATIOS, usable_ratios
from .fonts import families, text_width
from .layer_panels import NAMED_LAYERS, layer_axis, layer_labels, mass_by_layer, mass_by_timestep, show_counts, show_labels, side_strip
from .plot_style import INK, SOFT, label
from .score_panels import magnitudes, weights_taken
from .text import counted, percent, shortened
from .unet_map import locate

WIDTH = 9.6
"""Inches; lengths below are inches too."""
DPI = 150

_ROOMY = 60
"""Up to so many layers names are of ordinary size."""
_ROW, _DENSE_ROW, _TALLEST, _SHORTEST = 0.18, 0.1, 14.0, 1.7
_EDGE, _STRIP, _RIGHT, _TOP, _GAP, _LOWER, _BOTTOM = 0.2, 0.28, 0.85, 1.62, 1.0, 2.5, 0.6
_LABEL_SIZE, _DENSE_SIZE, _GROUP_SIZE = 7.5, 6.0, 8.5
_FAMILIES = {"sandbox": "CAD sandbox", "sd1": "Stable Diffusion 1.x", "sd2": "Stable Diffusion 2.x", "sdxl": "Stable Diffusion XL"}


def attribution_figure(
    attribution: Attribution,
    *,
    title: str | None = None,
    ratio: float | None = None,
    rule: Rule = "row",
    ratios: Sequence[float] = RATIOS,
    chosen: Collection[str] | None = None,
) -> Figure:
    """A figure of mass by layer, mass by timestep and layer, score magnitudes, and counts of weights that selections take.

    Args:
        title: None names the concept.
        ratio: shows which weights `rule` takes at this ratio, by layer and among the magnitudes, and where rule "global" would begin.
        ratios: of the counts; those above what the attribution keeps are left out.
        chosen: names of the layers that selections are limited to; the others are grey, and not counted below the map.

    Raises:
        CadError: for a `ratio` outside (0, 1] or above what the attribution keeps.
    """
    layers = sorted(((locate(name), name) for name in attribution.layers), key=lambda pair: pair[0])
    places, names = [place for place, _ in layers], [name for _, name in layers]
    chosen = set(names) if chosen is None else set(chosen)
    part = replace(attribution, layers={name: layer for name, layer in attribution.layers.items() if name in chosen})
    taken = {} if ratio is None else taken_scores(part, ratio, rule)
    count = len(names)
    map_height = max(_SHORTEST, _map_height(count))
    height = _TOP + map_height + _GAP + _LOWER + _BOTTOM
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)

    def axes(left: float, top: float, width: float, tall: float) -> Axes:
        """Axes by their left edge, the distance of their top from the figure's, width and height."""
        return figure.add_axes((left / WIDTH, (height - top - tall) / height, width / WIDTH, tall / height))

    _heading(figure, attribution, title, len(part.layers), height)
    labels = layer_labels(places, map_height)
    size = _LABEL_SIZE if count <= _ROOMY else _DENSE_SIZE if count <= NAMED_LAYERS else _GROUP_SIZE
    left = _EDGE + _STRIP + 0.25 + max(text_width(text, size) for text, _, _ in labels) / 72  # points an inch
    usable = WIDTH - left - _RIGHT
    strip = axes(_EDGE, _TOP, _STRIP, map_height)
    bars = axes(left, _TOP, 0.52 * usable, map_height)
    heat = axes(left + 0.58 * usable, _TOP, 0.42 * usable, map_height)
    scale = axes(WIDTH - _RIGHT + 0.12, _TOP, 0.13, min(1.6, map_height))
    lower = _TOP + map_height + _GAP
    histogram = axes(0.75, lower, 3.65, _LOWER)
    counts = axes(5.1, lower, WIDTH - 5.1 - 0.2, _LOWER)

    side_strip(strip, places, map_height)
    summed = attribution.score == SCORES[0]  # else a score is no part of the mass
    mass_by_layer(bars, attribution, names, chosen, {name: float(scores.sum()) for name, scores in taken.items()} if summed else {})
    label(bars, _sum_label(ratio, summed, bool(taken)))
    mass_by_timestep(heat, scale, attribution, names, chosen)
    for panel in (bars, heat):
        layer_axis(panel, places)
    heat.yaxis.set_major_locator(NullLocator())
    show_labels(bars, labels, [name in chosen for name in names], size)
    if taken:
        show_counts(bars, labels, [len(taken.get(name, ())) for name in names])
    magnitudes(histogram, part, taken, ratio, rule)
    weights_taken(counts, part, usable_ratios(part, ratios if ratio is None else _with(ratios, ratio)), ratio, rule)
    return figure


def _sum_label(ratio: float | None, summed: bool, any_taken: bool) -> str:
    """What the bars are, and their darker part."""
    if ratio is None or (any_taken and not summed):
        return "sum over the weights"
    return (
        f"sum over the weights; dark: taken at {percent(ratio)}"
        if any_taken
        else f"sum over the weights; none is taken at {percent(ratio)}"
    )


def _map_height(count: int) -> float:
    """Of the panels with `count` layers."""
    if count <= _ROOMY:
        return count * _ROW
    return max(_ROOMY * _ROW, count * _DENSE_ROW) if count <= NAMED_LAYERS else min(_TALLEST, max(9.0, count * 0.065))


def taken_scores(attribution: Attribution, ratio: float, rule: Rule) -> dict[str, np.ndarray]:
    """The scores, float64, of the weights that `rule` takes of each layer. Raises what selection.select raises."""
    return {
        name: layer.score[torch.searchsorted(layer.index, index)].double().numpy()
        for name, index in select(attribution, ratio, rule).items()
        for layer in (attribution.layers[name],)
    }


def _with(ratios: Sequence[float], ratio: float) -> list[float]:
    """As many ratios, with `ratio` in the place of the nearest one."""
    nearest = min(ratios, key=lambda other: abs(math.log(other / ratio)))
    return sorted({*(other for other in ratios if other != nearest), ratio})


def _heading(figure: Figure, attribution: Attribution, title: str | None, chosen: int, height: float) -> None:
    info = attribution.info
    concept, base, family, keep = (info.get(key) for key in ("concept", "base", "family", "keep"))
    title = title or (f"Attribution of “{shortened(str(concept), 60)}”" if concept else "Attribution")
    purpose = f"to {attribution.objective}"
    if isinstance(base, str):
        purpose += f", against the base prompt “{shortened(base, 70)}”" if base.strip() else ", against the empty prompt"
    layers = len(attribution.layers)
    facts = [
        *([shortened(_FAMILIES.get(family, family), 30)] if isinstance(family, str) else []),
        counted(layers, "layer") if chosen == layers else f"{chosen:,} of {counted(layers, 'layer')} chosen, the others grey",
        counted(attribution.weights_total, "weight"),
        counted(len(attribution.timesteps), "timestep"),
        *([f"{counted(len(keep), 'prompt')} kept"] if isinstance(keep, list) and keep else []),
    ]
    text = partial(figure.text, _EDGE / WIDTH, parse_math=False, fontfamily=families())
    text(1 - 0.42 / height, shortened(title, 75), fontsize=15, fontweight="bold", color=INK)
    text(1 - 0.68 / height, purpose, fontsize=10, color=INK)
    text(1 - 0.91 / height, "  ·  ".join(facts), fontsize=9, color=SOFT)
