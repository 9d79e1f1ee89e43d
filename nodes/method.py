"""The choices of CAD Attribute's input `method`, as the engine's settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..cad_engine.errors import CadError
from ..cad_engine.objective import Kind

METHODS = ("rounds", "per harm", "paper")


@dataclass(frozen=True)
class Chosen:
    """What of ConceptSettings the method decides, and what people should know of it: lines of text, none when all is as they said."""

    keep: tuple[str, ...]
    rounds: int
    contexts: tuple[str, ...]
    remarks: tuple[str, ...]


def chosen(method: str, objective: Kind, keep: str, contexts: str, rounds: int, ordinary: Sequence[str]) -> Chosen:
    """`method` with the lines of `keep` and `contexts`; `ordinary` are the prompts that are kept when nobody says which.

    Rounds erase only: to amplify, they stand for "per harm" with a keep list and for "paper" without one.
    Raises CadError for another method.
    """
    if method not in METHODS:
        raise CadError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    lines, sentences = _lines(keep), _lines(contexts)
    remarks = []
    if method == "rounds" and objective == "amplify":
        method = "per harm" if lines else "paper"
        remarks.append(f"rounds are for the objective erase; to amplify, the method {method} was used")
    unused = [name for name, given in (("keep", lines), ("contexts", sentences)) if given and not _uses(method, name)]
    if unused:
        remarks.append(f"the method {method} does not use {' and '.join(unused)}")
    if method == "paper":
        return Chosen((), 0, (), tuple(remarks))
    if not lines:
        lines = tuple(ordinary)
        remarks.append(f"keep is empty, so {len(lines)} ordinary prompts were kept")
    if method == "rounds":
        return Chosen(lines, rounds, sentences, tuple(remarks))
    return Chosen(lines, 0, (), tuple(remarks))


def _uses(method: str, name: str) -> bool:
    return method == "rounds" or (method == "per harm" and name == "keep")


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())
