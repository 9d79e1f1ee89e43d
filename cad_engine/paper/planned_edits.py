"""The edits of a table: each made once, kept as an edit file, and taken from there ever after."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..checkpoints.denoiser import DiffusersDenoiser
from ..concept import attribute_concept
from ..edit import Edit
from ..edit_file import load_edit, save_edit
from ..erasure import edit_from_attribution
from ..errors import CadError, shown
from ..progress import Progress, silent
from .plan import PlannedEdit

KEY = "made_for"
"""What an edit of a table says of itself: the model and the settings that it is for."""


def edit_key(planned: PlannedEdit, model: dict[str, Any]) -> dict[str, Any]:
    """See KEY."""
    return {"edit": planned.file_name, **model}


def kept_edit(folder: Path, planned: PlannedEdit, model: dict[str, Any]) -> Edit | None:
    """The edit of an earlier run, None where there is none.

    Raises CadError for a damaged file and for one that was made from another model.
    """
    path = folder / planned.file_name
    if not path.exists():
        return None
    edit = load_edit(path)
    if edit.info.get(KEY) != edit_key(planned, model):
        raise CadError(f"{path} was made from another model or with other settings; move it away, or choose another folder")
    return edit


def make_edit(folder: Path, planned: PlannedEdit, denoiser: DiffusersDenoiser, model: dict[str, Any], progress: Progress = silent) -> None:
    """Attribute the concept, select, and write the edit. Raises CadError, with the concept's name, as these do."""
    try:
        latents = None
        if planned.images is not None:
            with torch.no_grad():
                latents = denoiser.encode(planned.images())
        attribution = attribute_concept(denoiser, planned.settings, latents, progress)
        edit = edit_from_attribution(attribution, planned.ratio, planned.rule)
    except CadError as error:
        raise CadError(f"{shown(planned.name)!r}: {error}") from error
    save_edit(folder / planned.file_name, Edit(edit.layers, {**edit.info, KEY: edit_key(planned, model)}))
