"""The common looks of a figure's panels."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap

# Orange and blue are told apart with every common kind of colour blindness, and in print by where they stand.
POSITIVE, NEGATIVE = "#d9710b", "#2166ac"
POSITIVE_TAKEN, NEGATIVE_TAKEN = "#7a3503", "#0b2f5c"
UNCHOSEN = "#ccd2db"
INK, SOFT, FAINT, LINE, BAND = "#1c2230", "#5b6474", "#9aa4b2", "#dfe3ea", "#eef1f5"
RULE_COLOURS = {"row": "#1c2230", "row_min1": "#7a8699", "layer": "#1b9e77", "global": "#b07aa1"}
HEAT = {
    1: LinearSegmentedColormap.from_list("positive", ["#fdf9f3", "#fbd9ad", "#f0993a", "#c4570a", "#6d2a05"]),
    -1: LinearSegmentedColormap.from_list("negative", ["#f4f8fc", "#bcd7ee", "#5b9fd3", "#2166ac", "#0b2f5c"]),
}


def bare(axes: Axes, title: str, *, below: bool = False) -> None:
    """A panel with its title and two thin spines; `below` leaves room for a line below the title."""
    axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold", color=INK, pad=21 if below else 7)
    axes.tick_params(labelsize=8, colors=SOFT, length=3, width=0.6, labelcolor=INK)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(SOFT)
        spine.set_linewidth(0.6)


def under_title(axes: Axes, text: str, *, colour: str, right: bool = False) -> None:
    """A line of text between the title and the panel, at its left or right end."""
    x, side = (1, "right") if right else (0, "left")
    axes.annotate(text, (x, 1), (0, 6), xycoords="axes fraction", textcoords="offset points", ha=side, fontsize=8.5, color=colour)


def label(axes: Axes, x: str, y: str = "") -> None:
    """What the axes are, in small soft letters."""
    axes.set_xlabel(x, fontsize=8.5, color=SOFT)
    axes.set_ylabel(y, fontsize=8.5, color=SOFT)


def room_above(axes: Axes, low: float, high: float, room: float) -> None:
    """A logarithmic y axis from `low` whose data, up to `high`, leave the upper part to the legend: 1 / `room` is theirs."""
    axes.set_ylim(low, low * max(high / low, 10) ** room)
