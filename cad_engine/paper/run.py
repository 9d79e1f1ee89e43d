"""A table from its plan to its numbers: edits, then pictures, shared by all processes, going on where an earlier run ended."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..checkpoints.denoiser import DiffusersDenoiser
from ..edit import Edit, applied
from ..errors import CadError, shown
from ..generate import generate
from ..images import read_pixels, save_picture
from ..processes import Processes
from ..progress import Progress, silent
from .plan import UNEDITED, PlannedEdit, Table
from .planned_edits import kept_edit, make_edit
from .rows import Values
from .store import Store, Unit, needs_unedited, units

Work = TypeVar("Work")
WEIGHTS_KEPT = 4
"""Edits that a process keeps read."""


def run_table(
    table: Table,
    denoiser: DiffusersDenoiser,
    model: dict[str, Any],
    out: Path,
    processes: Processes,
    *,
    batch: int = 4,
    keep_pictures: bool = False,
    progress: Progress = silent,
) -> Values | None:
    """The numbers of all pictures of `table`; None for all processes but the first.

    Args:
        model: what names the model: its fingerprint, and what else the numbers depend on.
        out: folder of the run; the table is in a folder of it, and edits are shared by all tables.
        batch: pictures painted together. Another number may change the last digits, so that a run keeps to its own.

    Raises CadError for a folder of other settings, before any work, and for what making an edit or judging a picture raises.
    """
    store = Store(out / f"table-{table.number}", {**table.described(), "batch": batch, "model": model})
    edits_folder = out / "edits"
    if processes.first:
        store.open()
        try:
            edits_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CadError(f"cannot make the folder {edits_folder}: {error.strerror}; choose another place") from error

    def make(planned: PlannedEdit) -> None:
        def staged(stage: str, done: int, total: int) -> None:
            progress(f"{shown(planned.name, 40)}: {stage}", done, total)

        make_edit(edits_folder, planned, denoiser, model, staged)

    def absent(planned: PlannedEdit) -> bool:
        return kept_edit(edits_folder, planned, model) is None

    _share(processes, table.edits, absent, make, _counted(progress, table, "edits"))
    painter = _Painter(table, denoiser, model, edits_folder, store, keep_pictures)
    everything = units(table, batch)
    unedited = [unit for unit in everything if unit.arm == UNEDITED]
    edited = [unit for unit in everything if unit.arm != UNEDITED]
    for name, part in (("unedited", unedited), ("edited", edited)):  # the first are what the second are judged beside
        _share(
            processes,
            part,
            lambda unit: store.values(unit) is None or (keep_pictures and not store.has_pictures(table, unit)),
            painter.paint,
            _counted(progress, table, f"{name} pictures"),
            lambda unit: len(unit.numbers),
        )
    if not processes.first:
        return None
    values: Values = {}
    for unit in everything:
        found = store.values(unit)
        assert found is not None
        values.setdefault((table.lists[unit.of].name, unit.arm), {}).update(zip(unit.numbers, found, strict=True))
    return values


def _counted(progress: Progress, table: Table, what: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(f"table {table.number}: {what}", done, total)


def _share(
    processes: Processes,
    work: Sequence[Work],
    absent: Callable[[Work], bool],
    do: Callable[[Work], None],
    count: Callable[[int, int], None],
    size: Callable[[Work], int] = lambda _: 1,
) -> None:
    """Do what of `work` is `absent`, each by one of the processes; all come back when all of it is done."""
    own = processes.next_work()
    if own.first:
        own.tell("absent", json.dumps([number for number, one in enumerate(work) if absent(one)]))
    left: list[int] = json.loads(own.heard("absent"))
    total = sum(size(one) for one in work)
    before = total - sum(size(work[number]) for number in left)

    def counted() -> None:
        count(before + own.add("sizes", 0), total)

    if total:
        counted()
    while (number := own.add("begun") - 1) < len(left):
        one = work[left[number]]
        do(one)
        own.add("sizes", size(one))
        own.add("done")
        counted()
    own.wait_for("done", len(left), counted)
    if total:
        counted()


class _Painter:
    """Paints and judges units, with the edits of a folder."""

    def __init__(
        self, table: Table, denoiser: DiffusersDenoiser, model: dict[str, Any], edits: Path, store: Store, keep_pictures: bool
    ) -> None:
        self._table, self._denoiser, self._model, self._edits, self._store = table, denoiser, model, edits, store
        self._keep_pictures = keep_pictures
        self._weights = {name: layer.weight for name, layer in denoiser.layers.items()}
        self._planned = {edit.name: edit for edit in table.edits}
        self._read: dict[str, Edit] = {}

    def paint(self, unit: Unit) -> None:
        """Paint, judge and keep one unit."""
        table, listed = self._table, self._table.lists[unit.of]
        cases = [listed.cases[number] for number in unit.numbers]
        pictures = self._painted(unit, unit.arm)
        beside = None
        if needs_unedited(listed, unit.arm):
            beside = torch.stack([self._unedited(unit, number) for number in unit.numbers])
            pictures = pictures.mul(255).round().div(255)  # as the other comes out of its file
        if listed.judge.beside_unedited and unit.arm == UNEDITED:
            values = torch.zeros(len(cases))  # from itself
        else:
            values = listed.judge.values(pictures, cases, beside)
        if not bool(torch.isfinite(values).all()):
            raise CadError(
                f"table {table.number}, {listed.name}, {unit.arm}: a picture has no finite number; is --dtype too small for this model?"
            )
        if self._keep_pictures or (listed.judge.beside_unedited and unit.arm == UNEDITED):
            for number, picture in zip(unit.numbers, pictures, strict=True):
                path = self._store.picture(listed, unit.arm, number)
                path.parent.mkdir(parents=True, exist_ok=True)
                save_picture(path, picture)
        self._store.keep(unit, values.tolist())

    def _painted(self, unit: Unit, arm: str) -> Tensor:
        table = self._table
        cases = [table.lists[unit.of].cases[number] for number in unit.numbers]
        edit = nullcontext() if arm == UNEDITED else applied(self._edit(arm), self._weights)
        with edit:
            return generate(
                self._denoiser,
                [case.prompt for case in cases],
                [case.seed for case in cases],
                steps=table.steps,
                cfg=table.guidance_of(cases[0]),
                batch=len(cases),
                size=table.size,
            )

    def _unedited(self, unit: Unit, number: int) -> Tensor:
        listed = self._table.lists[unit.of]
        path = self._store.picture(listed, UNEDITED, number)
        if not path.exists():
            raise CadError(
                f"there is no picture {path} any more, beside which others are judged; delete {self._store.folder} and begin anew"
            )
        return torch.from_numpy(read_pixels(path)).permute(2, 0, 1).float() / 255

    def _edit(self, arm: str) -> Edit:
        if arm not in self._read:
            if len(self._read) >= WEIGHTS_KEPT:
                self._read.clear()
            edit = kept_edit(self._edits, self._planned[arm], self._model)
            if edit is None:
                raise CadError(f"the edit {self._edits / self._planned[arm].file_name} has vanished; start again to have it made anew")
            self._read[arm] = edit
        return self._read[arm]
