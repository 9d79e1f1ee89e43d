"""cad inspect: what a CAD file holds."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import Json, check_output, show

if TYPE_CHECKING:
    from ..attribution import Attribution
    from ..selection import Rule


def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An attribution or edit file.")],
    plot: Annotated[Path | None, typer.Option(help="Write the plot of an attribution to this PNG.")] = None,
    html: Annotated[Path | None, typer.Option(help="Write a self-contained HTML page of an attribution, with a map to work with.")] = None,
    compare: Annotated[
        list[Path] | None,
        typer.Option(help="Another attribution of the same model: what this one's edit would touch of it. May be given several times."),
    ] = None,
    ratio: Annotated[
        float | None, typer.Option(help="Part of the weights that overlaps are counted at; default: what rounds found, else 0.01.")
    ] = None,
    select: Annotated[str, typer.Option(help="How that ratio is shared out: row, row_min1, layer or global.")] = "global",
    json: Json = False,
) -> None:
    """Show the layers of an attribution with their positive and negative mass and counts, or what an edit takes."""
    from ..errors import CadError
    from ..files import read_info

    for out in (plot, html):
        if out is not None:
            check_output(out, file, html if out is plot else plot, *(compare or ()))
    kind = read_info(file).get("kind")
    if kind == "edit":
        if plot is not None or html is not None or compare:
            raise CadError(f"{file} is an edit; --plot, --html and --compare are for attributions")
        _inspect_edit(file, json)
    elif kind == "attribution":
        _inspect_attribution(file, plot, html, compare or [], ratio, select, json)
    else:
        raise CadError(f"{file} is a CAD {kind!r} file; cad inspect reads attributions and edits")


def _inspect_edit(file: Path, as_json: bool) -> None:
    from ..edit_file import load_edit
    from ..errors import shown

    edit = load_edit(file)
    total = sum(layer.out_features * layer.in_features for layer in edit.layers.values())
    result: dict[str, Any] = {
        "kind": "edit",
        "info": edit.info,
        "weights_taken": len(edit),
        "layers": {name: len(layer.index) for name, layer in edit.layers.items()},
        "parts": [{"info": part.info, "weights_taken": len(part), "layers": len(part.layers)} for part in edit.parts],
    }
    lines = [f"edit of {len(edit):,} weights in {len(edit.layers)} layers ({total:,} weights in these layers)"]
    for number, part in enumerate(edit.parts, start=1):
        lines.append(
            f"part {number} {shown(part.info.get('concept', 'unnamed'), 60)!r}: {len(part):,} weights in {len(part.layers)} layers"
        )
        lines += [f"  {shown(key)}: {shown(value)}" for key, value in part.info.items()]
    if not edit.parts:
        lines += [f"  {shown(key)}: {shown(value)}" for key, value in edit.info.items()]
    lines += [f"  {count:>9,}  {shown(name)}" for name, count in result["layers"].items()]
    show(result, as_json, "\n".join(lines))


def _inspect_attribution(
    file: Path, plot: Path | None, html: Path | None, compare: list[Path], ratio: float | None, select: str, as_json: bool
) -> None:
    from ..attribution_file import load_attribution
    from ..report.counts import RATIOS, taken_counts, usable_ratios
    from ..report.layer_table import layer_rows
    from ..report.overlap_data import overlap_data
    from ..selection import RULES, checked_rule

    attribution = load_attribution(file)
    others = [load_attribution(other) for other in compare]
    rule = checked_rule(select)
    overlap = overlap_data([attribution, *others], ratio, rule)
    ratios = usable_ratios(attribution, RATIOS)
    rows = layer_rows(attribution, ratios)
    counts = {rule: taken_counts(attribution, rule, ratios) for rule in RULES}
    if plot is not None:
        from ..report.plot import attribution_figure
        from ..report.png import save_png

        save_png(attribution_figure(attribution), plot)
    if html is not None:
        _write_html(attribution, others, ratio, rule, html)
    if as_json:
        layers = [
            {"name": row.name, "label": row.label, "weights": row.size, "positive_mass": row.positive, "negative_mass": row.negative}
            for row in rows
        ]
        result = {
            "kind": "attribution",
            "info": attribution.info,
            "weights_total": attribution.weights_total,
            "timesteps": attribution.timesteps,
            "keep_ratio": attribution.keep_ratio,
            "layers": layers,
            "ratios": list(ratios),
            "weights_taken": counts,
            "overlap": overlap and {key: value for key, value in overlap.items() if key != "layers"},
        }
        show(result, True, "")
    else:
        _print(attribution, rows, ratios, counts)
        if overlap is not None:
            for number in range(1, len(others) + 1):
                print(overlap["pairs"][0][number]["sentence"])


def _print(attribution: Attribution, rows: Any, ratios: tuple[float, ...], counts: dict[Any, list[int]]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from ..errors import shown
    from ..report.layer_table import layer_headers, total_row
    from ..report.text import percent

    info = attribution.info
    console = Console(width=None if sys.stdout.isatty() else 160)  # a pipe has no width of its own
    against = f" against {shown(info['base'])!r}" if "base" in info else ""
    console.print(escape(f"{info['objective']} {shown(info.get('concept'))!r}{against}"), highlight=False)
    table = Table(show_footer=False)
    for header in layer_headers(attribution, ratios):
        table.add_column(header, justify="left" if header == "Layer" else "right")
    for row in [*rows, total_row(rows)]:
        cells = [
            row.label,
            f"{row.size:,}",
            f"{row.positive:.4g}",
            f"{row.negative:.4g}",
            f"{row.share:.1%}",
            *(f"{n:,}" for n in row.taken),
        ]
        table.add_row(*map(escape, cells))
    console.print(table)
    rules = Table(title="Weights taken over all layers")
    for header in ("Selection", *(percent(ratio) for ratio in ratios)):
        rules.add_column(header, justify="left" if header == "Selection" else "right")
    for rule, taken in counts.items():
        rules.add_row(rule, *(f"{n:,}" for n in taken))
    console.print(rules)


def _write_html(attribution: Attribution, others: list[Attribution], ratio: float | None, rule: Rule, path: Path) -> None:
    from ..report.html import Report, ReportSection, ReportViewer, settings_table, write_report
    from ..report.interactive import shown_data
    from ..report.layer_table import layer_report_table

    concept = str(attribution.info.get("concept"))
    data = shown_data(attribution, tuple(others), ratio, rule)
    sections = [
        ReportSection("Where the concept is drawn", [ReportViewer(data)]),
        ReportSection("Layers", [layer_report_table(attribution)]),
        ReportSection("Settings", [settings_table(attribution.info)]),
    ]
    summary = f"{attribution.weights_total:,} weights in {len(attribution.layers)} layers, scored for “{concept}”."
    write_report(path, Report(f"Attribution of “{concept}”", summary, sections))
