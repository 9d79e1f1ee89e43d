"""What CAD Audit counts with: measures that need no file, and models in a model folder of ComfyUI."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import folder_paths

from ..cad_engine.errors import CadError, shown
from ..cad_engine.measures.measure import Measure
from ..cad_engine.measures.named import named_measures
from .folders import SUFFIX, shown_path

FOLDER = "cad_measures"
"""Has a folder for each model, as transformers or timm save it. A graph names one of these folders and no path."""
NONE = "(none)"
BUILT_IN = {"pictures only": (), "sandbox judge": ("sandbox",), "nudity": ("nudity",), "nudity, as the paper": ("nudity:paper",)}
Kind = Literal["clip", "classifier"]


def register() -> None:
    """Make the folder known to ComfyUI, behind those that the user's extra_model_paths.yaml names for it."""
    own = Path(folder_paths.models_dir) / FOLDER
    folder_paths.add_model_folder_path(FOLDER, str(own))
    folder_paths.folder_names_and_paths[FOLDER][1].add(SUFFIX)
    with suppress(OSError):  # matters only to whoever wants to put something there
        own.mkdir(parents=True, exist_ok=True)


def options(kind: Kind) -> list[str]:
    """What a drop-down offers: NONE, and the names of models of `kind`."""
    return [NONE, *sorted(_models(kind))]


def chosen(measure: str, clip: str, classifier: str, label: str, concept: str) -> tuple[list[Measure], list[Measure]]:
    """The measures of `concept`, and those of what must stay.

    Raises CadError for a model that cannot be read, and for a classifier without a label that it knows.
    """
    names = list(BUILT_IN[measure])
    if clip != NONE:
        names.append(f"clip:{_existing('clip', clip)}")
    if classifier != NONE:
        if not label.strip():
            raise CadError(f"label is empty; write what the classifier {shown(classifier, 60)!r} calls the concept, or its number")
        names.append(f"classifier:{_existing('classifier', classifier)}:{label.strip()}")
    found = [named_measures(name, concept) for name in names]
    return [each for one in found for each in one.concept], [each for one in found for each in one.kept]


def _existing(kind: Kind, name: str) -> Path:
    found = _models(kind).get(name)
    if found is None:
        places = " or ".join(shown_path(Path(place)) for place in folder_paths.get_folder_paths(FOLDER))
        raise CadError(f"there is no folder {shown(name, 60)!r} with a model of this kind in {places}; put it there, and refresh")
    return found


def _models(kind: Kind) -> dict[str, Path]:
    """Folders of models by name; where two places have the same name, the first."""
    found: dict[str, Path] = {}
    for place in folder_paths.get_folder_paths(FOLDER):
        with suppress(OSError):
            for folder in Path(place).iterdir():
                if _kind(folder) == kind:
                    found.setdefault(folder.name, folder)
    return found


def _kind(folder: Path) -> Kind | None:
    """What the config.json of `folder` says that it is; None where there is none."""
    config: Any = None
    with suppress(OSError, ValueError):
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not isinstance(config, dict):
        return None
    return "clip" if config.get("model_type") == "clip" else "classifier"


register()
