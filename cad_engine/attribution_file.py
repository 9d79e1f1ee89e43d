"""Attribution files: what a slider, a viewer and an edit need, tens of megabytes for SD 1.x, under 200 for SDXL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .attribution import SCORES, Attribution
from .edit_file import check_positions, checked_shapes
from .errors import CadError, shown
from .files import check_tensor, read, write
from .reduction import HISTOGRAM_BINS, LayerScores
from .units import columns_are

KIND = "attribution"
PARTS = ("column", "row_count", "score", "row_mass", "timestep_mass", "histogram", "complete_above")
SOLVED = "factor"
"""One part more, of every layer or none: with it, the file carries its own edit."""
COLUMNS = "column_sum"
"""One part more, of all layers whose columns are neurons or heads, or of none: with it, units can be ranked."""


def save_attribution(path: Path, attribution: Attribution) -> None:
    """Write `attribution` to `path` (safetensors). Raises CadError when the place cannot be written."""
    tensors: dict[str, Tensor] = {}
    for name, layer in attribution.layers.items():
        # A column and a count by row take half the space of a flattened position.
        rows = torch.bincount(layer.index // layer.in_features, minlength=layer.out_features)
        tensors |= {
            f"{name}:column": (layer.index % layer.in_features).to(torch.uint16 if layer.in_features <= 65536 else torch.int32),
            f"{name}:row_count": rows.to(torch.int32),
            f"{name}:score": layer.score.float(),
            f"{name}:row_mass": layer.row_mass.float(),
            f"{name}:timestep_mass": layer.timestep_mass.float(),
            f"{name}:histogram": layer.histogram.to(torch.int32),
            f"{name}:complete_above": torch.tensor([layer.complete_above], dtype=torch.float32),
        }
        if layer.factor is not None:
            tensors[f"{name}:{SOLVED}"] = layer.factor.float()
        if layer.column_sum is not None:
            tensors[f"{name}:{COLUMNS}"] = layer.column_sum.float()
    metadata: dict[str, Any] = {
        "info": attribution.info,
        "shapes": {name: [layer.out_features, layer.in_features] for name, layer in attribution.layers.items()},
        "timesteps": attribution.timesteps,
        "keep_ratio": attribution.keep_ratio,
        "heads": {name: layer.heads for name, layer in attribution.layers.items() if layer.heads is not None},
    }
    write(path, KIND, tensors, metadata)


def load_attribution(path: Path) -> Attribution:
    """Read and check an attribution. Raises CadError for anything that is not a whole, sane attribution file."""
    path = Path(path)
    tensors, metadata = read(path, KIND)
    shapes = checked_shapes(path, metadata.get("shapes"))
    info, timesteps, keep_ratio = metadata.get("info"), metadata.get("timesteps"), metadata.get("keep_ratio")
    if not isinstance(info, dict) or info.get("objective") not in ("erase", "amplify"):
        raise CadError(f"{path} has damaged metadata: its objective must be 'erase' or 'amplify'")
    if info.get("score", SCORES[0]) not in SCORES:
        raise CadError(f"{path} has damaged metadata: its score must be one of {', '.join(SCORES)}, got {shown(str(info['score']))!r}")
    if not isinstance(timesteps, list) or not timesteps or any(type(t) is not int or t < 0 for t in timesteps):
        raise CadError(f"{path} has damaged metadata: 'timesteps' must be a list of timesteps, got {str(timesteps)[:100]}")
    if not isinstance(keep_ratio, (int, float)) or not 0 < keep_ratio <= 1:
        raise CadError(f"{path} has damaged metadata: 'keep_ratio' must be in (0, 1], got {str(keep_ratio)[:100]}")
    heads = _checked_heads(path, metadata.get("heads", {}), shapes)
    known = {f"{name}:{part}" for name in shapes for part in (*PARTS, SOLVED)} | {
        f"{name}:{COLUMNS}" for name in filter(columns_are, shapes)
    }
    unknown = sorted(tensors.keys() - known)
    if unknown:
        raise CadError(f"{path} has a tensor that belongs to no layer of it: {shown(unknown[0])}; the file is damaged")
    layers = {name: _load_layer(path, name, shape, tensors, len(timesteps), heads.get(name)) for name, shape in shapes.items()}
    if any((layer.factor is not None) != (info.get("score") == SCORES[2]) for layer in layers.values()):
        raise CadError(f"{path} is damaged: factors must be there in every layer when its score is {SCORES[2]!r}, and in none otherwise")
    summed = {layer.column_sum is not None for name, layer in layers.items() if columns_are(name)}
    if len(summed) > 1 or (True in summed and info.get("score", SCORES[0]) != SCORES[0]):
        raise CadError(
            f"{path} is damaged: sums by column must be there in all layers of neurons and heads or in none, and in none unless its score "
            f"is {SCORES[0]!r}"
        )
    return Attribution(layers, timesteps, float(keep_ratio), info)


def _checked_heads(path: Path, heads: Any, shapes: dict[str, tuple[int, int]]) -> dict[str, int]:
    """The validated "heads" entry of the metadata: weight name -> number of heads that share its columns out evenly."""
    if not isinstance(heads, dict):
        raise CadError(f"{path} has damaged metadata: 'heads' must be an object, got {str(heads)[:100]}")
    for name, count in heads.items():
        if name not in shapes or columns_are(name) != "head":
            raise CadError(f"{path} has damaged metadata: 'heads' names {shown(name)}, which is no attention's output of it")
        if type(count) is not int or not 1 <= count <= shapes[name][1] or shapes[name][1] % count:
            columns = shapes[name][1]
            raise CadError(f"{path} has damaged metadata: {str(count)[:20]} heads of {shown(name)} cannot share its {columns} columns")
    return heads


def _load_layer(
    path: Path, name: str, shape: tuple[int, int], tensors: dict[str, Tensor], timesteps: int, heads: int | None
) -> LayerScores:
    rows, columns = shape

    def part(kind: str, dtype: torch.dtype, expected: tuple[int | None, ...]) -> Tensor:
        return check_tensor(path, f"{name}:{kind}", tensors.get(f"{name}:{kind}"), dtype, expected)

    row_count = part("row_count", torch.int32, (rows,)).long()
    if bool((row_count < 0).any()) or bool((row_count > columns).any()):
        raise CadError(f"{path}: row counts of {shown(name)} must be within 0..{columns}; the file is damaged")
    total = int(row_count.sum())
    column = part("column", torch.uint16 if columns <= 65536 else torch.int32, (total,)).long()
    if total and (int(column.min()) < 0 or int(column.max()) >= columns):
        raise CadError(f"{path}: columns of {shown(name)} must be within 0..{columns - 1}; the file is damaged")
    index = torch.repeat_interleave(torch.arange(rows), row_count) * columns + column
    check_positions(path, name, index, rows * columns)
    histogram = part("histogram", torch.int32, (2, HISTOGRAM_BINS))
    if bool((histogram < 0).any()):
        raise CadError(f"{path}: the histogram of {shown(name)} has a negative count; the file is damaged")
    return LayerScores(
        out_features=rows,
        in_features=columns,
        index=index,
        score=part("score", torch.float32, (total,)),
        row_mass=part("row_mass", torch.float32, (rows, 2)),
        timestep_mass=part("timestep_mass", torch.float32, (timesteps, 2)),
        histogram=histogram,
        complete_above=float(part("complete_above", torch.float32, (1,))),
        factor=part(SOLVED, torch.float32, (total,)) if f"{name}:{SOLVED}" in tensors else None,
        column_sum=part(COLUMNS, torch.float32, (columns,)) if f"{name}:{COLUMNS}" in tensors else None,
        heads=heads,
    )
