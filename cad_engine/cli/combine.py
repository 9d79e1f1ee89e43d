"""cad combine: several edits in one file, and one of them taken out again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import Json, check_output, file_and_number, show, warn


def combine(
    edit: Annotated[list[str], typer.Argument(metavar="EDIT...", help="Edit files, FILE or FILE:STRENGTH, combined ones among them.")],
    out: Annotated[Path, typer.Option(help="The edit file to write (.safetensors).")],
    without: Annotated[
        list[str],
        typer.Option(help="Leave this part out: its concept or number, as cad inspect shows them; may be given several times."),
    ] = [],  # noqa: B006 (typer's way)
    json: Json = False,
) -> None:
    """Write one edit file that does what all EDITs do together, and remembers each, so that it can be taken out again exactly."""
    from ..edit import combine as combined
    from ..edit import single
    from ..edit import without as left_over
    from ..edit_file import load_edit, save_edit
    from ..errors import shown

    files = [file_and_number(text) for text in edit]
    check_output(out, *(path for path, _ in files))
    loaded = [(load_edit(path), strength) for path, strength in files]
    result = combined(loaded)
    for part in without:
        result = left_over(result, part)
    made_from = {str(one.info["fingerprint"]) for one in single(result) if "fingerprint" in one.info}
    warning = "these edits were made from different weights; fine for fine-tunes of the same base" if len(made_from) > 1 else None
    if warning:
        warn(warning)
    save_edit(out, result)
    parts = [
        {"concept": one.info.get("concept"), "strength": one.info.get("strength", 1), "weights_taken": len(one)} for one in single(result)
    ]
    lines = [f"{len(result):,} weights in {len(result.layers)} layers, of {len(parts)} {'part' if len(parts) == 1 else 'parts'}:"]
    lines += [
        f"  {number} {shown(part['concept'], 60)!r}: {part['weights_taken']:,} weights, strength {shown(part['strength'], 20)}"
        for number, part in enumerate(parts, start=1)
    ]
    lines.append(f"wrote {out}; next: cad generate MODEL --edit {out} --prompt ... --out DIR")
    show({"file": str(out), "weights_taken": len(result), "parts": parts, "warning": warning}, json, "\n".join(lines))
