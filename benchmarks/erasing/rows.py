"""From cells to the table: a row for each method and concept over all seeds, and means over concepts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from cad_engine.audit.wilson import wilson_interval
from cad_engine.sandbox.captions import KINDS, kind_of

from .cells import Cell
from .measures import SHARES, Count

ALL_KINDS = "all"


@dataclass(frozen=True)
class Row:
    """Cells of one method, added up.

    Attributes:
        concept: None in a row over several concepts.
        kind: of the concepts; ALL_KINDS when they are of several.
        counts: by the names of measures.SHARES, over all cells.
        unrelated_distance: root mean square difference of the rest pictures from the unedited model's.
        weights, evaluations, seconds, cpu_seconds: means over the cells.
        images: pictures painted by the edited model and judged.
        concepts: how many.
    """

    method: str
    concept: str | None
    kind: str
    counts: dict[str, Count]
    unrelated_distance: float
    weights: float
    evaluations: float
    seconds: float
    cpu_seconds: float
    images: int
    seeds: list[int]
    concepts: int

    def share(self, name: str) -> float | None:
        """A share by its name in measures.SHARES; None when it was not measured."""
        if name not in self.counts:
            return None
        hits, of = self.counts[name]
        return hits / of

    @property
    def rest(self) -> Count:
        """Pictures of both rests with everything right."""
        named, unnamed = self.counts["rest_named"], self.counts["rest_unnamed"]
        return named[0] + unnamed[0], named[1] + unnamed[1]

    def described(self) -> dict[str, Any]:
        """As JSON: shares with their 95 % Wilson intervals and counts."""
        shares = {name: self.share(name) for name in SHARES if name in self.counts}
        return {
            "method": self.method,
            "concept": self.concept,
            "kind": self.kind,
            **{name: None if share is None else round(share, 4) for name, share in shares.items()},
            "unrelated_distance": round(self.unrelated_distance, 6),
            "weights": round(self.weights, 1),
            "evaluations": round(self.evaluations, 1),
            "seconds": round(self.seconds, 3),
            "cpu_seconds": round(self.cpu_seconds, 3),
            "images": self.images,
            "seeds": self.seeds,
            "concepts": self.concepts,
            "intervals": {name: [round(end, 4) for end in wilson_interval(*self.counts[name])] for name in shares},
            "counts": {name: list(self.counts[name]) for name in shares},
        }


# Measures on pictures that another measure counts already.
_SAME_PICTURES = ("target_rest", "two_kept")


def summed(cells: Sequence[Cell]) -> Row:
    """One row of the `cells` of one method; with equal numbers of pictures a share is also the mean over the cells."""
    names = [name for name in SHARES if all(name in cell.measured.counts for cell in cells)]
    counts = {name: _total([cell.measured.counts[name] for cell in cells]) for name in names}
    concepts = list(dict.fromkeys(cell.key.concept for cell in cells))
    kinds = {kind_of(concept) for concept in concepts}
    return Row(
        method=cells[0].key.method,
        concept=concepts[0] if len(concepts) == 1 else None,
        kind=kinds.pop() if len(kinds) == 1 else ALL_KINDS,
        counts=counts,
        unrelated_distance=math.sqrt(fmean(cell.measured.squared_difference for cell in cells)),
        weights=fmean(cell.outcome.weights for cell in cells),
        evaluations=fmean(cell.outcome.evaluations for cell in cells),
        seconds=fmean(cell.seconds for cell in cells),
        cpu_seconds=fmean(cell.cpu_seconds for cell in cells),
        images=sum(of for name, (_, of) in counts.items() if name not in _SAME_PICTURES),
        seeds=sorted({cell.key.seed for cell in cells}),
        concepts=len(concepts),
    )


def _total(counts: Sequence[Count]) -> Count:
    return sum(hits for hits, _ in counts), sum(of for _, of in counts)


def concept_rows(cells: Sequence[Cell]) -> list[Row]:
    """One row for each method and concept, in the order of the cells."""
    groups: dict[tuple[str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.key.method, cell.key.concept), []).append(cell)
    return [summed(group) for group in groups.values()]


def method_rows(cells: Sequence[Cell], kind: str = ALL_KINDS) -> list[Row]:
    """One row for each method over the concepts of `kind`, or over all."""
    groups: dict[str, list[Cell]] = {}
    for cell in cells:
        if kind in (ALL_KINDS, kind_of(cell.key.concept)):
            groups.setdefault(cell.key.method, []).append(cell)
    return [summed(group) for group in groups.values()]


def kinds_of(cells: Sequence[Cell]) -> list[str]:
    """The kinds of concepts that occur, in the order of the grammar."""
    found = {kind_of(cell.key.concept) for cell in cells}
    return [kind for kind in KINDS if kind in found]
