"""cad erase and cad amplify: from an attribution to an edit file, and on request to a baked checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import Json, Model, check_output, show, warn

Attribution = Annotated[Path, typer.Argument(metavar="ATTRIBUTION", help="A file that cad attribute wrote.")]
Ratio = Annotated[
    float | None,
    typer.Option(
        help="Part of the weights to take: 0.001 is the paper's for objects, 0.0005 for nudity. Attributions made in rounds need none."
    ),
]
Select = Annotated[
    str | None,
    typer.Option(
        help="row (the paper's), row_min1 (at least one a row), layer or global; units have the last two. Default: row, for units global."
    ),
]
UnitOption = Annotated[
    str,
    typer.Option(help="What is taken out: weight, or whole neurons (of ff), heads (of attention) or layers; then --ratio is their part."),
]
Strength = Annotated[float, typer.Option(help="0 changes nothing, 1 sets the weights to zero, beyond 1 turns them round.")]
Out = Annotated[Path, typer.Option(help="The edit file to write (.safetensors).")]
Bake = Annotated[Path | None, typer.Option(help="Also write MODEL with the edit in it (single-file checkpoints only).")]


def erase(
    model: Model,
    attribution: Attribution,
    out: Out,
    ratio: Ratio = None,
    select: Select = None,
    unit: UnitOption = "weight",
    strength: Strength = 1.0,
    bake: Bake = None,
    json: Json = False,
) -> None:
    """Make the edit that suppresses the concept of ATTRIBUTION in MODEL."""
    _make("erase", model, attribution, ratio, select, unit, strength, out, bake, json)


def amplify(
    model: Model,
    attribution: Attribution,
    out: Out,
    ratio: Ratio = None,
    select: Select = None,
    unit: UnitOption = "weight",
    strength: Strength = 1.0,
    bake: Bake = None,
    json: Json = False,
) -> None:
    """Make the edit that strengthens the concept of ATTRIBUTION in MODEL."""
    _make("amplify", model, attribution, ratio, select, unit, strength, out, bake, json)


def _make(
    objective: str,
    model: str,
    attribution: Path,
    ratio: float | None,
    select: str | None,
    unit: str,
    strength: float,
    out: Path,
    bake: Path | None,
    as_json: bool,
) -> None:
    import math

    from ..attribution_file import load_attribution
    from ..bake import bake_checkpoint, check_bake, checkpoint_fingerprint, checkpoint_shapes
    from ..edit import check_fits, with_strength
    from ..edit_file import save_edit
    from ..erasure import edit_from_attribution
    from ..errors import CadError
    from ..fingerprint import mismatch
    from ..selection import check_ratio
    from ..units import check_unit

    check_unit(unit)
    if ratio is not None:
        check_ratio(ratio)
    if not math.isfinite(strength) or not 0 <= strength <= 10:
        raise CadError(f"strength must be between 0 and 10, got {strength:g}")
    check_output(out, model, attribution, bake)
    if bake is not None:
        check_output(bake, attribution)
    found = load_attribution(attribution)
    if found.objective != objective:
        raise CadError(f"{attribution} was made to {found.objective}, not to {objective}; use cad {found.objective} or attribute again")
    select = select or ("row" if unit == "weight" else "global")
    edit = edit_from_attribution(found, ratio, select, unit=unit)  # type: ignore[arg-type]
    edit = with_strength(edit, strength)
    check_fits(edit, checkpoint_shapes(model))
    if bake is not None:
        check_bake(model, bake)
    warning = mismatch(found.info, checkpoint_fingerprint(model))
    if warning:
        warn(f"{attribution} was {warning}")
    save_edit(out, edit)
    if bake is not None:
        bake_checkpoint(model, edit, bake)
    result = {
        "file": str(out),
        "concept": found.info.get("concept"),
        "weights_taken": len(edit),
        "weights_total": found.weights_total,
        "unit": unit,
        "units_taken": edit.info.get("units"),
        "units_total": edit.info.get("units_total"),
        "ratio": ratio,
        "selection": select,
        "strength": strength,
        "warning": warning,
        "baked": None if bake is None else str(bake),
    }
    share = len(edit) / found.weights_total
    units = "" if unit == "weight" else f"{edit.info['units']:,} of {edit.info['units_total']:,} {unit}s: "
    text = f"took {units}{len(edit):,} of {found.weights_total:,} weights ({share:.3%}) in {len(edit.layers)} layers; wrote {out}"
    show(result, as_json, text + (f" and {bake}" if bake else ""))
