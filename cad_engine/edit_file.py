"""Edit files: a few hundred kilobytes that turn one checkpoint's behaviour into another's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .edit import Edit, LayerEdit, combine
from .errors import CadError, shown
from .files import check_tensor, read, write

KIND = "edit"
MAX_SIDE = 1 << 20  # no layer of a known model is longer than 20480
MAX_WEIGHTS_IN_LAYER = 1 << 31


def save_edit(path: Path, edit: Edit) -> None:
    """Write `edit` to `path` (safetensors), a combined one part by part. Raises CadError when the place cannot be written."""
    if edit.parts:
        tensors: dict[str, Tensor] = {}
        for number, part in enumerate(edit.parts, start=1):
            tensors |= _tensors(part, _prefix(number))
        write(path, KIND, tensors, {"parts": [_described(part) for part in edit.parts]})
    else:
        write(path, KIND, _tensors(edit, ""), _described(edit))


def _prefix(number: int) -> str:
    """What the names of a part's tensors begin with."""
    return f"{number}/"


def _tensors(edit: Edit, prefix: str) -> dict[str, Tensor]:
    tensors: dict[str, Tensor] = {}
    for name, layer in edit.layers.items():
        tensors[f"{prefix}{name}:index"] = layer.index.to(torch.int32)
        if layer.factor is not None:
            tensors[f"{prefix}{name}:factor"] = layer.factor.float()
    return tensors


def _described(edit: Edit) -> dict[str, Any]:
    return {"info": edit.info, "shapes": {name: list(layer.shape) for name, layer in edit.layers.items()}}


def checked_shapes(path: Path, shapes: Any) -> dict[str, tuple[int, int]]:
    """The validated "shapes" entry of a file's metadata: weight name -> (out_features, in_features)."""
    if not isinstance(shapes, dict) or not shapes:
        raise CadError(f"{path} names no layers; the file is damaged or was made by something else")
    result = {}
    for name, shape in shapes.items():
        valid = isinstance(shape, list) and len(shape) == 2 and all(type(side) is int and 0 < side <= MAX_SIDE for side in shape)
        if not valid or shape[0] * shape[1] >= MAX_WEIGHTS_IN_LAYER:
            raise CadError(f"{path}: layer {shown(name)} has the shape {str(shape)[:100]}, expected two positive sides")
        result[name] = (shape[0], shape[1])
    return result


def load_edit(path: Path) -> Edit:
    """Read and check an edit. Raises CadError for anything that is not a whole, sane edit file (see files.read)."""
    path = Path(path)
    tensors, metadata = read(path, KIND)
    if "parts" not in metadata:
        edit = _edit(path, metadata, tensors, "")
    else:
        described = metadata["parts"]
        if not isinstance(described, list) or len(described) < 2 or not all(isinstance(part, dict) for part in described):
            raise CadError(f"{path} has damaged metadata: 'parts' must be a list of two or more objects")
        parts = [_edit(path, part, tensors, _prefix(number)) for number, part in enumerate(described, start=1)]
        try:
            edit = combine([(part, 1.0) for part in parts])
        except CadError as error:
            raise CadError(f"{path}: {error}") from error
    if tensors:
        raise CadError(f"{path} has a tensor that belongs to no layer of it: {shown(min(tensors))}; the file is damaged")
    return edit


def _edit(path: Path, described: dict[str, Any], tensors: dict[str, Tensor], prefix: str) -> Edit:
    """The edit that `described` says has its tensors under `prefix`; they are taken out of `tensors`."""
    shapes = checked_shapes(path, described.get("shapes"))
    info = described.get("info")
    if not isinstance(info, dict):
        raise CadError(f"{path} has damaged metadata: no 'info' object")
    layers = {}
    for name, (rows, columns) in shapes.items():
        stem = prefix + name
        index = check_tensor(path, f"{stem}:index", tensors.pop(f"{stem}:index", None), torch.int32, (None,)).long()
        check_positions(path, stem, index, rows * columns)
        factor = tensors.pop(f"{stem}:factor", None)
        if factor is not None:
            factor = check_tensor(path, f"{stem}:factor", factor, torch.float32, (len(index),))
        layers[name] = LayerEdit(rows, columns, index, factor)
    return Edit(layers, info)


def check_positions(path: Path, name: str, index: Tensor, size: int) -> None:
    """Raise CadError unless `index` (int64) ascends, names nothing twice and stays inside a matrix of `size` weights."""
    if len(index) and (int(index[0]) < 0 or int(index[-1]) >= size or bool((index.diff() <= 0).any())):
        raise CadError(f"{path}: positions of {shown(name)} must ascend within 0..{size - 1}; the file is damaged")
