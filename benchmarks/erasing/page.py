"""The benchmark as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cad_engine.report.html import Cell as TableCell
from cad_engine.report.html import Report, ReportImage, ReportSection, ReportTable, Share, settings_table, write_report
from cad_engine.report.png import png_bytes

from .cells import Cell, load_shown, shown_verdicts
from .markdown import percent_with_interval
from .measures import SHARES
from .pareto import pareto_figure
from .picture_grid import MethodPictures, picture_grid
from .rows import ALL_KINDS, Row, concept_rows, kinds_of, method_rows
from .run import Table
from .unedited import UNEDITED

GRID_CONCEPTS = 4
INTERVAL_NOTE = (
    "Shares with 95 % Wilson intervals, in percent, over all pictures of all concepts and seeds. The intervals cover the chance of the "
    "pictures; how much concepts differ is seen in the table by concept."
)


def write_page(path: Path, table: Table, settings: Mapping[str, Any], folder: Path, amplify: dict[str, Any] | None) -> None:
    """Write the page of `table`, whose pictures are in the work folder; `amplify` is amplify.amplify_table's, None without it.

    Raises CadError when the place cannot be written.
    """
    write_report(path, report(table, settings, folder, amplify))


def report(table: Table, settings: Mapping[str, Any], folder: Path, amplify: dict[str, Any] | None) -> Report:
    """The page's content. Raises CadError when pictures are missing from the work folder."""
    cells = table.cells
    kinds = kinds_of(cells)
    overall = method_rows(cells)
    by_kind = {kind: method_rows(cells, kind) for kind in kinds}
    plotted = by_kind if len(kinds) == 1 else {ALL_KINDS: overall, **by_kind}
    sections = [
        ReportSection(
            "Erased against kept",
            [
                f"Left is better erased, up is better kept (named and unnamed rest together); the dotted line joins the methods that none "
                f"beats in both. {INTERVAL_NOTE}",
                ReportImage(png_bytes(pareto_figure(plotted)), _plot_in_words(overall)),
            ],
        ),
        ReportSection("Methods, over all concepts", [_main_table(overall), _more_table(overall), _cost_table(overall)]),
        *([ReportSection("By kind of concept", [_main_table(by_kind[kind], kind) for kind in kinds])] if len(kinds) > 1 else []),
        ReportSection("By concept", _concept_tables(cells)),
        ReportSection("Pictures", _grids(cells, folder)),
        *([ReportSection("Amplifying the rare shape", [_amplify_table(amplify)])] if amplify else []),
        *([ReportSection("What failed", [_failures(table)])] if table.failures else []),
        ReportSection("What the columns are", [_legend(overall)]),
        ReportSection("Settings", [settings_table(settings)]),
    ]
    return Report("Erasing concepts from the sandbox", _summary(cells, overall), sections)


def _summary(cells: Sequence[Cell], overall: Sequence[Row]) -> str:
    concepts, seeds = {cell.key.concept for cell in cells}, {cell.key.seed for cell in cells}
    edited = [row for row in overall if row.method != UNEDITED]
    counted = f"{_count(len(edited), 'method')} on {_count(len(concepts), 'concept')}, {_count(len(seeds), 'seed')}"
    return (
        f"{counted}, against the unedited model: how much of the concept is left, and what erasing it cost elsewhere. Every method was "
        "given the same prompt, base prompt and list of prompts to keep. The same classifier judges all, on the same prompts and with the "
        "same seeds, which no method has used."
    )


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _plot_in_words(rows: Sequence[Row]) -> str:
    said = [f"{row.method} {100 * (row.share('target') or 0):.0f} and {100 * row.rest[0] / row.rest[1]:.0f} %" for row in rows]
    return f"Pictures that still show the concept, and other pictures that are right, by method over all concepts: {'; '.join(said)}"


def _main_table(rows: Sequence[Row], kind: str = ALL_KINDS) -> ReportTable:
    """Erased and kept, a line for each method."""
    most = max(row.concepts for row in rows)
    caption = f"Means over {_count(most, 'concept')}" + ("" if kind == ALL_KINDS else f" of kind {kind}")
    partial = [row.method for row in rows if row.concepts < most]
    if partial:
        caption += f"; not all of them are measured for {', '.join(partial)}"
    lines: list[list[TableCell]] = []
    for row in rows:
        bars = [Share(row.share(name) or 0.0, _unbroken(percent_with_interval(row, name))) for name in _MAIN]
        lines.append([row.method, *bars, f"{row.unrelated_distance:.4f}"])
    return ReportTable(["Method", *_MAIN.values(), "Distance"], lines, caption)


def _cost_table(rows: Sequence[Row]) -> ReportTable:
    lines: list[list[TableCell]] = [
        [row.method, round(row.weights), round(row.evaluations), f"{row.seconds:.1f}", f"{row.cpu_seconds:.1f}"] for row in rows
    ]
    return ReportTable(["Method", "Weights", "Evaluations", "Seconds", "CPU seconds"], lines, "Cost of one concept, means")


def _more_table(rows: Sequence[Row]) -> ReportTable:
    names = [name for name in _MORE if any(name in row.counts for row in rows)]
    lines: list[list[TableCell]] = [[row.method, *(_unbroken(percent_with_interval(row, name)) for name in names)] for row in rows]
    return ReportTable(["Method", *(_MORE[name] for name in names)], lines, "Harder ways of asking, and what else the pictures show")


_MAIN = {"target": "Still shown", "rest_named": "Named rest right", "rest_unnamed": "Unnamed rest right"}
_MORE = {
    "target_rest": "Other parts of these pictures right",
    "paraphrased": "Shown when paraphrased",
    "two_erased": "Two concepts: erased one shown",
    "two_kept": "Two concepts: kept one shown",
    "adversarial": "Shown under attack",
    "adversarial_from_base": "Shown under attack from the base prompt",
}


def _concept_tables(cells: Sequence[Cell]) -> list[str | ReportTable | ReportImage]:
    """A folded table for each concept."""
    rows = concept_rows(cells)
    tables: list[str | ReportTable | ReportImage] = []
    for concept in dict.fromkeys(row.concept for row in rows):
        own = [row for row in rows if row.concept == concept]
        lines: list[list[TableCell]] = [
            [
                *(row.method, *(_unbroken(percent_with_interval(row, name)) for name in _MAIN), f"{row.unrelated_distance:.4f}"),
                *(round(row.weights), round(row.evaluations), f"{row.seconds:.1f}"),
            ]
            for row in own
        ]
        headers = ["Method", *_MAIN.values(), "Distance", "Weights", "Evaluations", "Seconds"]
        tables.append(ReportTable(headers, lines, f"{concept} ({own[0].kind})", folded=True))
    return tables


def _grids(cells: Sequence[Cell], folder: Path) -> list[str | ReportTable | ReportImage]:
    """A grid for each of some concepts, one of each kind first, of the first seed."""
    seed = min(cell.key.seed for cell in cells)
    images: list[str | ReportTable | ReportImage] = []
    for concept in grid_concepts(cells):
        rows = []
        for cell in cells:
            if (cell.key.concept, cell.key.seed) == (concept, seed):
                (target, rest), (shown, right) = load_shown(folder, cell.key), shown_verdicts(cell.measured)
                rows.append(MethodPictures(cell.key.method, target, shown, rest, right))
        if rows:
            alt = f"Pictures of “{concept}” and of other things by {', '.join(row.method for row in rows)}"
            images.append(ReportImage(png_bytes(picture_grid(concept, rows)), alt, f"Erasing “{concept}”, seed {seed}"))
    return images


def grid_concepts(cells: Sequence[Cell]) -> list[str]:
    """GRID_CONCEPTS concepts to be shown: the first of each kind, then the following ones."""
    concepts = list(dict.fromkeys(cell.key.concept for cell in cells))
    first = [next(row.concept for row in concept_rows(cells) if row.kind == kind) for kind in kinds_of(cells)]
    chosen = [concept for concept in first if concept is not None]
    return [*chosen, *(concept for concept in concepts if concept not in chosen)][:GRID_CONCEPTS]


def _failures(table: Table) -> ReportTable:
    lines = [[key.method, key.concept, str(key.seed), reason] for key, reason in table.failures.items()]
    return ReportTable(["Method", "Concept", "Seed", "Reason"], lines, "Not in the tables above")


def _amplify_table(table: dict[str, Any]) -> ReportTable:
    lines = [
        [
            row["label"],
            *(Share(row[what], _with_interval(row[what], row[f"{what}_interval"])) for what in ("target", "others")),
            round(row["weights"]),
        ]
        for row in table["rows"]
    ]
    caption = f"“{table['concept']}”, ratio {table['ratio']:g}, rule {table['rule']}, {_count(len(table['seeds']), 'seed')}"
    return ReportTable(["Model", "Pictures of it that show it", "Other pictures right", "Weights set to zero"], lines, caption, strong=(1,))


def _with_interval(share: float, interval: Sequence[float]) -> str:
    low, high = interval
    return _unbroken(f"{100 * share:.0f} ({100 * low:.0f}-{100 * high:.0f})")


def _unbroken(text: str) -> str:
    """`text` that stays on one line in a narrow column."""
    return text.replace("-", "\u2011").replace(" ", "\u00a0")


def _legend(rows: Sequence[Row]) -> ReportTable:
    lines: list[list[TableCell]] = [[{**_MAIN, **_MORE}[name], SHARES[name]] for name in SHARES if any(name in row.counts for row in rows)]
    lines += [
        ["Distance", "root mean square difference, in a range of 0 to 1, of the other pictures from the unedited model's"],
        ["Weights", "how many weights the method changed"],
        ["Evaluations", "forwards of the UNet on one sample; a forward and backward counts as three"],
        ["Seconds", "wall time of the method alone, on the machine and with the threads named under Settings"],
        ["CPU seconds", "processor time of the same, which other work on the machine does not lengthen"],
    ]
    return ReportTable(["Column", "What it is"], lines)
