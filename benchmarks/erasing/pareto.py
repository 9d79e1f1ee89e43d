"""Erased against kept as a figure: a panel for each kind of concept, a mark for each method."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from cad_engine.audit.wilson import wilson_interval
from cad_engine.report.fonts import families
from cad_engine.report.plot_style import FAINT, INK, LINE, SOFT, bare, label

from .rows import ALL_KINDS, Row
from .unedited import UNEDITED

# Okabe and Ito's colours, told apart with every common kind of colour blindness; with the shapes, also in print.
_COLOURS = ("#000000", "#d55e00", "#0072b2", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5195", "#8c564b", "#6b7a1e")
_SHAPES = ("o", "s", "^", "D", "v", "P", "<", "h", ">", "p")
_WIDTH, _PANEL, _COLUMNS, _DPI = 8.6, 3.5, 2, 150
"""Inches: of the figure, and of a row of panels; panels in a row; dots an inch."""


def looks(methods: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Colour and shape of each method's mark, in the order given; the unedited model is a grey cross."""
    edited = [method for method in methods if method != UNEDITED]
    marks = {method: (_COLOURS[i % len(_COLOURS)], _SHAPES[i % len(_SHAPES)]) for i, method in enumerate(edited)}
    return {method: marks.get(method, (FAINT, "X")) for method in methods}


def frontier(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those (target, rest) that no other point beats: with less of the concept no point has as much of the rest; by rising target."""
    best: list[tuple[float, float]] = []
    for target, rest in sorted(set(points), key=lambda point: (point[0], -point[1])):
        if not best or rest > best[-1][1]:
            best.append((target, rest))
    return best


def pareto_figure(rows_by_kind: Mapping[str, Sequence[Row]]) -> Figure:
    """A figure of `rows_by_kind`, rows.method_rows of each kind; marks with 95 % intervals, and the line no method is beyond."""
    kinds = list(rows_by_kind)
    marks = looks(list(dict.fromkeys(row.method for rows in rows_by_kind.values() for row in rows)))
    columns = min(_COLUMNS, len(kinds))
    panel_rows, legend_rows = -(-len(kinds) // columns), -(-len(marks) // 5)
    bottom = 0.6 + 0.24 * legend_rows
    height = _PANEL * panel_rows + bottom - 0.25
    figure = Figure(figsize=(_WIDTH, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(panel_rows, columns, squeeze=False).flat)
    for number, (panel, kind) in enumerate(zip(panels, kinds, strict=False)):
        _panel(panel, rows_by_kind[kind], marks)
        count = max(row.concepts for row in rows_by_kind[kind])
        concepts = f"{count} concept" if count == 1 else f"{count} concepts"
        bare(panel, f"all kinds: {concepts}" if kind == ALL_KINDS else f"{kind}: {concepts}")
        label(panel, "pictures that still show it", "other pictures right" if number % columns == 0 else "")
    for panel in panels[len(kinds) :]:
        panel.set_visible(False)
    handles = [
        Line2D([], [], color=colour, marker=shape, linestyle="", markersize=7, label=name) for name, (colour, shape) in marks.items()
    ]
    figure.legend(handles=handles, loc="lower center", ncols=5, frameon=False, prop={"family": families(), "size": 8.5}, labelcolor=INK)
    figure.subplots_adjust(left=0.09, right=0.985, top=1 - 0.35 / height, bottom=bottom / height, wspace=0.17, hspace=0.36)
    return figure


def _panel(axes: Axes, rows: Sequence[Row], marks: Mapping[str, tuple[str, str]]) -> None:
    points = []
    for row in rows:
        colour, shape = marks[row.method]
        x, y = row.share("target") or 0.0, row.rest[0] / row.rest[1]
        for ends in ((wilson_interval(*row.counts["target"]), (y, y)), ((x, x), wilson_interval(*row.rest))):
            axes.plot(*ends, color=colour, linewidth=0.8, alpha=0.45, zorder=2)
        axes.plot(x, y, color=colour, marker=shape, markersize=7, markeredgecolor="white", markeredgewidth=0.6, linestyle="", zorder=3)
        points.append((x, y))
    best = frontier(points)
    axes.plot([x for x, _ in best], [y for _, y in best], color=SOFT, linewidth=0.8, linestyle=":", drawstyle="steps-post", zorder=1)
    axes.set_xlim(-0.04, 1.04)
    axes.set_ylim(-0.04, 1.04)
    axes.grid(color=LINE, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
