"""Finished cells of the table, a file each: written at once, whole or not at all, and never mixed with other settings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cad_engine import files
from cad_engine.errors import CadError, first_line
from cad_engine.files import written_whole

from .measures import Count, Measured
from .reference import MainPictures, check_same
from .task import Outcome

FORMAT = 1
PICTURES_KIND = "erase benchmark pictures"
SHOWN = 4
"""Pictures of the concept, and of other scenes, kept of each cell to be looked at."""


@dataclass(frozen=True)
class CellKey:
    """Which cell: a method, a concept and a seed."""

    method: str
    concept: str
    seed: int

    @property
    def file_name(self) -> str:
        """The key as part of a file name: "uce-preserve--star--0"."""
        return f"{slug(self.method)}--{slug(self.concept)}--{self.seed}"


def slug(name: str) -> str:
    """Letters and digits of `name` with single dashes in between."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def check_names(methods: Iterable[str]) -> None:
    """CadError when two methods' names are the same as file names."""
    seen: dict[str, str] = {}
    for method in methods:
        other = seen.setdefault(slug(method), method)
        if other != method:
            raise CadError(f"the methods {other!r} and {method!r} would share their files ({slug(method)}); rename one")


@dataclass(frozen=True)
class Cell:
    """One finished cell.

    Attributes:
        made_with: settings and versions, see settings.MeasureSettings.described and method_identity.
        outcome: what the method said of itself.
        seconds: wall time of the method alone; `cpu_seconds` is the processor time of the same, which a busy machine does not lengthen.
        machine: see settings.machine.
    """

    key: CellKey
    made_with: dict[str, Any]
    outcome: Outcome
    seconds: float
    cpu_seconds: float
    machine: dict[str, Any]
    measured: Measured


def save_cell(folder: Path, cell: Cell, pictures: MainPictures) -> None:
    """Write `cell` and SHOWN of its pictures into `folder`; the cell comes last, so that where there is one its pictures are there too.

    Raises CadError when the place cannot be written.
    """
    shown = {"target": _bytes(pictures.target[:SHOWN]), "rest": _bytes(_both_rests(pictures))}
    files.write(_pictures_path(folder, cell.key), PICTURES_KIND, shown, {"cell": asdict(cell.key)})
    with written_whole(cell_path(folder, cell.key)) as temporary:
        temporary.write_text(json.dumps({"format": FORMAT, **asdict(cell)}, indent=1) + "\n", encoding="utf-8")


def load_cell(folder: Path, key: CellKey, made_with: dict[str, Any]) -> Cell | None:
    """The cell of `key`, None when it is not done yet. CadError when its file is damaged or was made with anything but `made_with`."""
    path = cell_path(folder, key)
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found.pop("format") != FORMAT:
            raise ValueError(f"not of format {FORMAT}")
        measured = found["measured"]
        cell = Cell(
            key=CellKey(**found["key"]),
            made_with=found["made_with"],
            outcome=Outcome(**found["outcome"]),
            seconds=float(found["seconds"]),
            cpu_seconds=float(found["cpu_seconds"]),
            machine=dict(found["machine"]),
            measured=Measured(
                counts={name: _count(count) for name, count in measured["counts"].items()},
                squared_difference=float(measured["squared_difference"]),
                attack_losses={name: (float(first), float(last)) for name, (first, last) in measured["attack_losses"].items()},
                shown=[bool(passed) for passed in measured["shown"]],
                right=[bool(passed) for passed in measured["right"]],
            ),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CadError(
            f"{path} is damaged or no cell of this benchmark ({first_line(error)}); delete it to have it measured again"
        ) from error
    if cell.key != key:
        raise CadError(f"{path} is the cell {cell.key.file_name}, expected {key.file_name}; was it renamed?")
    check_same(path, cell.made_with, made_with)
    return cell


def load_shown(folder: Path, key: CellKey) -> tuple[Tensor, Tensor]:
    """Pictures of the concept and of other scenes of a finished cell, both float [SHOWN, 3, 64, 64] in [0, 1]."""
    tensors, _ = files.read(_pictures_path(folder, key), PICTURES_KIND)
    return tensors["target"].float() / 255, tensors["rest"].float() / 255


def shown_verdicts(measured: Measured) -> tuple[list[bool], list[bool]]:
    """The verdicts on the pictures of load_shown."""
    half = len(measured.right) // 2
    each = SHOWN // 2
    return measured.shown[:SHOWN], measured.right[:each] + measured.right[half : half + each]


def _both_rests(pictures: MainPictures) -> Tensor:
    """Half of SHOWN of named and half of unnamed words."""
    return torch.cat([pictures.rest_named[: SHOWN // 2], pictures.rest_unnamed[: SHOWN // 2]])


def cell_path(folder: Path, key: CellKey) -> Path:
    """The file of a cell in a work folder."""
    return folder / f"{key.file_name}.json"


def _pictures_path(folder: Path, key: CellKey) -> Path:
    return folder / f"{key.file_name}.pictures.safetensors"


def _count(count: Any) -> Count:
    hits, of = count
    return int(hits), int(of)


def _bytes(pictures: Tensor) -> Tensor:
    return (pictures * 255).round().clamp(0, 255).byte()
