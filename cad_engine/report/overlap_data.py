"""Overlaps of attributions as the JSON that the viewer draws from, beside viewer_data. Format: docs/files.md."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..attribution import Attribution
from ..overlap import RATIO, Overlap, overlaps
from ..selection import Rule
from .text import percent, shortened
from .viewer_data import described_layers

_CONCEPT_LIMIT = 100
EXACT = 0.005
"""Bounds that are nearer to each other than this are told as one number."""


def overlap_data(attributions: Sequence[Attribution], ratio: float | None, rule: Rule) -> dict[str, Any] | None:
    """What an edit from each of `attributions` would do to each other, at `ratio` by `rule` (see overlap.taken_weights).

    None for less than two. Raises CadError where they cannot be compared.
    """
    if len(attributions) < 2:
        return None
    matrix = overlaps(attributions, ratio, rule)
    concepts = _concepts(attributions)
    names = described_layers(attributions[0])
    return {
        "ratio": RATIO if ratio is None and not all(each.solved for each in attributions) else ratio,
        "rule": rule,
        "concepts": [
            {
                "concept": concept,
                "objective": each.objective,
                "score": each.score,
                "solved": each.solved and ratio is None,
                "same_model": each.info.get("fingerprint") == attributions[0].info.get("fingerprint"),
            }
            for concept, each in zip(concepts, attributions, strict=True)
        ],
        "pairs": [
            [
                None
                if found is None
                else {**_pair(found), "sentence": _sentence(found, concepts[i], concepts[j], attributions[i], attributions[j])}
                for j, found in enumerate(row)
            ]
            for i, row in enumerate(matrix)
        ],
        "layers": [[_layer(found, name) for found in matrix[0][1:]] for name in names],
    }


def _concepts(attributions: Sequence[Attribution]) -> list[str]:
    """What each is called; of two with the same concept, the second gets a number."""
    names: list[str] = []
    for each in attributions:
        name = shortened(str(each.info.get("concept", "?")), _CONCEPT_LIMIT)
        number = 1 + sum(before == name or before.startswith(f"{name} (") for before in names)
        names.append(name if number == 1 else f"{name} ({number})")
    return names


def _sentence(found: Overlap, ours: str, theirs: str, a: Attribution, b: Attribution) -> str:
    """Erasing “rembrandt” would touch 31 % of what draws “caravaggio”, or as much as is known of it."""
    doing = f"{'Erasing' if a.objective == 'erase' else 'Amplifying'} “{ours}”"
    if not found.taken:
        return f"{doing} takes no weight at this ratio."
    if found.touched is None:
        share = found.shared / found.taken_by_other if found.taken_by_other else 0.0
        what = "erasing" if b.objective == "erase" else "amplifying"
        return f"{doing} would touch {percent_of(share)} of the weights that {what} “{theirs}” takes."
    low, high = map(percent_of, found.touched)
    share_text = low if low == high or found.touched[1] - found.touched[0] < EXACT else f"{low} to {high}"
    return f"{doing} would touch {share_text} of what {'draws' if b.objective == 'erase' else 'holds back'} “{theirs}”."


def percent_of(share: float) -> str:
    """A share in percent, in two digits below ten."""
    return percent(float(f"{share:.2g}")) if share < 0.0995 else f"{100 * share:.0f}\u00a0%"


def _pair(found: Overlap) -> dict[str, Any]:
    return {
        "taken": found.taken,
        "taken_by_other": found.taken_by_other,
        "shared": found.shared,
        "touched": _bounds(found.touched),
        "mass_correlation": _short(found.mass_correlation),
        "score_correlation": _short(found.score_correlation),
    }


def _layer(found: Overlap | None, name: str) -> list[Any] | None:
    """[taken, shared, bounds of the part of the other's mass in this layer]; None where nothing is taken."""
    if found is None or name not in found.layers:
        return None
    layer = found.layers[name]
    return [layer.taken, layer.shared, _bounds(layer.touched)]


def _bounds(bounds: tuple[float, float] | None) -> list[float] | None:
    return None if bounds is None else [float(f"{bound:.4g}") for bound in bounds]


def _short(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
