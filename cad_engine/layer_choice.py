"""A part of an attribution's layers, chosen by name, glob pattern or label; what is made from it touches no other layer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from .attribution import Attribution
from .errors import CadError, shown
from .report.unet_map import layer_label


def parse_patterns(text: str) -> list[str]:
    """Patterns of `text`, one a line; blank lines are left out."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def matching(names: Iterable[str], patterns: Sequence[str]) -> list[str]:
    """Those of `names` that any of `patterns` matches, in their order; no pattern at all matches every name.

    A pattern is a name ("diffusion_model.middle_block.1...") or a label ("mid 1 · block 0 · ff in"); * stands for any characters, ?
    for one. Raises CadError for a pattern that matches nothing.
    """
    names = list(names)
    if not patterns:
        return names
    labels = {name: layer_label(name) for name in names}
    chosen: set[str] = set()
    for pattern in patterns:
        found = {name for name in names if any(text == pattern or fnmatchcase(text, pattern) for text in (name, labels[name]))}
        if not found:
            raise CadError(
                f"the layer pattern {shown(pattern, 100)!r} matches none of the {len(names)} layers, "
                f"such as {shown(names[0], 100)!r}; * stands for any characters"
            )
        chosen |= found
    return [name for name in names if name in chosen]


def choose(attribution: Attribution, patterns: Sequence[str]) -> Attribution:
    """`attribution` with the layers that `patterns` match (see `matching`) alone; info["layers"] lists them."""
    if not patterns:
        return attribution
    names = matching(attribution.layers, patterns)
    layers = {name: attribution.layers[name] for name in names}
    return replace(attribution, layers=layers, info={**attribution.info, "layers": names})
