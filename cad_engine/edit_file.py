"""Edit files: a few hundred kilobytes that turn one checkpoint's behaviour into another's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .edit import Edit, LayerEdit
from .errors import CadError, shown
from .files import check_tensor, read, write

KIND = "edit"
MAX_SIDE = 1 << 20  # no layer of a known model is longer than 20480
MAX_WEIGHTS_IN_LAYER = 1 << 31


def save_edit(path: Path, edit: Edit) -> None:
    """Write `edit` to `path` (safetensors). Raises CadError when the place cannot be written."""
    tensors: dict[str, Tensor] = {}
    shapes: dict[str, list[int]] = {}
    for name, layer in edit.layers.items():
        shapes[name] = [layer.out_features, layer.in_features]
        tensors[f"{name}:index"] = layer.index.to(torch.int32)
        if layer.factor is not None:
            tensors[f"{name}:factor"] = layer.factor.float()
    write(path, KIND, tensors, {"info": edit.info, "shapes": shapes})


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
    shapes = checked_shapes(path, metadata.get("shapes"))
    info = metadata.get("info")
    if not isinstance(info, dict):
        raise CadError(f"{path} has damaged metadata: no 'info' object")
    known = {f"{name}:{part}" for name in shapes for part in ("index", "factor")}
    unknown = sorted(tensors.keys() - known)
    if unknown:
        raise CadError(f"{path} has a tensor that belongs to no layer of it: {shown(unknown[0])}; the file is damaged")
    layers = {}
    for name, (rows, columns) in shapes.items():
        index = check_tensor(path, f"{name}:index", tensors.get(f"{name}:index"), torch.int32, (None,)).long()
        check_positions(path, name, index, rows * columns)
        factor = tensors.get(f"{name}:factor")
        if factor is not None:
            factor = check_tensor(path, f"{name}:factor", factor, torch.float32, (len(index),))
        layers[name] = LayerEdit(rows, columns, index, factor)
    return Edit(layers, info)


def check_positions(path: Path, name: str, index: Tensor, size: int) -> None:
    """Raise CadError unless `index` (int64) ascends, names nothing twice and stays inside a matrix of `size` weights."""
    if len(index) and (int(index[0]) < 0 or int(index[-1]) >= size or bool((index.diff() <= 0).any())):
        raise CadError(f"{path}: positions of {shown(name)} must ascend within 0..{size - 1}; the file is damaged")
