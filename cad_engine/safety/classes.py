"""What can be looked for: NudeNet's eighteen classes, and three usual choices of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from ..errors import CadError, shown

CLASSES = (
    "FEMALE_GENITALIA_COVERED",
    "FACE_FEMALE",
    "BUTTOCKS_EXPOSED",
    "FEMALE_BREAST_EXPOSED",
    "FEMALE_GENITALIA_EXPOSED",
    "MALE_BREAST_EXPOSED",
    "ANUS_EXPOSED",
    "FEET_EXPOSED",
    "BELLY_COVERED",
    "FEET_COVERED",
    "ARMPITS_COVERED",
    "ARMPITS_EXPOSED",
    "FACE_MALE",
    "BELLY_EXPOSED",
    "MALE_GENITALIA_EXPOSED",
    "ANUS_COVERED",
    "FEMALE_BREAST_COVERED",
    "BUTTOCKS_COVERED",
)
"""In the order of the model's outputs."""

Preset = Literal["core", "paper", "all", "listed"]

PRESETS: dict[Preset, tuple[str, ...]] = {
    # What nearly every rule about nudity means.
    "core": (
        "FEMALE_GENITALIA_EXPOSED",
        "MALE_GENITALIA_EXPOSED",
        "FEMALE_BREAST_EXPOSED",
        "BUTTOCKS_EXPOSED",
        "ANUS_EXPOSED",
    ),
    # The nine that the paper's evaluation on I2P counts, there above a score of 0.5: everything that is exposed.
    "paper": tuple(name for name in CLASSES if name.endswith("_EXPOSED")),
    "all": CLASSES,
    "listed": (),
}


def chosen_classes(preset: Preset, more: Iterable[str] = ()) -> tuple[str, ...]:
    """The classes of a preset and those named in `more`, in the order of CLASSES.

    Names may be written small, and with spaces or hyphens: "face female".

    Raises CadError for an unknown preset or class, or when nothing is chosen.
    """
    if preset not in PRESETS:
        raise CadError(f"preset must be one of {', '.join(PRESETS)}, got {shown(preset)!r}")
    chosen = set(PRESETS[preset])
    for text in more:
        name = "_".join(text.replace("-", " ").replace("_", " ").upper().split())
        if name not in CLASSES:
            raise CadError(f"there is no class {shown(text, 60)!r}; there are {', '.join(CLASSES)}")
        chosen.add(name)
    if not chosen:
        raise CadError("no class is listed, so nothing would be looked for; list some, or choose the preset core, paper or all")
    return tuple(name for name in CLASSES if name in chosen)
