"""The run on the terminal: which cell of how many, at what it is, and how long the rest will take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from .cells import CellKey
from .run import Watcher


class TerminalWatcher(Watcher):
    """Draws two bars on stderr with rich: the cells, and the stage of the present one; into a log, a line for each cell."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
        self.bars = Progress(*columns, console=Console(stderr=True), refresh_per_second=4)
        self._cells = self.bars.add_task("cells", total=None, left="")
        self._stage = self.bars.add_task("", total=None, left="", visible=False)
        self._began, self._done, self._total = time.monotonic(), 0, 0

    def cell(self, key: CellKey, number: int, total: int) -> None:
        if number == 1:
            self._began = time.monotonic()
        self._total = total
        self.bars.update(self._cells, description=f"{key.method} · {key.concept} · seed {key.seed}", total=total, completed=number - 1)

    def step(self, stage: str, done: int, total: int) -> None:
        self.bars.update(self._stage, description=f"  {stage}", completed=done, total=total, visible=True)

    def finished(self, key: CellKey) -> None:
        self._done += 1
        each = (time.monotonic() - self._began) / self._done
        left = f"{duration(each * (self._total - self._done))} left"
        self.bars.update(self._cells, completed=self._done, left=left)
        if not self.bars.console.is_terminal:  # bars are not drawn in a log
            self.bars.console.print(f"{self._done}/{self._total} {key.method} · {key.concept} · seed {key.seed}, {left}", highlight=False)


def duration(seconds: float) -> str:
    """Hours and minutes, or minutes, or seconds: "2 h 5 min", "12 min", "40 s"."""
    minutes = round(seconds / 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min" if minutes else f"{seconds:.0f} s"


@contextmanager
def terminal() -> Iterator[TerminalWatcher]:
    """A watcher whose bars are drawn inside the block."""
    watcher = TerminalWatcher()
    with watcher.bars:
        yield watcher
