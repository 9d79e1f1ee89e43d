"""Baking: a checkpoint written again with an edit in its weights, everything else bit for bit as it was."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file, save_file

from .checkpoints.detect import SUPPORTED, UNET_PREFIXES
from .checkpoints.load import load_model
from .checkpoints.names import MODEL_PREFIX
from .checkpoints.reader import CheckpointFile
from .edit import Edit, check_fits, edited_weight
from .errors import CadError
from .files import written_whole
from .fingerprint import fingerprint, weights_fingerprint
from .sandbox.checkpoint import SANDBOX_FILE


def _source(model: str) -> Path:
    return SANDBOX_FILE if model == "sandbox" else Path(model)


def _names_in_file(file: CheckpointFile) -> dict[str, str]:
    """Names that edits use -> names in the file, of all weights of its UNet."""
    prefix = next((prefix for prefix in UNET_PREFIXES if f"{prefix}input_blocks.0.0.weight" in file.shapes), None)
    if prefix is None:
        raise CadError(f"{file.path} is no single-file Stable Diffusion checkpoint; supported are {SUPPORTED}")
    return {MODEL_PREFIX + name.removeprefix(prefix): name for name in file.shapes if name.startswith(prefix)}


def checkpoint_shapes(model: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the UNet's weights by the names that edits use, without loading a single-file checkpoint.

    Raises CadError when `model` is no model that can be read.
    """
    path = _source(model)
    if path.is_dir():
        return {name: tuple(module.weight.shape) for name, module in load_model(model).layers.items()}
    file = CheckpointFile(path)
    return {name: file.shapes[in_file] for name, in_file in _names_in_file(file).items()}


def checkpoint_fingerprint(model: str) -> str:
    """The fingerprint of the model's linear layers, which are the matrices among its weights."""
    path = _source(model)
    if path.is_dir():
        return fingerprint(load_model(model))
    file = CheckpointFile(path)
    names = _names_in_file(file)
    linear = [name for name, in_file in names.items() if len(file.shapes[in_file]) == 2]
    return weights_fingerprint(linear, lambda name: file.tensor(names[name], file.shapes[names[name]]))


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
    file = CheckpointFile(path)
    names, tensors = _names_in_file(file), load_file(path)
    for name, layer in edit.layers.items():
        tensors[names[name]] = edited_weight(tensors[names[name]], layer)
    with written_whole(out) as temporary:
        save_file(tensors, temporary, metadata=file.metadata)
