"""Results of tables as JSON and Markdown, beside the paper's numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import CadError, first_line
from ..files import written_whole
from .plan import TITLES, Table
from .rows import COLUMNS, Row

JSON_FILE, MARKDOWN_FILE = "results.json", "results.md"
UNITS = {
    1: "percent of the pictures",
    2: "detections, all pictures together",
    3: "mean distance",
    4: "mean a picture",
    5: "percent of the pictures",
    6: "detections, all pictures together",
}


def table_result(table: Table, rows: Sequence[Row], model: dict[str, Any]) -> dict[str, Any]:
    """What the results say of one table."""
    return {
        "table": table.number,
        "title": TITLES[table.number],
        "unit": UNITS[table.number],
        "stand_ins": list(table.stand_ins),
        "judges": {listed.name: listed.judge.name for listed in table.lists},
        "model": model,
        "settings": table.described(),
        "rows": list(rows),
    }


def write_table(folder: Path, result: dict[str, Any]) -> None:
    """Write one table's results into its folder."""
    _write(folder / JSON_FILE, json.dumps(result, indent=2, allow_nan=False) + "\n")


def write_all(out: Path) -> None:
    """Write results.json and results.md of all finished tables in `out`, whichever command made them. CadError for a damaged one."""
    paths = [out / f"table-{number}" / JSON_FILE for number in sorted(TITLES)]
    results = [_read(path) for path in paths if path.exists()]
    _write(out / JSON_FILE, json.dumps({"tables": results}, indent=2, allow_nan=False) + "\n")
    _write(out / MARKDOWN_FILE, "# The paper's tables\n\n" + "\n".join(markdown(result) for result in results))


def markdown(result: dict[str, Any]) -> str:
    """One table in Markdown, the paper's numbers in columns beside each of ours, "-" where they are not known."""
    columns = COLUMNS[result["table"]]
    head = ["", "pictures", *(part for column in columns for part in (column, f"{column}, paper"))]
    lines = [
        f"## Table {result['table']}. {result['title']}",
        "",
        f"Numbers are {result['unit']}, of {result['model']['name']}; the paper's are of Stable Diffusion 1.4.",
        "",
    ]
    if result["stand_ins"]:
        lines += ["Not comparable with the paper's:", "", *(f"- {one}" for one in result["stand_ins"]), ""]
    lines += [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for row in result["rows"]:
        cells = [str(row["row"]).replace("|", "\\|"), str(row["pictures"])]
        for column in columns:
            cells += [number_text(result["table"], row["ours"][column]), number_text(result["table"], row["paper"][column])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def number_text(table: int, value: float | None) -> str:
    """A number as the table has it, "-" for None."""
    if value is None:
        return "-"
    digits = {1: 1, 2: 0, 3: 3, 4: 2, 5: 1, 6: 0}[table]
    return f"{value:.{digits}f}"


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        markdown(found)  # has all that is made of it
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise CadError(f"{path} is damaged ({first_line(error)}); delete it and measure its table again") from error
    assert isinstance(found, dict)
    return found


def _write(path: Path, text: str) -> None:
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
