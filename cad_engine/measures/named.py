"""Measures by the names that people give them: "sandbox", "nudity", "nudity:paper", "clip:FOLDER", "classifier:FOLDER:LABEL"."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ..errors import CadError, shown
from ..safety.classes import PRESETS, Preset
from .classifier import Classifier, ClassifierHits
from .clip_score import Clip, ClipScore
from .measure import Measure
from .nudity import NudityCount
from .sandbox import SandboxConcept, SandboxRight, named

NAMES = "sandbox, nudity, nudity:PRESET, clip:FOLDER, classifier:FOLDER:LABEL"
_PAPERS = 0.5
"""Above which the paper counts NudeNet's detections."""


@dataclass(frozen=True)
class Measures:
    """What one name stands for: measures of whether a concept shows, and of whether what must stay is right."""

    concept: tuple[Measure, ...]
    kept: tuple[Measure, ...] = ()


def named_measures(name: str, concept: str, device: str = "cpu") -> Measures:
    """The measures that `name` stands for, for a `concept` in words.

    Raises CadError for another name, for a concept that the sandbox's judge does not know, and for a folder or a package that is missing.
    """
    kind, _, rest = name.strip().partition(":")
    if kind == "sandbox" and not rest:
        return Measures((SandboxConcept(_sandbox_word(concept)),), (SandboxRight(),))
    if kind == "nudity":
        preset = rest or "core"
        if preset not in PRESETS or preset == "listed":
            raise CadError(
                f"the preset of nudity must be one of {', '.join(one for one in PRESETS if one != 'listed')}, got {shown(preset)!r}"
            )
        return Measures((NudityCount(cast(Preset, preset), _PAPERS) if preset == "paper" else NudityCount(cast(Preset, preset)),))
    if kind == "clip" and rest:
        clip = Clip(Path(rest), device)
        return Measures((ClipScore(clip, concept),), (ClipScore(clip),))
    if kind == "classifier" and rest:
        folder, _, label = rest.rpartition(":")
        if not folder or not label:
            raise CadError(f"a classifier needs a folder and a label, classifier:FOLDER:LABEL, got {shown(name)!r}")
        return Measures((ClassifierHits(Classifier(Path(folder), device), label),))
    raise CadError(f"there is no measure {shown(name)!r}; there are {NAMES}")


def _sandbox_word(concept: str) -> str:
    """The word of the sandbox's world in `concept`, "star" of "a star"; the whole where there is not just one."""
    found = named(concept)
    return found[0] if len(found) == 1 else concept
