"""Baking: a checkpoint written again with an edit in its weights, everything else bit for bit as it was."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file, save_file

from .checkpoints.load import load_model
from .checkpoints.reader import CheckpointFile
from .edit import Edit, check_fits, edited_weight
from .errors import CadError
from .files import written_whole
from .sandbox.checkpoint import SANDBOX_FILE

PREFIX = "model."  # what single-file checkpoints put before the names used in edits


def _source(model: str) -> Path:
    return SANDBOX_FILE if model == "sandbox" else Path(model)


def checkpoint_shapes(model: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the UNet's weights by the names that edits use, without loading a single-file checkpoint.

    Raises CadError when `model` is no model that can be read.
    """
    path = _source(model)
    if path.is_dir():
        return {name: tuple(module.weight.shape) for name, module in load_model(model).layers.items()}
    file = CheckpointFile(path)
    return {name.removeprefix(PREFIX): shape for name, shape in file.shapes.items() if name.startswith(PREFIX + "diffusion_model.")}


def check_bake(model: str, out: Path) -> None:
    """Raise CadError when `model` is a diffusers folder, or `out` the checkpoint itself."""
    path = _source(model)
    if path.is_dir():
        raise CadError(f"{path} is a diffusers folder; an edit can be baked into a single-file .safetensors checkpoint only")
    if out.exists() and out.samefile(path):
        raise CadError(f"{out} is the checkpoint itself; give another name, so that the original stays")


def bake_checkpoint(model: str, edit: Edit, out: Path) -> None:
    """Write the single-file checkpoint `model` (or "sandbox") to `out` with `edit` applied.

    Names, dtypes, metadata and all other weights stay as they are. Raises CadError, with nothing written, when the edit does
    not fit, when `out` is the checkpoint itself, or when `model` is a diffusers folder.
    """
    path = _source(model)
    check_bake(model, out)
    check_fits(edit, checkpoint_shapes(model))
    metadata = CheckpointFile(path).metadata
    tensors = load_file(path)
    for name, layer in edit.layers.items():
        tensors[PREFIX + name] = edited_weight(tensors[PREFIX + name], layer)
    with written_whole(out) as temporary:
        save_file(tensors, temporary, metadata=metadata)
