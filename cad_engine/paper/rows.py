"""From the numbers of single pictures to the rows of a table, beside the paper's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import fmean
from typing import Any

from .plan import UNEDITED, Table
from .published import PUBLISHED

Values = dict[tuple[str, str], dict[int, float]]
"""By list and arm ("unedited" or an edit's name), the number of each picture."""

Row = dict[str, Any]
"""{"row": name, "pictures": how many are behind it, "ours": {column: number}, "paper": {column: number or None}}."""

COLUMNS = {
    1: ("target, unedited", "target", "others, unedited", "others"),
    2: ("unedited", "edited"),
    3: ("target", "others"),
    4: ("unedited", "edited"),
    5: ("unedited", "edited"),
    6: ("unedited", "edited"),
}
MEAN = "mean"


def table_rows(table: Table, values: Values) -> list[Row]:
    """The rows of `table`. Percent in tables 1 and 5, sums of detections in 2 and 6, means in 3 and 4."""
    made = _by_edit(table, values) if table.number in (1, 3, 5) else _by_list(table, values)
    if table.number in (1, 3) and len(made) > 1:
        made.append((MEAN, sum(count for _, count, _ in made), _mean([ours for _, _, ours in made])))
    rows = []
    for name, count, ours in made:
        theirs = PUBLISHED[table.number].get(name, {})
        paper = {column: theirs.get(column) for column in COLUMNS[table.number]}
        rows.append({"row": name, "pictures": count, "ours": ours, "paper": paper})
    return rows


def _by_edit(table: Table, values: Values) -> list[tuple[str, int, dict[str, float | None]]]:
    (listed,) = table.lists
    groups = [case.group for case in listed.cases]
    scale = 1 if table.number == 3 else 100

    def mean(arm: str, wanted: Callable[[str], bool]) -> float | None:
        return _scaled((value for number, value in values[listed.name, arm].items() if wanted(groups[number])), scale)

    made = []
    for planned in table.edits:
        name = planned.name

        def own(group: str, name: str = name) -> bool:
            return group == name

        def other(group: str, name: str = name) -> bool:
            return group != name

        if table.number == 1:
            ours = {
                "target, unedited": mean(UNEDITED, own),
                "target": mean(name, own),
                "others, unedited": mean(UNEDITED, other),
                "others": mean(name, other),
            }
        elif table.number == 3:
            ours = {"target": mean(name, own), "others": mean(name, other)}
        else:
            ours = {"unedited": mean(UNEDITED, own), "edited": mean(name, own)}
        made.append((name, len(values[listed.name, name]), ours))
    return made


def _by_list(table: Table, values: Values) -> list[tuple[str, int, dict[str, float | None]]]:
    (planned,) = table.edits
    made = []
    for listed in table.lists:
        both = {"unedited": values[listed.name, UNEDITED], "edited": values[listed.name, planned.name]}
        if table.number == 4:
            ours = {column: _scaled(found.values(), 1) for column, found in both.items()}
        else:
            ours = {column: sum(found.values()) for column, found in both.items()}
        made.append((listed.name, len(both["edited"]), ours))
    return made


def _scaled(values: Iterable[float], scale: float) -> float | None:
    found = list(values)
    return fmean(found) * scale if found else None


def _mean(rows: list[dict[str, float | None]]) -> dict[str, float | None]:
    return {column: _scaled((value for row in rows if (value := row[column]) is not None), 1) for column in rows[0]}
