"""An attribution or edit in a line, for the text on a node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..cad_engine.attribution import Attribution
from ..cad_engine.edit import Edit
from ..cad_engine.errors import shown

_CONCEPTS = 3
"""Named of an edit that combines several."""


def concepts(info: Mapping[str, Any]) -> str:
    """What a file was made for, as its `info` tells: "erase 'a star'"; of combined edits, each."""
    combined = info.get("combined")
    if isinstance(combined, list):
        named = [concepts(part) for part in combined[:_CONCEPTS] if isinstance(part, Mapping)]
        return " + ".join([*named, *(["..."] if len(combined) > _CONCEPTS else [])])
    return f"{shown(info.get('objective', 'edit'), 20)} {shown(info.get('concept', 'an unnamed concept'), 60)!r}"


def attribution_line(attribution: Attribution) -> str:
    """Concept, size, and up to which ratio it can be used, or how many weights it changes by itself."""
    up_to = "" if attribution.keep_ratio >= 1 else f", for ratios up to {attribution.keep_ratio:g}"
    changed = f", {changed_count(attribution):,} changed in rounds" if attribution.solved else ""
    total, layers = attribution.weights_total, len(attribution.layers)
    return f"{concepts(attribution.info)}: {total:,} weights in {layers} layers scored{changed}{up_to}"


def changed_count(attribution: Attribution) -> int:
    """How many weights the edit of an attribution that was solved in rounds changes."""
    return sum(len(layer.index) for layer in attribution.layers.values())


def edit_line(edit: Edit) -> str:
    """Concept, and how many weights it takes."""
    return f"{concepts(edit.info)}: {len(edit):,} weights in {len(edit.layers)} layers"
