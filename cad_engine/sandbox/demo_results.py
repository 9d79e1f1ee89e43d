"""What the demo leaves in its folder: a report with pictures, the attribution, the edit, and the figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..attribution import Attribution
from ..attribution_file import save_attribution
from ..edit import Edit
from ..edit_file import save_edit
from ..files import written_whole
from ..report.grid import GridRow, before_after_grid
from ..report.html import Report, ReportImage, ReportSection, ReportTable, ReportViewer, Share, settings_table, write_report
from ..report.interactive import shown_data
from ..report.layer_table import layer_report_table
from ..report.png import png_bytes, save_png
from .evaluation import Painted

GRID_ROWS, GRID_COLUMNS = 3, 6


def write_results(
    out: Path,
    attribution: Attribution,
    edit: Edit,
    painted: dict[str, tuple[Painted, Painted]],
    results: dict[str, Any],
) -> None:
    """Write report.html, grid.png, attribution.safetensors, edit.safetensors and results.json into `out`."""
    objective, concept = results["objective"], results["concept"]
    grid = before_after_grid(_grid_rows(concept, painted), verdict="the judge sees what the prompt asks for")
    view = ReportViewer(shown_data(attribution, ratio=None if attribution.solved else results["ratio"], rule=results["selection"]))
    names = {"before": "Before", "after": "After the edit", "random_weights": "Control: as many random weights"}
    table = ReportTable(
        ["", f"Pictures of “{concept}” that show it", "Other pictures with shape, colour and style right"],
        [[label, Share(results[name]["target"]), Share(results[name]["others"])] for name, label in names.items()],
        caption=f"Judged on {results['pictures']['target']} and {results['pictures']['others']} pictures, same seeds in each row",
        strong=(1,),
    )
    done = "suppress" if objective == "erase" else "strengthen"
    before, after = results["before"], results["after"]
    how = "scaled" if attribution.solved else "set to zero"
    summary = (
        f"To {done} “{concept}”, {results['weights_changed']:,} of {results['weights_total']:,} weights "
        f"({', '.join(results['components'])}) were {how}. The concept then shows in {after['target']:.0%} of the pictures that "
        f"ask for it ({before['target']:.0%} before), and {after['others']:.0%} of the other pictures are all right "
        f"({before['others']:.0%} before)."
    )
    sections = [
        ReportSection("Result", [table, ReportImage(png_bytes(grid), "Pictures before and after the edit, same seeds")]),
        ReportSection(
            "Where the concept is drawn",
            [view, layer_report_table(attribution)],
        ),
        ReportSection("Settings", [settings_table({**results, "attribution": attribution.info})]),
    ]
    save_attribution(out / "attribution.safetensors", attribution)
    save_edit(out / "edit.safetensors", edit)
    save_png(grid, out / "grid.png")
    write_report(out / "report.html", Report(f"CAD on the sandbox: {objective} “{concept}”", summary, sections))
    with written_whole(out / "results.json") as temporary:
        temporary.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _grid_rows(concept: str, painted: dict[str, tuple[Painted, Painted]]) -> list[GridRow]:
    """Some pictures of the concept, in one row, and of other prompts, in rows of their own."""

    def row(caption: str, part: int, start: int) -> GridRow:
        chosen = slice(start, start + GRID_COLUMNS)
        before, after = painted["before"][part], painted["after"][part]
        if part == 0:
            marks = ([verdict.shows(concept) for verdict in side.verdicts[chosen]] for side in (before, after))
        else:
            marks = (side.right()[chosen] for side in (before, after))
        before_ok, after_ok = marks
        prompts = ", ".join(case.prompt for case in before.cases[chosen])
        return GridRow(f"{caption}: {prompts}", before.pictures[chosen], after.pictures[chosen], before_ok, after_ok)

    rows = [row(f"prompts with “{concept}”", 0, 0)]
    available = len(painted["before"][1].cases)
    starts = [start for start in range(0, available, GRID_COLUMNS) if start + GRID_COLUMNS <= available][: GRID_ROWS - 1]
    return rows + [row("other prompts", 1, start) for start in starts]
