"""The table as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from cad_engine.audit.wilson import wilson_interval

from .rows import Row

COLUMNS = {
    "target": "target",
    "target_rest": "its other parts",
    "rest_named": "rest named",
    "rest_unnamed": "rest unnamed",
    "paraphrased": "paraphrased",
    "two_erased": "two: erased",
    "two_kept": "two: kept",
    "adversarial": "adversarial",
    "adversarial_from_base": "from base",
}


def markdown_table(rows: Sequence[Row], *, concepts: bool = False) -> str:
    """`rows` with shares in percent and, where it counts most, their 95 % interval; a column for the concept when asked for."""
    names = [name for name in COLUMNS if any(name in row.counts for row in rows)]
    heads = ["method", *(["concept"] if concepts else []), *(COLUMNS[name] for name in names)]
    heads += ["distance", "weights", "evaluations", "seconds"]
    lines = [heads, ["---"] * len(heads)]
    for row in rows:
        cost = [f"{row.unrelated_distance:.4f}", f"{row.weights:,.0f}", f"{row.evaluations:,.0f}", f"{row.seconds:.1f}"]
        shares = [
            percent_with_interval(row, name) if name in ("target", "rest_named", "rest_unnamed") else _percent(row, name) for name in names
        ]
        lines.append([row.method, *([row.concept or row.kind] if concepts else []), *shares, *cost])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def percent_with_interval(row: Row, name: str) -> str:
    """A share and its interval: "12 (7-20)", in percent; a dash when it was not measured."""
    if name not in row.counts:
        return "\u2013"
    low, high = wilson_interval(*row.counts[name])
    return f"{_percent(row, name)} ({100 * low:.0f}-{100 * high:.0f})"


def _percent(row: Row, name: str) -> str:
    share = row.share(name)
    return "\u2013" if share is None else f"{100 * share:.0f}"
