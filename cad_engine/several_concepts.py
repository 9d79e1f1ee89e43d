"""Many concepts of one model, each into a file of its own, by one process or several that take them from one list as they become free."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .attribution_file import KIND, save_attribution
from .concept import attribute_concept, attribution_info
from .concept_settings import ConceptSettings
from .denoiser import Denoiser
from .errors import CadError, shown
from .files import read_info
from .processes import Processes
from .progress import Progress, silent

FOUND = frozenset({"score", "rounds_done", "push"})
"""What a file says of itself that was found while it was made."""
FOOTPRINT = frozenset({"batch", "checkpointing"})
"""Settings that change speed and memory alone."""
CONCEPTS = "concepts"
"""The stage of progress that counts concepts done by all processes."""


@dataclass(frozen=True)
class Wanted:
    """A concept's settings and the file that its attribution is to be written to."""

    settings: ConceptSettings
    path: Path


def attribute_concepts(
    denoiser: Denoiser,
    wanted: Sequence[Wanted],
    processes: Processes,
    progress: Progress = silent,
    info: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write the attributions that are `wanted` and not there yet; the files that all processes have made, in the order of `wanted`.

    Every process gets the same arguments, but for `progress`, which is told of the concepts that all have done (CONCEPTS), and, as
    "CONCEPT: STAGE", of its own. The first process returns when all is done, the others when nothing is left for them to begin.
    `info` is added to what the files say of themselves. Raises CadError, before any work, for a file in the place of one that is wanted
    that was made from another model or with other settings; and as attribute_concept does, with the concept's name.
    """
    processes = processes.next_work()
    if processes.first:
        absent = [number for number, one in enumerate(wanted) if not _is_there(denoiser, one, info or {})]
        processes.tell("absent", json.dumps(absent))
    left: list[int] = json.loads(processes.heard("absent"))
    done = len(wanted) - len(left)

    def concepts_done() -> None:
        progress(CONCEPTS, done + processes.add("done", 0), len(wanted))

    concepts_done()
    while (number := processes.add("begun") - 1) < len(left):
        one = wanted[left[number]]
        concept = shown(one.settings.concept, 40)

        def staged(stage: str, now: int, total: int, concept: str = concept) -> None:
            progress(f"{concept}: {stage}", now, total)
            concepts_done()

        try:
            attribution = attribute_concept(denoiser, one.settings, None, staged, info)
        except CadError as error:
            raise CadError(f"{shown(one.settings.concept)!r}: {error}") from error
        save_attribution(one.path, attribution)
        processes.add("done")
        concepts_done()
    if processes.first:
        processes.wait_for("done", len(left), concepts_done)
        concepts_done()
    return [wanted[number].path for number in left]


def _is_there(denoiser: Denoiser, wanted: Wanted, info: Mapping[str, Any]) -> bool:
    """Whether the attribution is there already; not when nothing is.

    Raises CadError for a file that is no attribution, or another one, naming the first thing in which they differ.
    """
    path = wanted.path
    if not path.exists():
        return False
    remedy = "move it away, or choose another folder"
    there = read_info(path)
    made = there.get("info")
    if there.get("kind") != KIND or not isinstance(made, dict):
        raise CadError(f"{path} is a CAD {shown(there.get('kind'), 20)!r} file, in the place of an attribution; {remedy}")
    expected = json.loads(json.dumps({**attribution_info(denoiser, wanted.settings), **info}))
    for key in sorted((made.keys() | expected.keys()) - FOUND - FOOTPRINT):
        if made.get(key) != expected.get(key):
            raise CadError(f"{path} was made with {key} {_said(made, key)}, and this run has {_said(expected, key)}; {remedy}")
    return True


def _said(info: Mapping[str, Any], key: str) -> str:
    return shown(repr(info[key]), 80) if key in info else "unsaid"
