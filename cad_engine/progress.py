"""How long work reports where it is, and how it is stopped: a function called between steps, which may raise."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""progress(stage, done, total), called before the first and after every step; an exception it raises ends the work cleanly."""


def silent(stage: str, done: int, total: int) -> None:
    """The Progress that does nothing."""
