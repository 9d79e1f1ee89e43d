"""Finished pictures of a table: a small file for each few that were painted together, written whole, and never mixed with other settings.

Which pictures are painted together is fixed by the list alone, so that what they are does not depend on where a run was interrupted or on
how many processes there are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CadError, first_line, shown
from ..files import written_whole
from .plan import UNEDITED, PictureList, Table

SETTINGS = "settings.json"


@dataclass(frozen=True)
class Unit:
    """Pictures that are painted together: those `numbers` of the list number `of` with the edit `arm`, all with the same guidance."""

    of: int
    arm: str
    arm_number: int
    numbers: tuple[int, ...]

    @property
    def file_name(self) -> str:
        return f"{self.of}-{self.arm_number}-{self.numbers[0]:06d}.json"


def units(table: Table, batch: int) -> list[Unit]:
    """All that is to be painted, the unedited model's pictures first."""
    found = []
    for arm_number, arm in enumerate(table.arms):
        for of, pictures in enumerate(table.lists):
            by_guidance: dict[float, list[int]] = {}
            for number in pictures.cases_of(arm):
                by_guidance.setdefault(table.guidance_of(pictures.cases[number]), []).append(number)
            for numbers in by_guidance.values():
                found += [Unit(of, arm, arm_number, tuple(numbers[start : start + batch])) for start in range(0, len(numbers), batch)]
    return found


class Store:
    """The folder of one table; see the module.

    Args:
        settings: what all of its numbers depend on.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder, self.settings = folder, json.loads(json.dumps(settings))

    def open(self) -> None:
        """Make the folder, or check that it is of these settings. CadError names the first that differs."""
        path = self.folder / SETTINGS
        try:
            (self.folder / "values").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CadError(f"cannot make the folder {self.folder}: {error.strerror}; choose another place") from error
        if not path.exists():
            with written_whole(path) as temporary:
                temporary.write_text(json.dumps(self.settings, indent=1) + "\n", encoding="utf-8")
            return
        there = _json(path)
        difference = _first_difference(there, self.settings)
        if difference is not None:
            raise CadError(f"{self.folder} is of a run with other settings: {difference}; choose another --out, or move it away")

    def values(self, unit: Unit) -> list[float] | None:
        """The numbers of a unit's pictures, None when it is not done. CadError for a damaged file."""
        path = self.folder / "values" / unit.file_name
        if not path.exists():
            return None
        there = _json(path)
        values = there.get("values") if isinstance(there, dict) else None
        if (
            not isinstance(values, list)
            or len(values) != len(unit.numbers)
            or there.get("numbers") != list(unit.numbers)
            or not all(type(value) is float and math.isfinite(value) for value in values)
        ):
            raise CadError(f"{path} is damaged or was made by something else; delete it to have these pictures painted again")
        return values

    def keep(self, unit: Unit, values: Sequence[float]) -> None:
        """Write the numbers of a unit's pictures."""
        with written_whole(self.folder / "values" / unit.file_name) as temporary:
            content = {"numbers": list(unit.numbers), "values": [float(value) for value in values]}
            temporary.write_text(json.dumps(content, allow_nan=False) + "\n", encoding="utf-8")

    def picture(self, pictures: PictureList, arm: str, number: int) -> Path:
        """Where a picture is kept."""
        return self.folder / "pictures" / _plain(pictures.name) / _plain(arm) / f"{number:06d}.png"

    def has_pictures(self, table: Table, unit: Unit) -> bool:
        """Whether all pictures of a unit are kept."""
        return all(self.picture(table.lists[unit.of], unit.arm, number).exists() for number in unit.numbers)


def needs_unedited(pictures: PictureList, arm: str) -> bool:
    """Whether a picture is judged beside the unedited model's."""
    return pictures.judge.beside_unedited and arm != UNEDITED


def _plain(name: str) -> str:
    return "".join(sign if sign.isascii() and (sign.isalnum() or sign in "-_") else "-" for sign in name)[:60]


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CadError(f"{path} is damaged ({first_line(error)}); delete it") from error


def _first_difference(there: Any, here: Any, name: str = "") -> str | None:
    if isinstance(there, dict) and isinstance(here, dict):
        for key in sorted(there.keys() | here.keys()):
            inner = _first_difference(there.get(key), here.get(key), f"{name} {key}".strip())
            if inner is not None:
                return inner
        return None
    return None if there == here else f"{shown(name)} {shown(repr(there), 80)} there, {shown(repr(here), 80)} now"
