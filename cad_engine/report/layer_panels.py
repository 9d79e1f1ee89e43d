"""Panels of a figure that run over the layers, from the UNet's entry at the top to its exit: mass by layer, and by timestep."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ..attribution import Attribution, ablated_sign
from .fonts import families
from .plot_style import (
    BAND,
    FAINT,
    HEAT,
    INK,
    LINE,
    NEGATIVE,
    NEGATIVE_TAKEN,
    POSITIVE,
    POSITIVE_TAKEN,
    SOFT,
    UNCHOSEN,
    bare,
    label,
    under_title,
)
from .text import compact, shortened
from .unet_map import Place

NAMED_LAYERS = 112
"""Up to so many layers each has its name beside it; above it, each block."""
_LABEL_LIMIT = 48


def _runs(keys: Sequence[str]) -> list[tuple[str, int, int]]:
    """Runs of equal neighbours as (key, first, one after the last)."""
    runs, start = [], 0
    for key, members in groupby(keys):
        stop = start + len(list(members))
        runs.append((key, start, stop))
        start = stop
    return runs


def side_strip(axes: Axes, places: Sequence[Place], height: float) -> None:
    """The strip at the left that says down, mid and up; `height` in inches."""
    axes.set_axis_off()
    axes.set(xlim=(0, 1), ylim=(len(places), 0))
    for number, (side, start, stop) in enumerate(_runs([place.side for place in places])):
        shade = BAND if number % 2 == 0 else LINE
        axes.add_patch(Rectangle((0, start), 1, stop - start, facecolor=shade, edgecolor="white", linewidth=1.5))
        room = (stop - start) / len(places) * height
        if room > 0.45:
            axes.text(0.5, (start + stop) / 2, side, rotation=90, ha="center", va="center", fontsize=9, color=INK)
        elif room > 0.14 and len(side) <= 4:
            axes.text(0.5, (start + stop) / 2, side, ha="center", va="center", fontsize=7, color=INK)


class Labelled(NamedTuple):
    """Layers `start` to `stop` (not included) share one label: a single layer, or a block where there is no room for each."""

    label: str
    start: int
    stop: int

    @property
    def middle(self) -> float:
        return (self.start + self.stop) / 2


def layer_labels(places: Sequence[Place], height: float) -> list[Labelled]:
    """The labels beside the layers: one a layer where there is room, else one a block; `height` in inches."""
    if len(places) <= NAMED_LAYERS:
        return [Labelled(shortened(place.label, _LABEL_LIMIT), row, row + 1) for row, place in enumerate(places)]
    labels: list[Labelled] = []
    for block in map(Labelled._make, _runs([place.group or place.side for place in places])):
        # Else it would touch the one above.
        if not labels or (block.middle - labels[-1].middle) / len(places) * height > 0.15:
            labels.append(block)
    return labels


def show_labels(axes: Axes, labels: Sequence[Labelled], chosen: Sequence[bool], size: float) -> None:
    """The labels at the left; those of which nothing is chosen in grey."""
    axes.set_yticks([rows.middle for rows in labels])
    axes.set_yticklabels([rows.label for rows in labels], fontsize=size, fontfamily=families(), parse_math=False)
    axes.tick_params(axis="y", length=0, pad=5)
    for text, rows in zip(axes.get_yticklabels(), labels, strict=True):
        if not any(chosen[rows.start : rows.stop]):
            text.set_color(FAINT)


def show_counts(axes: Axes, labels: Sequence[Labelled], counts: Sequence[int]) -> None:
    """How many weights are taken of each layer, or of each block that has a label, at the right of a panel."""
    at_right = axes.get_yaxis_transform()
    axes.text(1.056, 0, "taken", transform=at_right, ha="center", va="bottom", fontsize=7, color=SOFT)
    for rows in labels:
        count = sum(counts[rows.start : rows.stop])
        if count:
            axes.text(1.09, rows.middle, compact(count), transform=at_right, ha="right", va="center", fontsize=6, color=INK)


def layer_axis(axes: Axes, places: Sequence[Place]) -> None:
    """The vertical axis that both maps share: layers in U order from the top, with lines between blocks and sides."""
    axes.set_ylim(len(places), 0)
    sides = {start for _, start, _ in _runs([place.side for place in places])}
    for _, start, _ in _runs([place.group or place.side for place in places])[1:]:
        strong = start in sides
        axes.axhline(start, color=SOFT if strong else LINE, linewidth=0.8 if strong else 0.5, zorder=3)


def mass_by_layer(axes: Axes, attribution: Attribution, names: Sequence[str], chosen: Collection[str], taken: Mapping[str, float]) -> None:
    """Positive and negative mass of each layer of `names`; those outside of `chosen` are grey.

    `taken`: attribution of the weights that a selection takes, by layer, drawn darker inside of the bars.
    """
    mass = np.array([attribution.layers[name].mass for name in names]).reshape(-1, 2)
    rows = np.arange(len(names)) + 0.5
    thickness = 0.76 if len(names) <= NAMED_LAYERS else 1.0
    bare(axes, "Attribution by layer", below=True)
    for side, colour in ((0, POSITIVE), (1, NEGATIVE)):
        colours = [colour if name in chosen else UNCHOSEN for name in names]
        axes.barh(rows, mass[:, side], height=thickness, color=colours, linewidth=0, zorder=2)
    if taken:
        dark = POSITIVE_TAKEN if ablated_sign(attribution.objective) > 0 else NEGATIVE_TAKEN
        axes.barh(rows, [taken.get(name, 0.0) for name in names], height=thickness, color=dark, linewidth=0, zorder=2)
    axes.axvline(0, color=INK, linewidth=0.8, zorder=4)
    low, high = min(mass[:, 1].min(initial=0), 0), max(mass[:, 0].max(initial=0), 0)
    room = 0.05 * (high - low) or 1.0
    axes.set_xlim(low - room, high + room)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.ticklabel_format(axis="x", style="sci", scilimits=(-2, 3), useMathText=True)
    axes.xaxis.get_offset_text().set_fontsize(8)
    axes.grid(axis="x", color=LINE, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    axes.spines["left"].set_visible(False)
    # Instead of a legend, each colour is named above its own half.
    under_title(axes, "◂ works against the concept", colour=NEGATIVE)
    under_title(axes, "draws the concept ▸", colour=POSITIVE, right=True)


def mass_by_timestep(axes: Axes, scale: Axes, attribution: Attribution, names: Sequence[str], chosen: Collection[str]) -> None:
    """The mass of the sign that the objective takes, of each layer of `names` at each timestep; `scale` is for the colour bar."""
    sign = ablated_sign(attribution.objective)
    column = 0 if sign > 0 else 1
    mass = np.stack([attribution.layers[name].timestep_mass[:, column].numpy() for name in names]).astype(np.float64) * sign
    steps = len(attribution.timesteps)
    bare(axes, f"{'Positive' if sign > 0 else 'Negative'} attribution by timestep", below=True)
    under_title(axes, "sum over the weights, on a square-root scale", colour=SOFT)
    # The square root shows weak layers beside a few strong ones.
    largest = float(mass.max(initial=0)) or 1.0
    norm = PowerNorm(0.5, vmin=0, vmax=largest, clip=True)
    image = axes.imshow(
        mass, extent=(0, steps, len(names), 0), aspect="auto", cmap=HEAT[sign], norm=norm, interpolation="nearest", zorder=1
    )
    for start, stop in [(start, stop) for key, start, stop in _runs([str(name in chosen) for name in names]) if key == "False"]:
        axes.add_patch(Rectangle((0, start), steps, stop - start, facecolor="white", alpha=0.8, linewidth=0, zorder=2))
    shown = range(0, steps, -(-steps // 6))
    axes.set_xticks([step + 0.5 for step in shown], [str(attribution.timesteps[step]) for step in shown])
    label(axes, "timestep: from noise ▸ to picture")
    ticks = [tick for tick in MaxNLocator(4).tick_values(0, largest) if 0 <= tick <= largest]
    bar = axes.figure.colorbar(image, cax=scale, ticks=ticks)
    bar.outline.set_visible(False)
    bar.formatter.set_powerlimits((-2, 3))  # type: ignore[attr-defined]
    bar.formatter.set_useMathText(True)  # type: ignore[attr-defined]
    bar.update_ticks()
    scale.tick_params(labelsize=8, colors=SOFT, length=2, width=0.6)
    scale.yaxis.get_offset_text().set(fontsize=8, color=SOFT)
