"""All cells of the table, one after the other, in a work folder from which an interrupted run goes on."""

from __future__ import annotations

import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from cad_engine.checkpoints.denoiser import DiffusersDenoiser
from cad_engine.errors import CadError, first_line
from cad_engine.progress import Progress, silent
from cad_engine.sandbox.judge import Judge

from .cells import Cell, CellKey, check_names, load_cell, save_cell, slug
from .measures import measure
from .reference import Reference, load_reference, make_reference, paint_main, save_reference
from .restoring import unchanged_after, weights_digest
from .settings import MeasureSettings, machine, method_identity
from .task import Method, Task, task
from .unedited import UNEDITED, unedited


@dataclass
class Table:
    """What came of a run: finished cells in the order of methods, concepts and seeds, and what went wrong, by cell."""

    cells: list[Cell] = field(default_factory=list)
    failures: dict[CellKey, str] = field(default_factory=dict)


class MethodFailedError(RuntimeError):
    """A method raised an exception, or left a model that paints nothing finite; nobody else's fault, so that other cells can go on."""


class Watcher:
    """Is told how a run gets on; this one does nothing."""

    def cell(self, key: CellKey, number: int, total: int) -> None:
        """Cell `number` of the `total` that are to be measured now (from 1) begins."""

    def step(self, stage: str, done: int, total: int) -> None:
        """The Progress of the cell's stages."""

    def finished(self, key: CellKey) -> None:
        """The cell is measured and stored, or has failed."""


class Run:
    """Cells of `methods` x `concepts` x `seeds` on one model, kept in `folder`, which is made if it is missing.

    Raises CadError on a folder that cannot be used and on names that do not go together; and, before any work is done, on a cell or
    reference in it that was made with other settings or versions (`check`).
    """

    def __init__(
        self,
        denoiser: DiffusersDenoiser,
        judge: Judge,
        methods: Mapping[str, Method],
        concepts: Sequence[str],
        seeds: Sequence[int],
        settings: MeasureSettings,
        folder: Path,
    ) -> None:
        self.denoiser, self.judge, self.settings, self.folder = denoiser, judge, settings, folder
        self.methods: dict[str, Method] = {UNEDITED: unedited, **methods}
        check_names(self.methods)
        self.concepts, self.seeds = list(dict.fromkeys(concepts)), list(dict.fromkeys(seeds))
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CadError(f"cannot make the folder {folder}: {error.strerror}; choose another place with --resume") from error
        self.made_with = settings.described(weights_digest(denoiser))
        # Now, as the files may be edited while this runs, which changes nothing of what runs.
        self._identities = {name: method_identity(method) for name, method in self.methods.items()}

    def keys(self) -> list[CellKey]:
        """All cells, method by method."""
        return [CellKey(method, concept, seed) for method in self.methods for concept in self.concepts for seed in self.seeds]

    def loaded(self, key: CellKey) -> Cell | None:
        """The finished cell of `key`, or None."""
        return load_cell(self.folder, key, self._made_with(key))

    def check(self) -> list[CellKey]:
        """The cells still to do, seed by seed and concept by concept, so that early ones say something about every method."""
        missing = [key for key in self.keys() if self.loaded(key) is None]
        for concept, seed in dict.fromkeys((key.concept, key.seed) for key in missing):
            if self._reference_path(concept, seed).exists():
                load_reference(self._reference_path(concept, seed), self.made_with)
        return sorted(missing, key=lambda key: (self.seeds.index(key.seed), self.concepts.index(key.concept)))

    def table(self, watcher: Watcher | None = None) -> Table:
        """Do what is missing and return everything. A method that fails is noted and its cell left out; an interrupt ends the run."""
        watcher, result = watcher or Watcher(), Table()
        torch.set_num_threads(self.settings.threads)
        missing = self.check()
        for number, key in enumerate(missing, start=1):
            watcher.cell(key, number, len(missing))
            try:
                self.measure(key, watcher.step)
            except MethodFailedError as error:
                traceback.print_exc()
                result.failures[key] = first_line(error)
            watcher.finished(key)
        result.cells = [cell for key in self.keys() if (cell := self.loaded(key)) is not None]
        return result

    def measure(self, key: CellKey, progress: Progress = silent) -> Cell:
        """Do one cell and store it; the model is afterwards bit for bit what it was, however this ends.

        Raises MethodFailedError for the method's own exceptions and for pictures that are not finite, ModelNotRestoredError when the method
        left behind what cannot be taken back, and CadError when the work folder cannot be written.
        """
        method, todo = self.methods[key.method], task(key.concept, key.seed)
        reference = self.reference(todo, progress)
        with unchanged_after(self.denoiser, f"the method {key.method!r}"):
            torch.manual_seed(key.seed)  # for a method that forgets to seed itself
            began, cpu_began = time.perf_counter(), time.process_time()
            try:
                outcome = method(self.denoiser, todo, progress)
            except Exception as error:
                raise MethodFailedError(f"{type(error).__name__}: {first_line(error)}") from error
            seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - cpu_began
            edited = key.method != UNEDITED
            try:
                pictures = paint_main(self.denoiser, todo, self.settings.pictures, progress) if edited else reference.pictures
            except CadError as error:
                raise MethodFailedError(f"the edited model cannot be painted with: {first_line(error)}") from error
            measured = measure(self.denoiser, self.judge, todo, self.settings, reference, pictures, progress)
        cell = Cell(key, self._made_with(key), outcome, round(seconds, 3), round(cpu_seconds, 3), machine(), measured)
        save_cell(self.folder, cell, pictures)
        return cell

    def reference(self, todo: Task, progress: Progress = silent) -> Reference:
        """The unedited model's pictures for a task, from the work folder or painted now."""
        path = self._reference_path(todo.concept, todo.seed)
        if not path.exists():
            save_reference(path, make_reference(self.denoiser, todo, self.settings, progress), self.made_with)
        return load_reference(path, self.made_with)

    def _reference_path(self, concept: str, seed: int) -> Path:
        return self.folder / f"reference--{slug(concept)}--{seed}.safetensors"

    def _made_with(self, key: CellKey) -> dict[str, object]:
        return {**self.made_with, "method": self._identities[key.method]}
